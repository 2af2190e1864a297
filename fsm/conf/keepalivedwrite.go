package conf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// WriteKeepalived writes a configuration as a keepalived.conf that [Parse]
// reads back the same. Nothing is left to inheritance or defaults. What
// keepalived.conf cannot say (a password with a double quote, a timer finer
// than a microsecond) is an error that names it.
func WriteKeepalived(cfg fsm.Config) ([]byte, error) {
	w := &writer{}
	w.globals(cfg)
	w.definitions(cfg)
	for _, g := range cfg.Groups {
		w.group(g, cfg.Routers)
	}
	for _, r := range cfg.Routers {
		w.router(r)
	}
	if lost := lostIPVS(cfg.Globals.IPVS); len(lost) > 0 {
		return nil, fmt.Errorf("keepalived.conf cannot say %s", lost[0])
	}
	for _, s := range cfg.Services {
		if len(s.Matches) > 0 {
			return nil, fmt.Errorf("keepalived.conf cannot say which packets get a firewall mark, as the match of virtual server %s does", s.ServiceKey)
		}
	}
	w.services(cfg.Services)
	return w.Bytes(), w.proof(cfg)
}

// writer indents lines by the open blocks.
type writer struct {
	bytes.Buffer
	depth int

	skipAdvAddr bool // global_defs says so for all routers
	// files are the names of the track_files that checks read, by path.
	files map[string]string
}

// line writes a keyword and its words.
func (w *writer) line(words ...string) {
	w.WriteString(strings.Repeat("    ", w.depth))
	for i, s := range words {
		if i > 0 {
			w.WriteByte(' ')
		}
		w.WriteString(quote(s))
	}
	w.WriteByte('\n')
}

// condition writes a line that counts only for a reader with that identity.
func (w *writer) condition(id string, words ...string) {
	w.WriteString(strings.Repeat("    ", w.depth) + id + " ")
	depth := w.depth
	w.depth = 0
	w.line(words...)
	w.depth = depth
}

// block writes what body does within braces.
func (w *writer) block(body func(), words ...string) {
	w.line(words...)
	w.Truncate(w.Len() - 1)
	w.WriteString(" {\n")
	w.depth++
	body()
	w.depth--
	w.WriteString(strings.Repeat("    ", w.depth) + "}\n")
	if w.depth == 0 {
		w.WriteByte('\n')
	}
}

var plain = regexp.MustCompile(`^[\pL\pN._/][\pL\pN._:@/+-]*$`)

// quote puts quotes around what would not be read back as one word.
func quote(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return `"` + s + `"`
}

func (w *writer) globals(cfg fsm.Config) {
	g, delay := cfg.Globals, startupDelay(cfg)
	if globalsToYAML(g) == nil && delay == 0 {
		return
	}
	w.block(func() {
		if len(g.NotificationEmail) > 0 {
			w.block(func() {
				for _, to := range g.NotificationEmail {
					// Always quoted: no address is taken for a keyword then.
					w.WriteString(strings.Repeat("    ", w.depth) + `"` + to + "\"\n")
				}
			}, "notification_email")
		}
		w.unless(g.EmailFrom == "", "notification_email_from", g.EmailFrom)
		if host, port, err := net.SplitHostPort(g.SMTPServer); err == nil {
			w.line("smtp_server", host, port)
		} else {
			w.unless(g.SMTPServer == "", "smtp_server", g.SMTPServer)
		}
		w.unless(g.SMTPTimeout == 0, "smtp_connect_timeout", seconds(g.SMTPTimeout))
		w.unless(g.SMTPHelo == "", "smtp_helo_name", g.SMTPHelo)
		w.unless(!g.NoEmailFaults, "no_email_faults")
		w.fifos(g.FIFOs)
		w.unless(g.RouterID == "", "router_id", g.RouterID)
		w.unless(!g.SkipCheckAdvAddr, "vrrp_skip_check_adv_addr")
		w.skipAdvAddr = g.SkipCheckAdvAddr
		w.unless(g.GARPInterval == 0, "vrrp_garp_interval", seconds(g.GARPInterval))
		w.unless(g.GNAInterval == 0, "vrrp_gna_interval", seconds(g.GNAInterval))
		w.ipvs(cfg)
		w.unless(delay == 0, "vrrp_startup_delay", seconds(delay))
	}, "global_defs")
}

