package fsm

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CheckKind is a kind of health check.
type CheckKind string

// The kinds, with keepalived's words for them.
const (
	CheckTCP   CheckKind = "tcp"   // connects and closes (TCP_CHECK)
	CheckHTTP  CheckKind = "http"  // asks for URLs (HTTP_GET)
	CheckHTTPS CheckKind = "https" // likewise over TLS; certificates are not verified (SSL_GET)
	CheckSMTP  CheckKind = "smtp"  // says HELO (SMTP_CHECK)
	CheckDNS   CheckKind = "dns"   // asks a question over UDP (DNS_CHECK)
	CheckUDP   CheckKind = "udp"   // sends a packet (UDP_CHECK)
	CheckPing  CheckKind = "ping"  // sends an ICMP echo request (PING_CHECK)
	CheckMisc  CheckKind = "misc"  // runs a program (MISC_CHECK)
	CheckFile  CheckKind = "file"  // reads a number from a file of the director (FILE_CHECK)
)

// CheckKinds are all of them.
var CheckKinds = []CheckKind{CheckTCP, CheckHTTP, CheckHTTPS, CheckSMTP, CheckDNS, CheckUDP, CheckPing, CheckMisc, CheckFile}

// HTTPCheck is what http and https ask: every URL must answer as it says.
type HTTPCheck struct {
	// Protocol is HTTPProtocol10, 10C or 11.
	Protocol string `json:"protocol"`
	// SNI names the URL's virtual host in the TLS handshake.
	SNI  bool      `json:"sni,omitempty"`
	URLs []HTTPURL `json:"urls"` // at least one
}

// The protocols of [HTTPCheck], as keepalived's http_protocol names them.
const (
	HTTPProtocol10  = "1.0"
	HTTPProtocol10C = "1.0C" // 1.0 with "Connection: close"
	HTTPProtocol11  = "1.1"
)

// HTTPURL is one question and what must come back.
type HTTPURL struct {
	Path string `json:"path"` // as it is sent: "/status?x=1"
	// VirtualHost is sent as Host; empty: the address and port.
	VirtualHost string `json:"virtualhost,omitempty"`
	// Status are the codes that are good; sorted, without overlaps, at least one.
	Status []StatusRange `json:"status"`
	Digest string        `json:"digest,omitempty"` // MD5 of the body, lower case hex
	// Regex must be found in the body (NoMatch: must not), beginning at MinOffset to
	// MaxOffset bytes from its start; MaxOffset 0: anywhere after. Go's syntax (RE2).
	Regex     string `json:"regex,omitempty"`
	NoMatch   bool   `json:"regex_no_match,omitempty"`
	MinOffset int    `json:"regex_min_offset,omitempty"`
	MaxOffset int    `json:"regex_max_offset,omitempty"`
}

