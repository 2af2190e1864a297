package cluster

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"lbcluster/fsm"
)

// Certificates do not expire: a member is locked out by the table, which all
// members share, and not by clocks, which may be wrong on a machine that has
// just booted. RFC 5280 section 4.1.2.5 gives the end date for that.
var (
	certNotBefore = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	certNotAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// authority is a cluster's CA with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(cluster string) (*authority, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the CA: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "lbcluster CA", Organization: []string{cluster}},
		NotBefore:             certNotBefore,
		NotAfter:              certNotAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		return nil, fmt.Errorf("making the CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the CA: %w", err)
	}
	return &authority{cert: cert, key: key}, nil
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

// hostName is the name in the certificate of a member: what a client demands.
func hostName(id fsm.MemberID, cluster string) string {
	return fmt.Sprintf("%s.%s.lbcluster", id, cluster)
}

// sign makes the certificate of member id for a public key.
func (a *authority) sign(id fsm.MemberID, cluster string, pub crypto.PublicKey) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: string(id), Organization: []string{cluster}},
		DNSNames:     []string{hostName(id, cluster)},
		NotBefore:    certNotBefore,
		NotAfter:     certNotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", id, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// hash names the CA in tokens.
func (a *authority) hash() [32]byte { return sha256.Sum256(a.cert.Raw) }

func (a *authority) pem() (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the CA's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseAuthority(certPEM, keyPEM []byte) (*authority, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, errors.New("the CA certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the CA certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	if pub, ok := key.Public().(ed25519.PublicKey); !ok || !pub.Equal(cert.PublicKey) {
		return nil, errors.New("the CA's key does not belong to its certificate")
	}
	return &authority{cert: cert, key: key}, nil
}

func parseKey(keyPEM []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("it cannot sign")
	}
	return signer, nil
}

// newMemberKey makes a member's key and its PEM.
func newMemberKey() (crypto.Signer, []byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the member's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("making the member's key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newRequest makes a certificate request: it proves to hold the key. The id
// is not in it, since the leader gives that.
func newRequest(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	return der, nil
}

// parseRequest returns the public key of a certificate request that is signed with it.
func parseRequest(der []byte) (crypto.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request: %w", err)
	}
	if _, ok := csr.PublicKey.(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("the certificate request has a %T, wanted an Ed25519 key", csr.PublicKey)
	}
	return csr.PublicKey, nil
}

// credentials is what a member needs for TLS.
type credentials struct {
	ca   *authority
	pool *x509.CertPool
	leaf tls.Certificate // with the CA behind it, which joiners compare with their token
}

func (f folder) credentials() (*credentials, error) {
	read := make(map[string][]byte)
	for _, name := range []string{fileCA, fileCAKey, fileCert, fileKey} {
		b, err := os.ReadFile(f.path(name))
		if err != nil {
			return nil, fmt.Errorf("reading the member's keys: %w", err)
		}
		read[name] = b
	}
	ca, err := parseAuthority(read[fileCA], read[fileCAKey])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(fileCA), err)
	}
	leaf, err := tls.X509KeyPair(append(read[fileCert], read[fileCA]...), read[fileKey])
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", f.path(fileCert), fileKey, err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: certNotBefore.Add(time.Hour)}); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(fileCert), err)
	}
	return &credentials{ca: ca, pool: pool, leaf: leaf}, nil
}

// memberOf returns the member id that a verified peer certificate names.
func memberOf(cs tls.ConnectionState, cluster string) (fsm.MemberID, error) {
	if len(cs.VerifiedChains) == 0 {
		return "", errors.New("no verified certificate")
	}
	leaf := cs.PeerCertificates[0]
	id := fsm.MemberID(leaf.Subject.CommonName)
	if id == "" || leaf.VerifyHostname(hostName(id, cluster)) != nil {
		return "", fmt.Errorf("the certificate of %q is not one of a member of this cluster", leaf.Subject.CommonName)
	}
	return id, nil
}

func certHashIs(c *x509.Certificate, hash []byte) bool {
	sum := sha256.Sum256(c.Raw)
	return string(sum[:]) == string(hash)
}
