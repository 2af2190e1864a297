package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// WebConfig is where and to whom the page is served over TLS.
type WebConfig struct {
	Listen           netip.AddrPort // zero: nowhere
	Certificate, Key string         // absolute paths of PEM files
	// TokenFile has the token, ClientCA the authorities of client certificates; one
	// of them is enough to be let in. Absolute; empty: not that way.
	TokenFile, ClientCA string
}

type webFile struct {
	Listen      string `yaml:"listen"`
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	TokenFile   string `yaml:"token_file"`
	ClientCA    string `yaml:"client_ca"`
}

func (f webFile) resolve() (WebConfig, error) {
	c := WebConfig{Certificate: f.Certificate, Key: f.Key, TokenFile: f.TokenFile, ClientCA: f.ClientCA}
	if f == (webFile{}) {
		return c, nil
	}
	var errs []error
	var err error
	if c.Listen, err = listenAddr(f.Listen); err != nil {
		errs = append(errs, fmt.Errorf("web: listen: %w", err))
	}
	for _, k := range []struct{ key, value string }{{"listen", f.Listen}, {"certificate", f.Certificate}, {"key", f.Key}} {
		if k.value == "" {
			errs = append(errs, fmt.Errorf("web: %s is missing", k.key))
		}
	}
	for _, k := range []struct{ key, path string }{
		{"certificate", f.Certificate}, {"key", f.Key}, {"token_file", f.TokenFile}, {"client_ca", f.ClientCA},
	} {
		if k.path != "" && !filepath.IsAbs(k.path) {
			errs = append(errs, fmt.Errorf("web: %s: %q is not an absolute path", k.key, k.path))
		}
	}
	if f.TokenFile == "" && f.ClientCA == "" {
		errs = append(errs, errors.New("web: it needs token_file or client_ca: what it shows is not for everybody"))
	}
	return c, errors.Join(errs...)
}

// readOnly are the requests that are answered over TLS; none of them changes
// anything, and none shows a password, which GET /v1/table does.
var readOnly = []string{
	"GET /{$}", "GET /app.js", "GET /plot.js", "GET /style.css", "GET /icon.svg",
	"GET /v1/version", "GET /v1/status", "GET /v1/events", "GET /v1/watch", "GET /metrics",
}

// openWeb reads the files that c names and returns what lets people in, and to what.
func openWeb(c WebConfig, all http.Handler) (http.Handler, *tls.Config, error) {
	certs := &certificates{cert: c.Certificate, key: c.Key}
	if _, err := certs.get(nil); err != nil {
		return nil, nil, err
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certs.get}
	var token string
	var err error
	if c.TokenFile != "" {
		if token, err = readToken(c.TokenFile); err != nil {
			return nil, nil, err
		}
	}
	if c.ClientCA != "" {
		if secure.ClientCAs, err = readCAs(c.ClientCA); err != nil {
			return nil, nil, err
		}
		secure.ClientAuth = tls.RequireAndVerifyClientCert
		if token != "" {
			secure.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	mux := http.NewServeMux()
	for _, pattern := range readOnly {
		mux.Handle(pattern, all)
	}
	return letIn(token, mux), secure, nil
}

// minToken is the least length of a token: what is guessed at 100 times a second must
// not be found.
const minToken = 16

func readToken(path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("the token in %s can be read by everybody on this machine: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken {
		return "", fmt.Errorf("the token in %s has fewer than %d characters; make one with: openssl rand -hex 24", path, minToken)
	}
	return token, nil
}

func readCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the authorities of clients: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return pool, nil
}

// wrongToken is how long a wrong token waits for its answer.
const wrongToken = 500 * time.Millisecond

// letIn answers who has a verified certificate, or the token as a bearer's or as the
// password of any user, which is how a browser asks for it. An empty token: nobody has
// it.
func letIn(token string, h http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			h.ServeHTTP(w, r)
			return
		}
		given := tokenIn(r)
		got := sha256.Sum256([]byte(given))
		if token != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			h.ServeHTTP(w, r)
			return
		}
		if given != "" {
			pause(r.Context(), wrongToken)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="lbcluster: any name, the token as password", charset="UTF-8"`)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(w, `{"status":401,"code":"denied","title":"the token or a client certificate is needed"}`)
	})
}

func tokenIn(r *http.Request) string {
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return t
	}
	_, password, _ := r.BasicAuth()
	return password
}

// certificates reads a certificate again when its file changed; where the new one
// cannot be read, the old one stays.
type certificates struct {
	cert, key string

	mu   sync.Mutex
	at   time.Time
	have *tls.Certificate
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := os.Stat(c.cert)
	if err == nil && (c.have == nil || !fi.ModTime().Equal(c.at)) {
		var fresh tls.Certificate
		if fresh, err = tls.LoadX509KeyPair(c.cert, c.key); err == nil {
			c.have, c.at = &fresh, fi.ModTime()
		}
	}
	if c.have == nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	return c.have, nil
}
