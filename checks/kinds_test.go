package checks

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

func destOf(t *testing.T, a net.Addr) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return ap
}

// probe makes one check and compares what it says; want "" is success.
func probe(t *testing.T, c fsm.Check, want string) {
	t.Helper()
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = fsm.Duration(2 * time.Second)
	}
	_, err := Dial(t.Context(), c)
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s %+v: %v, want %q", c.Kind, c.HTTP, err, want)
	}
}

// web answers by path; what it was asked is kept.
func web(t *testing.T, secure bool) (netip.AddrPort, *[]*http.Request) {
	var asked []*http.Request
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Clone(context.Background()))
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/hangs":
			time.Sleep(time.Second)
		default:
			fmt.Fprint(w, "<h1>It works 42</h1>")
		}
	}))
	s.Config.ErrorLog = nil
	if secure {
		s.TLS = &tls.Config{}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return destOf(t, s.Listener.Addr()), &asked
}

func httpCheck(dest netip.AddrPort, urls ...fsm.HTTPURL) fsm.Check {
	for i := range urls {
		if urls[i].Status == nil {
			urls[i].Status = []fsm.StatusRange{{From: 200, To: 299}}
		}
	}
	return fsm.Check{Kind: fsm.CheckHTTP, Dest: dest, HTTP: &fsm.HTTPCheck{Protocol: "1.0", URLs: urls}}
}

func TestHTTP(t *testing.T) {
	dest, asked := web(t, false)
	digest := fmt.Sprintf("%x", md5.Sum([]byte("<h1>It works 42</h1>")))
	for _, tt := range []struct {
		url  fsm.HTTPURL
		want string
	}{
		{fsm.HTTPURL{Path: "/"}, ""},
		{fsm.HTTPURL{Path: "/moved"}, "HTTP status 302"}, // no redirect is followed
		{fsm.HTTPURL{Path: "/moved", Status: []fsm.StatusRange{{From: 200, To: 200}, {From: 300, To: 399}}}, ""},
		{fsm.HTTPURL{Path: "/broken"}, "HTTP status 500"},
		{fsm.HTTPURL{Path: "/", Digest: digest}, ""},
		{fsm.HTTPURL{Path: "/", Digest: strings.Repeat("0", 32)}, "MD5 digest is " + digest},
		{fsm.HTTPURL{Path: "/", Regex: `works \d+<`}, ""},
		{fsm.HTTPURL{Path: "/", Regex: "fails"}, "does not match"},
		{fsm.HTTPURL{Path: "/", Regex: "fails", NoMatch: true}, ""},
		{fsm.HTTPURL{Path: "/", Regex: "works", NoMatch: true}, "matches the regex"},
		{fsm.HTTPURL{Path: "/", Regex: "works", MinOffset: 7}, ""},
		{fsm.HTTPURL{Path: "/", Regex: "works", MinOffset: 8}, "does not match"},
		{fsm.HTTPURL{Path: "/", Regex: "works", MaxOffset: 7}, ""},
		{fsm.HTTPURL{Path: "/", Regex: "works", MaxOffset: 6}, "does not match"},
		{fsm.HTTPURL{Path: "/", Regex: "works", MinOffset: 7000}, "does not match"},
	} {
		probe(t, httpCheck(dest, tt.url), tt.want)
	}
	probe(t, httpCheck(dest, fsm.HTTPURL{Path: "/"}, fsm.HTTPURL{Path: "/broken", VirtualHost: "b.example"}), "b.example/broken: HTTP status 500")
	slow := httpCheck(dest, fsm.HTTPURL{Path: "/hangs"})
	slow.ConnectTimeout = fsm.Duration(200 * time.Millisecond)
	probe(t, slow, "no answer within 200ms")

	*asked = nil
	c := httpCheck(dest, fsm.HTTPURL{Path: "/a?b=c", VirtualHost: "www.example.com"}, fsm.HTTPURL{Path: "/"})
	probe(t, c, "")
	c.HTTP.Protocol = "1.1"
	probe(t, c, "")
	r := *asked
	if r[0].Host != "www.example.com" || r[0].RequestURI != "/a?b=c" || r[0].ProtoMinor != 0 || r[0].UserAgent() != "KeepAliveClient" ||
		r[1].Host != dest.String() || r[2].ProtoMinor != 1 {
		t.Errorf("asked %+v", r)
	}
}