// StatusRange is a range of HTTP status codes, 100 to 599.
type StatusRange struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// String is "200" or "200-299".
func (r StatusRange) String() string {
	if r.From == r.To {
		return itoa(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// Has reports whether the code is in one of the ranges.
func Has(ranges []StatusRange, code int) bool {
	return slices.ContainsFunc(ranges, func(r StatusRange) bool { return code >= r.From && code <= r.To })
}

// DNSCheck is a question; every answer without an error code is good.
type DNSCheck struct {
	Type string `json:"type"` // one of DNSTypes
	Name string `json:"name"` // "." or "example.com"
}

// DNSTypes are those that keepalived knows.
var DNSTypes = []string{"A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA", "RRSIG", "DNSKEY"}

// UDPCheck is a packet and what must come back. Without Reply it is enough that no
// ICMP error does.
type UDPCheck struct {
	Payload string `json:"payload,omitempty"` // hex; empty: nothing that means anything
	Reply   bool   `json:"require_reply,omitempty"`
	// Expect is how the reply begins: hex, with x for half bytes that do not matter.
	// It and the lengths, in bytes, count only with Expect, as in keepalived.
	Expect    string `json:"expect,omitempty"`
	MinLength int    `json:"min_reply_length,omitempty"`
	MaxLength int    `json:"max_reply_length,omitempty"`
}

// ScriptCheck is a program; its exit status 0 is good.
type ScriptCheck struct {
	Script
	Timeout Duration `json:"timeout"`
	// Dynamic: an exit status from 2 to 255 is no failure, but sets the weight to the
	// status less two (keepalived: misc_dynamic).
	Dynamic bool `json:"dynamic,omitempty"`
}

// FileCheck is a number in a file of each director, times Weight: it is added to the
// server's weight. With Weight 0 anything but 0 is a failure (keepalived: FILE_CHECK).
type FileCheck struct {
	Path    string `json:"path"`
	Weight  int    `json:"weight,omitempty"`
	Reverse bool   `json:"reverse,omitempty"` // the sign, or with weight 0 the sense, is the other one
}

// equal reports whether c and o are the same.
func (c Check) equal(o Check) bool {
	if c == o {
		return true // what they point to is the same, or nothing
	}
	plain := c.HTTP == nil && c.DNS == nil && c.UDP == nil && c.Script == nil && c.File == nil
	return !plain && reflect.DeepEqual(c, o)
}

// Ported reports whether the check goes to a port.
func (c Check) Ported() bool { return c.Kind != CheckPing && c.connects() }

// connects reports whether a check of this kind opens connections.
func (c Check) connects() bool { return c.Kind != CheckMisc && c.Kind != CheckFile }

// question describes what the kind asks, completely; empty for tcp and ping.
func (c Check) question() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if h := c.HTTP; h != nil {
		add("protocol %s", h.Protocol)
		if h.SNI {
			add("sni")
		}
		for _, u := range h.URLs {
			add("url %s", u.text())
		}
	}
	if c.Helo != "" {
		add("helo %s", quoted(c.Helo))
	}
	if d := c.DNS; d != nil {
		add("%s %s", d.Type, quoted(d.Name))
	}
	if u := c.UDP; u != nil {
		add("payload %s", quoted(u.Payload))
		if u.Reply {
			add("require_reply %s length %d-%d", quoted(u.Expect), u.MinLength, u.MaxLength)
		}
	}
	if s := c.Script; s != nil {
		add("script %s timeout %v", strconv.Quote(s.Command), s.Timeout)
		if s.User != "" {
			add("user %s", s.User)
		}
		if s.Dynamic {
			add("dynamic")
		}
	}
	if f := c.File; f != nil {
		add("file %s weight %d", strconv.Quote(f.Path), f.Weight)
		if f.Reverse {
			add("reverse")
		}
	}
	return strings.Join(parts, " ")
}

func (u HTTPURL) text() string {
	ranges := make([]string, len(u.Status))
	for i, r := range u.Status {
		ranges[i] = r.String()
	}
	s := strconv.Quote(u.Path) + " status " + strings.Join(ranges, ",")
	if u.VirtualHost != "" {
		s += " virtualhost " + quoted(u.VirtualHost)
	}
	if u.Digest != "" {
		s += " digest " + u.Digest
	}
	if u.Regex == "" {
		return s
	}
	s += " regex " + strconv.Quote(u.Regex)
	if u.NoMatch {
		s += " no_match"
	}
	if u.MinOffset != 0 || u.MaxOffset != 0 {
		s += fmt.Sprintf(" offset %d-%d", u.MinOffset, u.MaxOffset)
	}
	return s
}

// Bounds of what a check asks.
const (
	maxURLs      = 32
	maxText      = 1024 // of a path, pattern or command
	maxPayload   = 1400 // bytes of a UDP packet
	leastTimeout = time.Millisecond
)

// kindProblems finds what is wrong with what the kind asks.
func (p *problems) kind(c Check) {
	const path = "" // see below
	if !slices.Contains(CheckKinds, c.Kind) {
		p.add(path, "check %q is unknown: there are %s", c.Kind, joined(CheckKinds))
		return
	}
	web := c.Kind == CheckHTTP || c.Kind == CheckHTTPS
	for _, has := range []struct {
		there, wanted bool
		name          string
	}{
		{c.HTTP != nil, web, "http"}, {c.Helo != "", c.Kind == CheckSMTP, "helo"}, {c.DNS != nil, c.Kind == CheckDNS, "dns"},
		{c.UDP != nil, c.Kind == CheckUDP, "udp"}, {c.Script != nil, c.Kind == CheckMisc, "script"},
		{c.File != nil, c.Kind == CheckFile, "file"},
	} {
		switch {
		case has.there && !has.wanted:
			p.add(path, "%s is not for a check of kind %s", has.name, c.Kind)
		case has.wanted && !has.there:
			p.add(path, "a check of kind %s needs %s", c.Kind, has.name)
		}
	}
	if c.HTTP != nil {
		p.http(c)
	}
	if c.Helo != "" && (!isClean(c.Helo, maxText) || strings.ContainsAny(c.Helo, " \t")) {
		p.add(path, "helo_name %q is no host name", c.Helo)
	}
	if c.DNS != nil {
		p.dns(*c.DNS)
	}
	if c.UDP != nil {
		p.udp(*c.UDP)
	}
	if c.Script != nil {
		p.addIf(path, commandProblem(c.Script.Command))
		p.addIf(path, userProblem(c.Script.User))
		p.delay(path, "misc_timeout", c.Script.Timeout, leastTimeout)
	}
	if c.File != nil {
		p.file(*c.File)
	}
}

func (p *problems) file(f FileCheck) {
	if !strings.HasPrefix(f.Path, "/") || !isClean(f.Path, maxText) {
		p.add("", "file %q is no path that begins with /", f.Path)
	}
	if f.Weight < -MaxWeight || f.Weight > MaxWeight {
		p.add("", "weight %d of file %s is not within %d to %d", f.Weight, f.Path, -MaxWeight, MaxWeight)
	}
}

func (p *problems) http(c Check) {
	const path = ""
	if !slices.Contains([]string{HTTPProtocol10, HTTPProtocol10C, HTTPProtocol11}, c.HTTP.Protocol) {
		p.add(path, "http_protocol %q is none of 1.0, 1.0C and 1.1", c.HTTP.Protocol)
	}
	if c.HTTP.SNI && c.Kind != CheckHTTPS {
		p.add(path, "enable_sni is for HTTPS")
	}
	if n := len(c.HTTP.URLs); n == 0 || n > maxURLs {
		p.add(path, "it asks for %d URLs: 1 to %d are possible", n, maxURLs)
	}
	for i, u := range c.HTTP.URLs {
		p.addIf(path, prefixed(fmt.Sprintf("url #%d: ", i+1), u.problem()))
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func (u HTTPURL) problem() string {
	switch {
	case u.Path == "":
		return "it has no path"
	case !isClean(u.Path, maxText) || strings.ContainsAny(u.Path, " \t"):
		return fmt.Sprintf("path %q has blanks or control characters in it, or is longer than %d bytes: write %%20", u.Path, maxText)
	case !isClean(u.VirtualHost, maxText) || strings.ContainsAny(u.VirtualHost, " \t"):
		return fmt.Sprintf("virtualhost %q is no host name", u.VirtualHost)
	case len(u.Status) == 0:
		return "no status code is good"
	case u.Digest != "" && !isMD5(u.Digest):
		return fmt.Sprintf("digest %q is not 32 lower case hex digits", u.Digest)
	case u.Regex == "" && (u.NoMatch || u.MinOffset != 0 || u.MaxOffset != 0):
		return "it says how to match a regex, and has none"
	case u.MinOffset < 0 || u.MaxOffset < 0 || u.MaxOffset != 0 && u.MaxOffset < u.MinOffset:
		return fmt.Sprintf("regex offsets %d to %d", u.MinOffset, u.MaxOffset)
	case len(u.Regex) > maxText:
		return fmt.Sprintf("the regex has %d bytes, %d are possible", len(u.Regex), maxText)
	}
	last := 99
	for _, r := range u.Status {
		if r.From <= last || r.To < r.From || r.To > 599 {
			return fmt.Sprintf("status %s: codes go from 100 to 599, sorted, each once", r)
		}
		last = r.To
	}
	if _, err := regexp.Compile(u.Regex); err != nil {
		return fmt.Sprintf("regex: %v (the syntax is RE2's, without backreferences and lookaround)", err)
	}
	return ""
}

func isMD5(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 16 && s == strings.ToLower(s)
}

func (p *problems) dns(d DNSCheck) {
	if !slices.Contains(DNSTypes, d.Type) {
		p.add("", "DNS type %q is none of %s", d.Type, someOf(DNSTypes, len(DNSTypes)))
	}
	name := strings.TrimSuffix(d.Name, ".")
	bad := d.Name == "" || len(name) > 253 || !isClean(name, 253) || strings.ContainsAny(name, " \t\"\\")
	for label := range strings.SplitSeq(name, ".") {
		bad = bad || name != "" && (label == "" || len(label) > 63)
	}
	if bad {
		p.add("", "DNS name %q: it is empty, too long, or has an empty label", d.Name)
	}
}

func (p *problems) udp(u UDPCheck) {
	if _, err := hex.DecodeString(u.Payload); err != nil || len(u.Payload) > 2*maxPayload {
		p.add("", "payload is not hex of at most %d bytes", maxPayload)
	}
	if _, err := hex.DecodeString(strings.ReplaceAll(u.Expect, "x", "0")); err != nil || len(u.Expect) > 2*maxPayload {
		p.add("", "require_reply is not hex of at most %d bytes, with x for any half byte", maxPayload)
	}
	if !u.Reply && (u.Expect != "" || u.MinLength != 0 || u.MaxLength != 0) {
		p.add("", "it says what reply to expect, and requires none")
	}
	if u.MinLength < 0 || u.MaxLength < u.MinLength || u.MaxLength > 65535 {
		p.add("", "reply lengths %d to %d: they go from 0 to 65535, the lower first", u.MinLength, u.MaxLength)
	}
}
