package conf

import (
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// Quorum, hysteresis and sorry server as keepalived understands them.
func TestPool(t *testing.T) {
	for _, c := range []struct {
		text               string
		quorum, hysteresis uint32
		sorry              string
		says               string // a notice
	}{
		{"quorum 1\nhysteresis 0", 0, 0, "", ""},
		{"quorum 5", 0, 0, "", "quorum: 5 exceeds the weight of all real servers: taken as 1"},
		{"weight 4\nquorum 3\nhysteresis 1", 3, 1, "", ""},
		{"weight 4\nquorum 3\nhysteresis 3", 3, 2, "", "hysteresis: 3 is not below the quorum: taken as 2"},
		{"hysteresis 2", 0, 0, "", "taken as 0"},
		{"sorry_server 10.0.0.9 80", 0, 0, "10.0.0.9:80", ""},
		{"sorry_server 10.0.0.9", 0, 0, "10.0.0.9:80", ""},
		{"sorry_server 10.0.0.9 8080", 0, 0, "10.0.0.9:80", ""}, // direct routing changes no port
		{"sorry_server 10.0.0.9 8080\nsorry_server_lvs_method NAT", 0, 0, "10.0.0.9:8080 nat", ""},
		{"sorry_server 10.0.0.9 80\nsorry_server_inhibit\nsorry_server_lvs_method DR", 0, 0, "10.0.0.9:80 inhibit", ""},
	} {
		r, problems := read(serviceWith(c.text))
		if len(problems) > 0 {
			t.Errorf("%s: %s", c.text, lines(problems))
			continue
		}
		v := r.Config.Services[0]
		if got := sorryText(v.Sorry); v.Quorum != c.quorum || v.Hysteresis != c.hysteresis || got != c.sorry {
			t.Errorf("%s: quorum %d, hysteresis %d, sorry server %q", c.text, v.Quorum, v.Hysteresis, got)
		}
		if all := lines(r.Notices); !strings.Contains(all, c.says) {
			t.Errorf("%s: nothing says %q:\n%s", c.text, c.says, all)
		}
	}
}

func sorryText(s *fsm.SorryServer) string {
	if s == nil {
		return ""
	}
	text := s.AddrPort().String()
	if s.Method != "" {
		text += " " + string(s.Method)
	}
	if s.Inhibit {
		text += " inhibit"
	}
	return text
}

// What keepalived.conf has no word for goes through YAML, and is not lost in an export
// as keepalived.conf, which fails.
func TestWhatOnlyYAMLSays(t *testing.T) {
	for word, set := range map[string]func(*fsm.VirtualServer){
		"panic_threshold": func(v *fsm.VirtualServer) { v.Panic = 60 },
		"slow_start":      func(v *fsm.VirtualServer) { v.SlowStart = fsm.Duration(90 * time.Second) },
	} {
		r, problems := read(serviceWith("quorum 1"))
		if len(problems) > 0 {
			t.Fatal(lines(problems))
		}
		want := &r.Config.Services[0]
		set(want)
		out, err := WriteYAML(r.Config)
		if err != nil {
			t.Fatal(err)
		}
		again, problems := ParseYAML("f", out)
		if len(problems) > 0 || again.Config.Services[0].Panic != want.Panic || again.Config.Services[0].SlowStart != want.SlowStart {
			t.Errorf("%s: %s", lines(problems), out)
		}
		if _, err := WriteKeepalived(r.Config); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("exported as keepalived.conf: %v", err)
		}
	}
}