func TestHTTPS(t *testing.T) {
	dest, asked := web(t, true)
	c := httpCheck(dest, fsm.HTTPURL{Path: "/", VirtualHost: "www.example.com"})
	c.Kind = fsm.CheckHTTPS
	probe(t, c, "") // whoever signed the certificate
	if name := (*asked)[0].TLS.ServerName; name != "" {
		t.Errorf("named %q without enable_sni", name)
	}
	c.HTTP.SNI = true
	probe(t, c, "")
	if name := (*asked)[1].TLS.ServerName; name != "www.example.com" {
		t.Errorf("named %q", name)
	}
	plain, _ := web(t, false)
	c.Dest = plain
	probe(t, c, "TLS: ")
}

// serveEach serves each connection by one function.
func serveEach(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return destOf(t, ln.Addr())
}

// Servers that say nothing, too little, too much, something else, or byte by byte:
// none holds a check for longer than it may take.
func TestHTTPServersThatMisbehave(t *testing.T) {
	for name, s := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"silent":   {func(c net.Conn) { time.Sleep(2 * time.Second) }, "no answer within 300ms"},
		"closes":   {func(c net.Conn) {}, ""},
		"hangs up": {func(c net.Conn) { bufio.NewReader(c).ReadString('\n') }, ""},
		"babbles":  {func(c net.Conn) { bufio.NewReader(c).ReadString('\n'); fmt.Fprint(c, "hello there\r\n\r\n") }, "not HTTP"},
		"trickles": {func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\n")
			for range 100 {
				if _, err := fmt.Fprint(c, "x"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, "no answer within 300ms"},
		"floods": {func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\n")
			block := make([]byte, 1<<20)
			for range 64 {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := httpCheck(serveEach(t, s.serve), fsm.HTTPURL{Path: "/", Regex: "never"})
			c.ConnectTimeout = fsm.Duration(300 * time.Millisecond)
			if name == "floods" {
				c.ConnectTimeout = fsm.Duration(5 * time.Second)
			}
			began := time.Now()
			_, err := Dial(t.Context(), c)
			if took := time.Since(began); took > c.ConnectTimeout.D()+time.Second {
				t.Errorf("it took %v", took)
			}
			if err == nil {
				t.Fatal("passed")
			}
			if text := err.Error(); !strings.Contains(text, s.want) || len(text) > 100 {
				t.Errorf("%q, want %q", text, s.want)
			}
		})
	}
}

func TestSMTP(t *testing.T) {
	server := func(greeting, answer string) netip.AddrPort {
		return serveEach(t, func(c net.Conn) {
			fmt.Fprint(c, greeting)
			line, _ := bufio.NewReader(c).ReadString('\n')
			if line == "HELO check.example\r\n" {
				fmt.Fprint(c, answer)
				bufio.NewReader(c).ReadString('\n')
			}
		})
	}
	for _, tt := range []struct{ greeting, answer, want string }{
		{"220 mail ESMTP\r\n", "250 hello\r\n", ""},
		{"220-mail\r\n220 ESMTP\r\n", "250-hello\r\n250 SIZE\r\n", ""},
		{"554 go away\r\n", "", "SMTP greeting: 554 go away"},
		{"220 mail\r\n", "501 what?\r\n", "SMTP answer to HELO: 501 what?"},
		{"", "", "no answer within 300ms"},
		{"hello\r\n", "", "SMTP"},
	} {
		c := fsm.Check{Kind: fsm.CheckSMTP, Dest: server(tt.greeting, tt.answer), Helo: "check.example", ConnectTimeout: fsm.Duration(300 * time.Millisecond)}
		_, err := Dial(t.Context(), c)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) && tt.want != "SMTP") {
			t.Errorf("%q, %q: %v", tt.greeting, tt.answer, err)
		}
	}
}

