package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/web"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.sign("authority", nil, nil)
	return a
}

// sign makes a certificate; by nil, an authority's own.
func (a *authority) sign(name string, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if by == nil {
		by, byKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// write makes a certificate and writes it and its key, or the authority's certificate
// for the name "".
func (a *authority) write(name, certFile, keyFile string) tls.Certificate {
	a.t.Helper()
	cert, key := a.cert, a.key
	if name != "" {
		cert, key = a.sign(name, a.cert, a.key)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert.Raw}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if file == "" {
			continue
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

const aToken = "0123456789abcdef0123"

// site is a folder with all files that the web's configuration can name.
func webFiles(t *testing.T) (WebConfig, *authority) {
	t.Helper()
	dir := t.TempDir()
	c := WebConfig{Certificate: dir + "/web.pem", Key: dir + "/web.key", TokenFile: dir + "/token", ClientCA: dir + "/ca.pem"}
	a := newAuthority(t)
	a.write("web", c.Certificate, c.Key)
	a.write("", c.ClientCA, "")
	if err := os.WriteFile(c.TokenFile, []byte(aToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, a
}

// startWeb serves what c says.
func startWeb(t *testing.T, c WebConfig) *httptest.Server {
	t.Helper()
	srv := api.NewServer(apitest.NewBusy(), "dir1", "test", slog.New(slog.DiscardHandler))
	for pattern, h := range web.Handlers() {
		srv.Mount(pattern, h)
	}
	srv.Mount("GET /metrics", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "metrics") }))
	h, secure, err := openWeb(c, srv.Handler())
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewUnstartedServer(h)
	ts.Listener = tls.NewListener(ts.Listener, secure) // StartTLS would bring a certificate of its own
	ts.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	ts.Start()
	ts.URL = "https" + strings.TrimPrefix(ts.URL, "http")
	t.Cleanup(ts.Close)
	return ts
}

// visit asks for a path; the answer's status, 0 if the handshake was refused.
func visit(t *testing.T, ts *httptest.Server, a *authority, method, path, user, password, bearer string, cert *tls.Certificate) int {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	conf := &tls.Config{RootCAs: pool}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: conf}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, ts.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestWebLetsIn whom it should, to what it should.
func TestWebLetsIn(t *testing.T) {
	c, a := webFiles(t)
	client := a.write("an operator", "", "")
	stranger := newAuthority(t).write("a stranger", "", "")
	both, certOnly, tokenOnly := c, c, c
	certOnly.TokenFile, tokenOnly.ClientCA = "", ""
	tsBoth, tsCert, tsToken := startWeb(t, both), startWeb(t, certOnly), startWeb(t, tokenOnly)
	for _, x := range []struct {
		what                   string
		ts                     *httptest.Server
		method, path           string
		user, password, bearer string
		cert                   *tls.Certificate
		want                   int
	}{
		{"nobody", tsBoth, "GET", "/", "", "", "", nil, 401},
		{"nobody's script", tsBoth, "GET", "/app.js", "", "", "", nil, 401},
		{"a browser", tsBoth, "GET", "/", "anna", aToken, "", nil, 200},
		{"a program", tsBoth, "GET", "/v1/status", "", "", aToken, nil, 200},
		{"prometheus", tsBoth, "GET", "/metrics", "", "", aToken, nil, 200},
		{"a wrong token", tsBoth, "GET", "/v1/status", "", "", aToken + "x", nil, 401},
		{"an empty password", tsBoth, "GET", "/v1/status", "anna", "", "", nil, 401},
		{"a certificate", tsBoth, "GET", "/v1/status", "", "", "", &client, 200},
		{"a certificate alone", tsCert, "GET", "/", "", "", "", &client, 200},
		{"a stranger's certificate", tsCert, "GET", "/", "", "", "", &stranger, 0},
		{"a stranger's certificate and the token", tsBoth, "GET", "/", "", "", aToken, &stranger, 0},
		{"no certificate", tsCert, "GET", "/", "", "", "", nil, 0},
		{"the token where none counts", tsCert, "GET", "/", "", "", aToken, nil, 0},
		{"a certificate where none counts", tsToken, "GET", "/", "", "", "", &client, 401},
		{"the table", tsBoth, "GET", "/v1/table", "", "", aToken, nil, 404},
		{"one's own view", tsBoth, "GET", "/v1/status/local", "", "", aToken, nil, 404},
		{"a change", tsBoth, "POST", "/v1/leave", "", "", aToken, nil, 404},
		{"a change by certificate", tsBoth, "POST", "/v1/apply", "", "", "", &client, 404},
		{"a post to what is read", tsBoth, "POST", "/v1/status", "", "", aToken, nil, 405},
	} {
		if got := visit(t, x.ts, a, x.method, x.path, x.user, x.password, x.bearer, x.cert); got != x.want {
			t.Errorf("%s: %s %s: %d, want %d", x.what, x.method, x.path, got, x.want)
		}
	}
}

// TestWebServesThePage: every file of the page, and no other route, is let through.
func TestWebServesThePage(t *testing.T) {
	c, a := webFiles(t)
	ts := startWeb(t, c)
	for pattern := range web.Handlers() {
		path := strings.TrimSuffix(strings.TrimPrefix(pattern, "GET "), "{$}")
		if got := visit(t, ts, a, "GET", path, "", "", aToken, nil); got != 200 {
			t.Errorf("%s: %d", path, got)
		}
	}
}

// TestWebFaults: what cannot be used is named.
func TestWebFaults(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(*testing.T, WebConfig)
		want  string
	}{
		"no certificate":   {func(t *testing.T, c WebConfig) { os.Remove(c.Certificate) }, "web.pem"},
		"another's key":    {func(t *testing.T, c WebConfig) { newAuthority(t).write("x", "", c.Key) }, "private key does not match"},
		"a short token":    {func(t *testing.T, c WebConfig) { os.WriteFile(c.TokenFile, []byte("secret"), 0o600) }, "fewer than 16"},
		"no token":         {func(t *testing.T, c WebConfig) { os.Remove(c.TokenFile) }, "token"},
		"an open token":    {func(t *testing.T, c WebConfig) { os.Chmod(c.TokenFile, 0o644) }, "read by everybody"},
		"no authorities":   {func(t *testing.T, c WebConfig) { os.WriteFile(c.ClientCA, []byte("hello"), 0o600) }, "no certificate in PEM"},
		"lost authorities": {func(t *testing.T, c WebConfig) { os.Remove(c.ClientCA) }, "ca.pem"},
	} {
		conf, _ := webFiles(t)
		c.spoil(t, conf)
		if _, _, err := openWeb(conf, http.NotFoundHandler()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// TestWebCertificateIsRenewed: a new one is used without a restart, a broken one is not.
func TestWebCertificateIsRenewed(t *testing.T) {
	c, a := webFiles(t)
	certs := &certificates{cert: c.Certificate, key: c.Key}
	first, err := certs.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	later := func(text string) {
		if text != "" {
			if err := os.WriteFile(c.Certificate, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		certs.at = certs.at.Add(-time.Second) // the clock of files is coarse
	}
	later("broken")
	if still, err := certs.get(nil); err != nil || still != first {
		t.Errorf("a broken file: %v", err)
	}
	a.write("web, renewed", c.Certificate, c.Key)
	later("")
	second, err := certs.get(nil)
	if err != nil || second == first || second.Leaf.Subject.CommonName != "web, renewed" {
		t.Errorf("not renewed: %v", err)
	}
}

// TestWebConfig: what is missing or wrong in the file is named.
func TestWebConfig(t *testing.T) {
	whole := webFile{Listen: "0.0.0.0:9751", Certificate: "/c", Key: "/k", TokenFile: "/t"}
	for want, change := range map[string]func(*webFile){
		"":                               func(*webFile) {},
		"web: listen is missing":         func(f *webFile) { f.Listen = "" },
		"web: listen: ":                  func(f *webFile) { f.Listen = "9751" },
		"web: certificate is missing":    func(f *webFile) { f.Certificate = "" },
		"web: key: ":                     func(f *webFile) { f.Key = "k" },
		"web: it needs token_file or cl": func(f *webFile) { f.TokenFile = "" },
	} {
		f := whole
		change(&f)
		_, err := f.resolve()
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	if c, err := (webFile{}).resolve(); err != nil || c.Listen.IsValid() {
		t.Errorf("nothing said: %+v, %v", c, err)
	}
	if f, err := parseNodeFile([]byte("web: {listen: 10.0.0.1:1, sertificate: /c}\n")); err == nil {
		t.Errorf("a misspelt key: %+v", f)
	}
}
