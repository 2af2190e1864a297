package cluster

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"lbcluster/fsm"
)

// maxReaders bounds the connections of readers at a time; maxOwn the addresses that
// one may ask for.
const (
	maxReaders = 512
	maxOwn     = 256
)

// readerLimit bounds one request of a reader.
const readerLimit = 5 * time.Second

// ReaderIdentity is what a real server has to read its VIPs from the cluster: a
// certificate that no member takes for a member's. It holds a private key.
type ReaderIdentity struct {
	Cluster string `json:"cluster"`
	CA      []byte `json:"ca"`   // PEM
	Cert    []byte `json:"cert"` // PEM
	Key     []byte `json:"key"`  // PEM
}

// MemberAddr is where a member answers.
type MemberAddr struct {
	ID   fsm.MemberID   `json:"id"`
	Addr netip.AddrPort `json:"addr"`
}

// ReaderAnswer is what a member tells a reader.
type ReaderAnswer struct {
	Revision fsm.Revision `json:"revision"`
	Members  []MemberAddr `json:"members"`
	VIPs     []netip.Addr `json:"vips"` // sorted
}

func memberAddrs(ms []fsm.Member) []MemberAddr {
	out := make([]MemberAddr, 0, len(ms))
	for _, m := range ms {
		out = append(out, MemberAddr{m.ID, m.Addr})
	}
	return out
}

// readerName is the name in every reader's certificate. No member's has it, whatever
// its id: see hostName.
func readerName(cluster string) string { return "reader." + cluster + ".lbcluster-reader" }

// signReader makes a reader's certificate, good for nothing but reading.
func (a *authority) signReader(name, cluster string, pub crypto.PublicKey) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "reader:" + name, Organization: []string{cluster}},
		DNSNames:     []string{readerName(cluster)},
		NotBefore:    certNotBefore,
		NotAfter:     certNotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of reader %s: %w", name, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// isReader checks a verified client certificate.
func isReader(cs tls.ConnectionState, cluster string) error {
	if len(cs.VerifiedChains) == 0 {
		return errors.New("no verified certificate")
	}
	return cs.PeerCertificates[0].VerifyHostname(readerName(cluster))
}

// enrolReader gives a reader its certificate, and none of the cluster's secrets.
// An uncertain use of the token is not tried again: it could be its last.
func (s *session) enrolReader(ctx context.Context, req enrolRequest) (*enrolAnswer, error) {
	pub, err := parseRequest(req.CSR)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", fsm.ErrInvalid, err)
	}
	res, err := s.n.Propose(ctx, fsm.Command{Enrol: &fsm.Enrol{
		TokenHash: hashSecret(req.Secret), Request: req.Request, Name: req.Name, Role: fsm.Reader,
	}})
	if err != nil {
		return nil, err
	}
	cert, err := s.creds.ca.signReader(req.Name, s.id.Cluster, pub)
	if err != nil {
		return nil, err
	}
	caPEM, _, err := s.creds.ca.pem()
	if err != nil {
		return nil, err
	}
	if err := s.n.WaitRevision(ctx, res.Revision); err != nil {
		return nil, err
	}
	return &enrolAnswer{Cluster: s.id.Cluster, Cert: cert, CA: caPEM, Members: s.n.Table().Members}, nil
}

// readerHandler is all that readers may ask: which VIPs belong on the host with
// these addresses.
func (s *session) readerHandler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/vips", func(w http.ResponseWriter, r *http.Request) {
		var own []netip.Addr
		for _, text := range r.URL.Query()["addr"] {
			a, err := netip.ParseAddr(text)
			if err != nil || len(own) == maxOwn {
				writeFault(w, fmt.Errorf("%w: up to %d addresses can be asked for, and %q must be one", fsm.ErrInvalid, maxOwn, text))
				return
			}
			own = append(own, a.Unmap())
		}
		t := s.n.Table()
		writeJSON(w, http.StatusOK, ReaderAnswer{Revision: t.Revision, Members: memberAddrs(t.Members), VIPs: t.VIPsServedBy(own)})
	})
	return m
}