func TestDNS(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		switch name := q.Question[0].Name; {
		case name == "gone.example.":
			a.Rcode = dns.RcodeNameError
		case name == "lies.example.":
			a.Id++
			_ = w.WriteMsg(a)
			_, _ = w.Write([]byte("no DNS at all"))
			a.Id--
		case name == "silent.example.":
			return
		case q.Question[0].Qtype == dns.TypeMX:
			a.Rcode = dns.RcodeRefused
		}
		_ = w.WriteMsg(a)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	for _, tt := range []struct{ kind, name, want string }{
		{"SOA", ".", ""}, {"A", "example.com", ""}, {"A", "example.com.", ""}, {"A", "lies.example", ""},
		{"A", "gone.example", "DNS answer NXDOMAIN"}, {"MX", "example.com", "DNS answer REFUSED"},
		{"A", "silent.example", "no answer within 300ms"},
	} {
		probe(t, fsm.Check{Kind: fsm.CheckDNS, Dest: destOf(t, pc.LocalAddr()), DNS: &fsm.DNSCheck{Type: tt.kind, Name: tt.name}, ConnectTimeout: fsm.Duration(300 * time.Millisecond)}, tt.want)
	}
}

func TestUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if string(b[:n]) == "ask" {
				_, _ = pc.WriteTo([]byte{1, 2, 3, 4}, from)
			}
		}
	}()
	const ask = "61736b"
	dest := destOf(t, pc.LocalAddr())
	for _, tt := range []struct {
		udp  fsm.UDPCheck
		want string
	}{
		{fsm.UDPCheck{}, ""},
		{fsm.UDPCheck{Reply: true, MaxLength: 255}, "no answer within 300ms"},
		{fsm.UDPCheck{Payload: ask, Reply: true, MaxLength: 255}, ""},
		{fsm.UDPCheck{Payload: ask, Reply: true, Expect: "0102", MaxLength: 255}, ""},
		{fsm.UDPCheck{Payload: ask, Reply: true, Expect: "x1xx03x4ffff", MaxLength: 255}, ""}, // what is compared is what came
		{fsm.UDPCheck{Payload: ask, Reply: true, Expect: "0103", MaxLength: 255}, "another one"},
		{fsm.UDPCheck{Payload: ask, Reply: true, Expect: "01", MaxLength: 3}, "another one"},
		{fsm.UDPCheck{Payload: ask, Reply: true, Expect: "01", MinLength: 5, MaxLength: 9}, "another one"},
	} {
		probe(t, fsm.Check{Kind: fsm.CheckUDP, Dest: dest, UDP: &tt.udp, ConnectTimeout: fsm.Duration(300 * time.Millisecond)}, tt.want)
	}
	pc.Close()
	probe(t, fsm.Check{Kind: fsm.CheckUDP, Dest: dest, UDP: &fsm.UDPCheck{}, ConnectTimeout: fsm.Duration(300 * time.Millisecond)}, "connection refused")
}

func TestPing(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		c := fsm.Check{Kind: fsm.CheckPing, Dest: netip.AddrPortFrom(netip.MustParseAddr(addr), 0)}
		if _, err := Dial(t.Context(), c); err != nil && (strings.Contains(err.Error(), "not permitted") || strings.Contains(err.Error(), "cannot assign")) {
			t.Skipf("%s: %v", addr, err)
		}
		probe(t, c, "")
	}
	silent := fsm.Check{Kind: fsm.CheckPing, Dest: netip.MustParseAddrPort("127.0.0.1:0"), BindIf: "none0"}
	probe(t, silent, "none0")
}

func TestMisc(t *testing.T) {
	left := filepath.Join(t.TempDir(), "left")
	for _, tt := range []struct{ command, want string }{
		{"/bin/true", ""},
		{"/bin/sh -c 'exit 3'", "exit status 3"},
		{"/bin/sleep 10", "did not end within 300ms"},
		{"/bin/sh -c '(sleep 1; touch " + left + ") & sleep 10'", "did not end within 300ms"},
		{"/bin/sh -c 'yes | head -c 50000000; exit 0'", ""},
		{"/no/such/program", "no such file"},
	} {
		timeout := 300 * time.Millisecond
		if tt.want == "" {
			timeout = 10 * time.Second
		}
		probe(t, fsm.Check{Kind: fsm.CheckMisc, Script: &fsm.ScriptCheck{Script: fsm.Script{Command: tt.command}, Timeout: fsm.Duration(timeout)}}, tt.want)
	}
	time.Sleep(1200 * time.Millisecond)
	if _, err := os.Stat(left); err == nil {
		t.Error("what a script left in the background went on")
	}
}

