package oracle

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"lbcluster/fsm"
	"lbcluster/script"
)

var checkKinds = map[fsm.CheckKind]string{
	fsm.CheckTCP: "TCP_CHECK", fsm.CheckHTTP: "HTTP_GET", fsm.CheckHTTPS: "SSL_GET", fsm.CheckSMTP: "SMTP_CHECK",
	fsm.CheckDNS: "DNS_CHECK", fsm.CheckUDP: "UDP_CHECK", fsm.CheckPing: "PING_CHECK", fsm.CheckMisc: "MISC_CHECK", fsm.CheckFile: "FILE_CHECK",
}

// fromCheck says of a check what keepalived's dump does.
func fromCheck(f Facts, element string, c fsm.Check) {
	put := func(field, value string) { f[Fact{element, field}] = value }
	put("kind", checkKinds[c.Kind])
	put("delay_loop", decimal(c.DelayLoop))
	put("warmup", decimal(c.Warmup))
	put("retry", fmt.Sprint(c.Retry))
	if c.Alpha {
		put("alpha", "yes")
	}
	if c.Retry > 0 { // else there is no retry to delay, and keepalived doesn't show it
		put("delay_before_retry", decimal(c.DelayBeforeRetry))
	}
	if s := c.Script; s != nil {
		words, _ := script.Words(s.Command)
		put("misc_path", "'"+strings.Join(words, "' '")+"'")
		put("misc_timeout", fmt.Sprint(int(s.Timeout.D()/time.Second)))
		put("misc_dynamic", map[bool]string{true: "YES", false: "NO"}[s.Dynamic])
		put("user", map[string]string{"root": "0:0"}[s.User])
		return
	}
	put("connect_timeout", decimal(c.ConnectTimeout))
	if put("dest", bracketed(c.Dest)); !c.Ported() {
		put("dest", "["+c.Dest.Addr().String()+"]")
	}
	if c.Bind.IsValid() {
		put("bindto", bracketed(netip.AddrPortFrom(c.Bind, c.BindPort)))
	}
	fromQuestion(f, element, c)
}

// fromQuestion is what the kind asks.
func fromQuestion(f Facts, element string, c fsm.Check) {
	put := func(field, value string) { f[Fact{element, field}] = value }
	if h := c.HTTP; h != nil {
		put("kind", checkKinds[c.Kind]+", http protocol "+h.Protocol)
		addTo(f, element, map[bool]string{true: "Enable SNI set", false: "Enable SNI unset"}[h.SNI], "yes")
		addTo(f, element, "Fast recovery unset", "yes") // every check asks all URLs
		for _, u := range h.URLs {
			fromURL(f, element, u)
		}
	}
	if c.Helo != "" {
		put("helo_name", c.Helo)
	}
	if d := c.DNS; d != nil {
		put("type", d.Type)
		put("name", strings.TrimSuffix(d.Name, "."))
	}
	if u := c.UDP; u != nil {
		put("payload", map[bool]string{true: "no", false: "yes"}[u.Payload == ""])
		put("require_reply", map[bool]string{true: "yes", false: "no"}[u.Reply])
	}
}

func fromURL(f Facts, element string, u fsm.HTTPURL) {
	addTo(f, element, "Checked url", u.Path)
	addTo(f, element, "Checked url", "HTTP Status Code(s)") // the heading of the next lines
	for _, r := range u.Status {
		addTo(f, element, "HTTP Status Code(s)", r.String())
	}
	if u.VirtualHost != "" {
		addTo(f, element, "Virtual host", u.VirtualHost)
	}
	if u.Digest != "" {
		addTo(f, element, "digest", u.Digest)
	}
}
