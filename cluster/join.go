package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"lbcluster/fsm"
)

// joining is joining.json: a join that was begun. With the same request a
// joiner that lost the answer gets the same id, also after a restart.
type joining struct {
	Token   string `json:"token"` // hash of the secret
	Request string `json:"request"`
	Key     []byte `json:"key"` // PEM
}

// Join enters the cluster that a token is for. addr overrides the token's
// address: "HOST:PORT", or "" for the token's. It returns when this member is
// in the table and runs; Run must be running. fsm.ErrDenied: the token is
// unknown, used up, expired or for another role; ErrWrongCA: whoever answered
// is of another cluster.
func (n *Node) Join(ctx context.Context, addr, token string, role fsm.Role) error {
	n.enrolling.Lock()
	defer n.enrolling.Unlock()
	if _, ok := n.Identity(); ok {
		return ErrEnrolled
	}
	t, err := parseToken(token)
	if err != nil {
		return err
	}
	hosts, err := joinHosts(addr, t)
	if err != nil {
		return err
	}
	j, err := n.beginJoin(hashSecret(t.Secret))
	if err != nil {
		return err
	}
	answer, err := enrolAt(ctx, hosts, t, j, enrolRequest{Name: n.cfg.Name, Role: role, Addr: n.cfg.Addr, Reads: n.reads})
	if err != nil {
		return err
	}
	if err := n.adopt(answer, j, role); err != nil {
		return err
	}
	err = n.board.until(ctx, func(t *fsm.Table) bool {
		_, ok := findMember(t.Members, answer.ID)
		return ok
	})
	if err != nil {
		return fmt.Errorf("enrolled as %s, but the table has not arrived in time; the daemon goes on trying: %w", answer.ID, err)
	}
	return nil
}

func joinHosts(addr string, t joinToken) ([]string, error) {
	if addr != "" {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("the address to join at, %q, is not HOST:PORT: %w", addr, err)
		}
		return []string{addr}, nil
	}
	var hosts []string
	for _, a := range t.Addrs {
		hosts = append(hosts, a.String())
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("%w: it carries no address; give one", ErrToken)
	}
	return hosts, nil
}

// beginJoin reads or makes the request and the key of a join.
func (n *Node) beginJoin(tokenHash string) (*joining, error) {
	path := n.dir.path(fileJoining)
	if b, err := os.ReadFile(path); err == nil {
		var j joining
		if json.Unmarshal(b, &j) == nil && j.Token == tokenHash && j.Request != "" {
			if _, err := parseKey(j.Key); err == nil {
				return &j, nil
			}
		}
	}
	_, keyPEM, err := newMemberKey()
	if err != nil {
		return nil, err
	}
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("drawing a request id: %w", err)
	}
	j := &joining{Token: tokenHash, Request: hex.EncodeToString(raw[:]), Key: keyPEM}
	b, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("beginning to join: %w", err)
	}
	return j, writeFile(path, b)
}

// enrolAt asks each address in turn; who says who asks.
func enrolAt(ctx context.Context, hosts []string, t joinToken, j *joining, who enrolRequest) (*enrolAnswer, error) {
	key, err := parseKey(j.Key)
	if err != nil {
		return nil, fmt.Errorf("the joining key: %w", err)
	}
	csr, err := newRequest(key)
	if err != nil {
		return nil, err
	}
	who.Secret, who.Request, who.CSR = t.Secret, j.Request, csr
	body, err := json.Marshal(who)
	if err != nil {
		return nil, fmt.Errorf("asking to join: %w", err)
	}
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		TLSClientConfig: pinned(t.CA), TLSHandshakeTimeout: handshakeLimit, DisableKeepAlives: true,
	}}
	var errs []error
	for _, host := range hosts {
		answer, err := enrolOnce(ctx, client, host, body)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, fmt.Errorf("joining at %s: %w", host, err))
	}
	return nil, errors.Join(errs...)
}

func enrolOnce(ctx context.Context, client *http.Client, host string, body []byte) (*enrolAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/v1/enrol", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a enrolAnswer
	if err := readAnswer(resp, &a); err != nil {
		return nil, err
	}
	return &a, nil
}

