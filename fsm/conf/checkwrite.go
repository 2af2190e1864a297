package conf

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"lbcluster/fsm"
)

// check writes a checker with everything said.
func (w *writer) check(c fsm.Check, server netip.AddrPort) {
	w.block(func() {
		if c.File != nil {
			w.fileCheck(*c.File)
			return
		}
		if c.Kind != fsm.CheckMisc {
			w.connection(c, server)
		}
		w.line("retry", fmt.Sprint(c.Retry))
		w.line("delay_before_retry", seconds(c.DelayBeforeRetry))
		w.line("delay_loop", seconds(c.DelayLoop))
		w.line("warmup", seconds(c.Warmup))
		w.unless(!c.Alpha, "alpha")
		w.question(c)
	}, checkWords[c.Kind])
}

func (w *writer) connection(c fsm.Check, server netip.AddrPort) {
	if c.DSR { // keepalived asks the server itself
		w.condition("@lbcluster", "lbcluster_dsr", c.Dest.Addr().String(), fmt.Sprint(c.Dest.Port()))
		c.Dest = server
	}
	w.unless(c.Dest.Addr() == server.Addr(), "connect_ip", c.Dest.Addr().String())
	w.unless(c.Dest.Port() == server.Port() || !c.Ported(), "connect_port", fmt.Sprint(c.Dest.Port()))
	w.unless(!c.Bind.IsValid(), "bindto", c.Bind.String())
	w.unless(c.BindPort == 0, "bind_port", fmt.Sprint(c.BindPort))
	w.unless(c.BindIf == "", "bind_if", c.BindIf)
	w.unless(c.Mark == 0, "fwmark", fmt.Sprint(c.Mark))
	w.line("connect_timeout", seconds(c.ConnectTimeout))
}

// question writes what the kind asks.
func (w *writer) question(c fsm.Check) {
	if h := c.HTTP; h != nil {
		w.unless(h.Protocol == fsm.HTTPProtocol10, "http_protocol", h.Protocol)
		w.unless(!h.SNI, "enable_sni")
		for _, u := range h.URLs {
			w.block(func() { w.url(u) }, "url")
		}
	}
	w.unless(c.Helo == "", "helo_name", c.Helo)
	if d := c.DNS; d != nil {
		w.line("type", d.Type)
		w.line("name", d.Name)
	}
	if u := c.UDP; u != nil {
		w.unless(u.Payload == "", "payload", u.Payload)
		if u.Reply {
			w.line(strings.Fields("require_reply " + u.Expect)...)
			w.line("min_reply_length", fmt.Sprint(u.MinLength))
			w.line("max_reply_length", fmt.Sprint(u.MaxLength))
		}
	}
	if s := c.Script; s != nil {
		w.line("misc_path", s.Command)
		w.line("misc_timeout", fmt.Sprint(int(s.Timeout.D()/time.Second)))
		w.unless(!s.Dynamic, "misc_dynamic")
		w.unless(s.User == "", append([]string{"user"}, strings.SplitN(s.User, ":", 2)...)...)
	}
}

func (w *writer) url(u fsm.HTTPURL) {
	w.line("path", u.Path)
	w.unless(u.VirtualHost == "", "virtualhost", u.VirtualHost)
	codes := []string{"status_code"}
	for _, r := range u.Status {
		codes = append(codes, r.String())
	}
	w.line(codes...)
	w.unless(u.Digest == "", "digest", u.Digest)
	if u.Regex == "" {
		return
	}
	pattern, flags := regexOptions(u.Regex)
	w.WriteString(strings.Repeat("    ", w.depth) + `regex "` + escaped(pattern) + "\"\n")
	w.unless(flags == nil, append([]string{"regex_options"}, flags...)...)
	w.unless(!u.NoMatch, "regex_no_match")
	w.unless(u.MinOffset == 0, "regex_min_offset", fmt.Sprint(u.MinOffset))
	w.unless(u.MaxOffset == 0, "regex_max_offset", fmt.Sprint(u.MaxOffset))
}

// regexOptions takes the flags that readURL put in front of a pattern off again.
func regexOptions(regex string) (pattern string, words []string) {
	rest, ok := strings.CutPrefix(regex, "(?")
	flags, pattern, closed := strings.Cut(rest, ")")
	if !ok || !closed || flags == "" || strings.Trim(flags, "imsU") != "" {
		return regex, nil
	}
	for _, flag := range strings.Split(flags, "") {
		for word, f := range regexFlags {
			if f == flag {
				words = append(words, word)
			}
		}
	}
	return pattern, words
}