// EnrolReader gets a reader's identity from the cluster that a token is for. addr:
// "HOST:PORT", or "" for the token's addresses. Errors are those of [Node.Join].
func EnrolReader(ctx context.Context, addr, token, name string) (ReaderIdentity, []MemberAddr, error) {
	var id ReaderIdentity
	t, err := parseToken(token)
	if err != nil {
		return id, nil, err
	}
	hosts, err := joinHosts(addr, t)
	if err != nil {
		return id, nil, err
	}
	_, keyPEM, err := newMemberKey()
	if err != nil {
		return id, nil, err
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return id, nil, fmt.Errorf("drawing a request id: %w", err)
	}
	j := &joining{Request: hex.EncodeToString(raw[:]), Key: keyPEM}
	a, err := enrolAt(ctx, hosts, t, j, enrolRequest{Name: name, Role: fsm.Reader})
	if err != nil {
		return id, nil, err
	}
	id = ReaderIdentity{Cluster: a.Cluster, CA: a.CA, Cert: a.Cert, Key: keyPEM}
	if _, err := id.credentials(); err != nil {
		return id, nil, fmt.Errorf("the answer cannot be used: %w", err)
	}
	return id, memberAddrs(a.Members), nil
}

func (id ReaderIdentity) credentials() (*tls.Config, error) {
	leaf, err := tls.X509KeyPair(id.Cert, id.Key)
	if err != nil {
		return nil, fmt.Errorf("the reader's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(id.CA) {
		return nil, errors.New("the CA certificate is not PEM")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpnReader}, RootCAs: pool, Certificates: []tls.Certificate{leaf},
	}, nil
}

// Reader asks members for VIPs. Not for concurrent use.
type Reader struct {
	cluster string
	tls     *tls.Config
	known   ReaderAnswer // the newest that was taken
	first   fsm.MemberID // who answered last
	clients map[MemberAddr]*http.Client
}

// NewReader makes a Reader that starts with what an earlier one knew.
func NewReader(id ReaderIdentity, known ReaderAnswer) (*Reader, error) {
	cfg, err := id.credentials()
	if err != nil {
		return nil, err
	}
	return &Reader{cluster: id.Cluster, tls: cfg, known: known, clients: make(map[MemberAddr]*http.Client)}, nil
}

// VIPs asks which VIPs belong on the host with the addresses own. A member whose
// table is older than one seen before, because it is cut off, is not believed,
// unless all members answer and none has a newer one: then the table was set back.
func (r *Reader) VIPs(ctx context.Context, own []netip.Addr) (ReaderAnswer, error) {
	members := slices.Clone(r.known.Members)
	slices.SortStableFunc(members, func(a, b MemberAddr) int {
		switch r.first {
		case a.ID:
			return -1
		case b.ID:
			return 1
		}
		return 0
	})
	var errs []error
	var old []ReaderAnswer
	for _, m := range members {
		a, err := r.ask(ctx, m, own)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("asking %s at %s: %w", m.ID, m.Addr, err))
		case a.Revision < r.known.Revision:
			old = append(old, a)
			errs = append(errs, fmt.Errorf("%s at %s has the table of revision %d, older than %d", m.ID, m.Addr, a.Revision, r.known.Revision))
		default:
			r.first = m.ID
			return r.take(a), nil
		}
	}
	if len(old) == len(members) && len(old) > 0 {
		newest := slices.MaxFunc(old, func(a, b ReaderAnswer) int { return int(a.Revision) - int(b.Revision) })
		return r.take(newest), nil
	}
	if len(members) == 0 {
		errs = append(errs, errors.New("no member is known"))
	}
	return ReaderAnswer{}, errors.Join(errs...)
}

func (r *Reader) take(a ReaderAnswer) ReaderAnswer {
	r.known = a
	for m, c := range r.clients {
		if !slices.Contains(a.Members, m) {
			c.CloseIdleConnections()
			delete(r.clients, m)
		}
	}
	return a
}

func (r *Reader) ask(ctx context.Context, m MemberAddr, own []netip.Addr) (ReaderAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, readerLimit)
	defer cancel()
	var a ReaderAnswer
	query := url.Values{}
	for _, addr := range own {
		query.Add("addr", addr.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(m.ID)+"/v1/vips?"+query.Encode(), nil)
	if err != nil {
		return a, err
	}
	resp, err := r.client(m).Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	err = readAnswer(resp, &a)
	if err == nil && len(a.Members) == 0 {
		err = errors.New("it knows no members: it is in no cluster any more")
	}
	return a, err
}

// client is the HTTP client for one member: its connection is TLS with a name of
// the protocol that net/http does not know.
func (r *Reader) client(m MemberAddr) *http.Client {
	if c, ok := r.clients[m]; ok {
		return c
	}
	cfg := r.tls.Clone()
	cfg.ServerName = hostName(m.ID, r.cluster)
	c := &http.Client{Transport: &http.Transport{
		IdleConnTimeout: 30 * time.Second,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", m.Addr.String())
		},
	}}
	r.clients[m] = c
	return c
}