// adopt makes the answer this machine's identity.
func (n *Node) adopt(a *enrolAnswer, j *joining, role fsm.Role) error {
	id := &identityFile{
		ID: a.ID, Cluster: a.Cluster, Name: n.cfg.Name, Role: role, Addr: n.cfg.Addr, Epoch: a.Epoch,
		LeaseKey: a.LeaseKey, GossipKey: a.GossipKey, Members: a.Members,
	}
	if err := id.check(); err != nil {
		return fmt.Errorf("the answer cannot be used: %w", err)
	}
	if err := n.makeStore(id, nil); err != nil {
		return err
	}
	if err := n.dir.writeEnrolment(id, a.CA, a.CAKey, a.Cert, j.Key); err != nil {
		return err
	}
	if _, err := n.dir.credentials(); err != nil {
		return fmt.Errorf("the answer cannot be used: %w", errors.Join(err, os.Remove(n.dir.path(fileIdentity))))
	}
	if err := os.Remove(n.dir.path(fileJoining)); err != nil {
		n.log.Warn("removing the finished join request", "error", err)
	}
	n.setIdentity(id, true)
	return nil
}

// joinHandler is what joiners, who have no certificate yet, may ask.
func (s *session) joinHandler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/enrol", func(w http.ResponseWriter, r *http.Request) {
		if !s.joins.take(time.Now()) {
			w.Header().Set("Retry-After", "1")
			writeJSON(w, http.StatusTooManyRequests, fault{Code: "busy", Text: "too many requests to join; try again in a moment"})
			return
		}
		var req enrolRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			writeFault(w, fmt.Errorf("%w: the request to join cannot be read: %v", fsm.ErrInvalid, err))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.n.t.Propose)
		defer cancel()
		answer, err := s.enrol(ctx, req)
		if err != nil {
			s.log.Warn("a request to join was refused", "from", r.RemoteAddr, "name", req.Name, "error", err)
			writeFault(w, err)
			return
		}
		s.log.Info("enrolled", "id", answer.ID, "role", req.Role, "name", req.Name, "addr", req.Addr)
		writeJSON(w, http.StatusOK, answer)
	})
	return m
}

// enrol gives a joiner its id, through the log, and everything that a member
// has. Any member can: each holds the CA's key.
func (s *session) enrol(ctx context.Context, req enrolRequest) (*enrolAnswer, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	if req.Role == fsm.Reader {
		return s.enrolReader(ctx, req)
	}
	pub, err := parseRequest(req.CSR)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", fsm.ErrInvalid, err)
	}
	cmd := fsm.Command{Enrol: &fsm.Enrol{
		TokenHash: hashSecret(req.Secret), Request: req.Request, Name: req.Name, Role: req.Role, Addr: req.Addr,
		Reads: max(req.Reads, 1),
	}}
	res, err := s.n.Propose(ctx, cmd)
	// The request id makes a second attempt harmless.
	for errors.Is(err, ErrUncertain) && ctx.Err() == nil {
		res, err = s.n.Propose(ctx, cmd)
	}
	if err != nil {
		return nil, err
	}
	cert, err := s.creds.ca.sign(res.Member, s.id.Cluster, pub)
	if err != nil {
		return nil, err
	}
	caPEM, caKey, err := s.creds.ca.pem()
	if err != nil {
		return nil, err
	}
	if err := s.n.WaitRevision(ctx, res.Revision); err != nil {
		return nil, err
	}
	return &enrolAnswer{
		ID: res.Member, Cluster: s.id.Cluster, Epoch: s.id.Epoch, Cert: cert, CA: caPEM, CAKey: caKey,
		GossipKey: s.id.GossipKey, LeaseKey: s.id.LeaseKey, Members: s.n.Table().Members,
	}, nil
}

// NewToken makes a join token: good for ttl and so many uses, for one role or
// for any ("").
func (n *Node) NewToken(ctx context.Context, ttl time.Duration, uses int, role fsm.Role) (string, error) {
	s, err := n.current(ctx)
	if err != nil {
		return "", err
	}
	secret, err := newSecret()
	if err != nil {
		return "", err
	}
	now := time.Now()
	_, err = n.Propose(ctx, fsm.Command{At: now, AddToken: &fsm.Token{
		Hash: hashSecret(secret), Role: role, Uses: uses, Expires: now.Add(ttl),
	}})
	if err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	ca := s.creds.ca.hash()
	return joinToken{Addrs: s.tokenAddrs(), Secret: secret, CA: ca[:]}.String(), nil
}

// tokenAddrs lists where to join: here first, then up to two others.
func (s *session) tokenAddrs() []netip.AddrPort {
	addrs := []netip.AddrPort{s.id.Addr}
	for _, m := range s.n.Table().Members {
		if m.ID != s.id.ID && !m.Silent && len(addrs) < 3 {
			addrs = append(addrs, m.Addr)
		}
	}
	return addrs
}

// bucket limits how often something is done: a burst, then so many a second.
type bucket struct {
	mu          sync.Mutex
	burst, rate float64
	level       float64
	last        time.Time
}

func newBucket(burst, rate float64) *bucket { return &bucket{burst: burst, rate: rate, level: burst} }

func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.IsZero() {
		b.level = min(b.burst, b.level+b.rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}