func (w *writer) unless(left bool, words ...string) {
	if !left {
		w.line(words...)
	}
}

func (w *writer) router(r fsm.Router) {
	w.block(func() {
		w.unless(r.Initial == "", "state", r.Initial)
		w.unless(r.Interface == "", "interface", r.Interface)
		w.line("virtual_router_id", fmt.Sprint(r.VRID))
		w.line("priority", fmt.Sprint(r.Priority))
		w.line("version", fmt.Sprint(r.Version))
		w.line("advert_int", seconds(r.AdvertInterval))
		if r.AuthPass != "" {
			w.block(func() {
				w.line("auth_type", "PASS")
				w.line("auth_pass", r.AuthPass)
			}, "authentication")
		}
		w.vmac(r)
		w.peering(r)
		w.addresses(r, "virtual_ipaddress", false)
		w.addresses(r, "virtual_ipaddress_excluded", true)
		w.tracks(r.Track)
		w.notify(r.Notify)
		w.unless(!r.Alert, "smtp_alert")
	}, "vrrp_instance", r.Name)
}

// addresses writes those that are excluded from the adverts, or those that are
// not.
func (w *writer) addresses(r fsm.Router, block string, excluded bool) {
	var lines [][]string
	for _, a := range r.Addresses {
		if a.Excluded != excluded {
			continue
		}
		words := []string{bare(a.Prefix)}
		if a.Dev != "" {
			words = append(words, "dev", a.Dev)
		}
		if a.Label != "" {
			words = append(words, "label", a.Label)
		}
		lines = append(lines, words)
	}
	if len(lines) == 0 && excluded {
		return
	}
	w.block(func() {
		for _, words := range lines {
			w.line(words...)
		}
	}, block)
}

// proof reads what was written and compares: the one sure way to know that the
// format can say it.
func (w *writer) proof(cfg fsm.Config) error {
	open := func(string) ([]byte, error) { return w.Bytes(), nil }
	read, problems := Parse("export", open, nil)
	if len(problems) > 0 {
		return fmt.Errorf("keepalived.conf cannot say this configuration: %s: %s", problems[0].Keyword, problems[0].Text)
	}
	was, is := pieces(cfg), pieces(read.Config)
	if len(is) > len(was) {
		return fmt.Errorf("keepalived.conf cannot say this without more: %s", is[len(was)])
	}
	for i, piece := range was {
		if i >= len(is) || piece != is[i] {
			return fmt.Errorf("keepalived.conf cannot say this without loss: %s", piece)
		}
	}
	return nil
}

// pieces are the parts of a configuration as JSON, without what a file does
// not decide and with the defaults that mean the same.
func pieces(cfg fsm.Config) []string {
	var list []string
	add := func(v any) { list = append(list, pieceOf(v)) }
	add(cfg.Globals)
	for _, r := range cfg.Routers {
		r.ID, r.Set = 0, ""
		add(r)
	}
	for _, g := range cfg.Groups {
		g.ID, g.Set = 0, ""
		add(g)
	}
	services := slices.Clone(cfg.Services)
	slices.SortStableFunc(services, func(a, b fsm.VirtualServer) int { return strings.Compare(a.String(), b.String()) })
	for _, s := range services {
		s.Set = ""
		s.PersistenceMask = meant(s)
		if len(s.RealServers) == 0 {
			s.RealServers = nil
		}
		add(s)
	}
	return list
}

func pieceOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// meant is the persistence mask that a service has in effect.
func meant(s fsm.VirtualServer) uint8 {
	switch {
	case s.Persistence == 0:
		return 0
	case s.PersistenceMask == 0:
		return uint8(s.BitLen())
	}
	return s.PersistenceMask
}