// The status of a dynamic script is a weight, but for 1 and a failure to run.
func TestMiscDynamic(t *testing.T) {
	for _, tt := range []struct {
		command string
		want    int
		fails   bool
	}{{"/bin/true", 0, false}, {"/bin/false", 0, true}, {"/bin/sh -c 'exit 2'", 2, false}, {"/bin/sh -c 'exit 255'", 255, false}, {"/bin/sh -c 'kill -9 $$'", 0, true}, {"/no/such", 0, true}} {
		c := fsm.Check{Kind: fsm.CheckMisc, Script: &fsm.ScriptCheck{Script: fsm.Script{Command: tt.command}, Timeout: fsm.Duration(10 * time.Second), Dynamic: true}}
		want := fsm.Weighing{}
		if tt.want >= 2 {
			want = fsm.Weighing{Times: 1, Sum: tt.want - 2}
		}
		if w, err := Dial(t.Context(), c); w != want || tt.fails != (err != nil) {
			t.Errorf("%s: %v, %v", tt.command, w, err)
		}
	}
}

// What a file holds, times the weight, is added; or it fails.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	for i, tt := range []struct {
		content string
		weight  int
		reverse bool
		sum     int
		want    string
	}{
		{"0", 0, false, 0, ""}, {"1", 0, false, 0, "holds 1"}, {"0", 0, true, 0, "holds 0"}, {"-3", 0, true, 0, ""},
		{"5\n", 2, false, 10, ""}, {" 5 apples", 2, true, -10, ""}, {"0x10", 1, false, 16, ""}, {"-4", 3, false, -12, ""},
		{"apples", 2, false, 0, ""}, {"", 1, false, 0, ""}, {"99999999999", 1, false, 0, "no number of 32 bits"},
		{"65535", 2, false, 65535, ""}, {"65535", 1, true, -65535, ""}, {"65536", 1, true, -65535, ""},
		{"-32768", 65535, false, -65535, ""}, {"-32769", 65535, false, 0, "holds -32769"}, {"-2147483648", 1, false, 0, "holds -2147483648"},
		{strings.Repeat("9", 500), 1, false, 0, "no number of 32 bits"},
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Dial(t.Context(), fsm.Check{Kind: fsm.CheckFile, File: &fsm.FileCheck{Path: path, Weight: tt.weight, Reverse: tt.reverse}})
		if w != (fsm.Weighing{Sum: tt.sum}) || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q times %d (reversed: %v): %v, %v, want %d %q", tt.content, tt.weight, tt.reverse, w, err, tt.sum, tt.want)
		}
	}
	for path, want := range map[string]string{filepath.Join(dir, "none"): "", dir: "read a file"} {
		w, err := Dial(t.Context(), fsm.Check{Kind: fsm.CheckFile, File: &fsm.FileCheck{Path: path, Weight: 1}})
		if w != (fsm.Weighing{}) || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", path, w, err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), fsm.Check{Kind: fsm.CheckFile, File: &fsm.FileCheck{Path: fifo}}); err != nil {
		t.Errorf("a pipe that nobody writes to: %v", err)
	}
}

// A check from a port, an interface or with a mark.
func TestWhereChecksComeFrom(t *testing.T) {
	from := make(chan netip.AddrPort, 1)
	dest := serveEach(t, func(c net.Conn) { from <- destOf(t, c.RemoteAddr()) })
	c := fsm.Check{Kind: fsm.CheckTCP, Dest: dest, Bind: netip.MustParseAddr("127.0.0.5"), BindPort: 34567}
	probe(t, c, "")
	if a := <-from; a.String() != "127.0.0.5:34567" {
		t.Errorf("from %v", a)
	}
	probe(t, fsm.Check{Kind: fsm.CheckTCP, Dest: dest, BindIf: "none0"}, "none0")
	if os.Getuid() == 0 {
		c = fsm.Check{Kind: fsm.CheckTCP, Dest: dest, BindIf: "lo", Mark: 7}
		probe(t, c, "")
	}
}

// A probe ends when it is no longer wanted.
func TestProbesEndWithTheirContext(t *testing.T) {
	dest := serveEach(t, func(net.Conn) { time.Sleep(5 * time.Second) })
	c := httpCheck(dest, fsm.HTTPURL{Path: "/"})
	c.ConnectTimeout = fsm.Duration(30 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := Dial(ctx, c); err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
