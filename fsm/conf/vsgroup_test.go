package conf

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// story prints services in few words.
func story(services []fsm.VirtualServer) string {
	var b strings.Builder
	for _, s := range services {
		fmt.Fprintf(&b, "%s %s %s", s.ServiceKey, s.Scheduler, s.Method)
		if s.Persistence != 0 {
			fmt.Fprintf(&b, " persistence %v /%d %s", s.Persistence, s.PersistenceMask, s.PersistenceEngine)
		}
		fmt.Fprintf(&b, " %v %v %v %q\n", s.OnePacket, s.HashPort, s.HashFallback, s.Group)
		for _, r := range s.RealServers {
			fmt.Fprintf(&b, "  %s %s", r.AddrPort(), s.MethodOf(r))
			for _, c := range r.Checks {
				fmt.Fprintf(&b, " check %s", c.Dest)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Each kind of virtual server as keepalived reads it, and what is told of it.
func TestKindsOfService(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		notices          []string
	}{
		{"mark", `virtual_server fwmark 7 {
			lb_algo rr
			lb_kind DR
			real_server 10.0.0.2 80 {
				TCP_CHECK {
				}
				delay_loop 5
			}
			real_server 10.0.0.3 8080 {
				lb_kind NAT
				TCP_CHECK {
					connect_port 9
				}
				delay_loop 5
			}
		}`, "fwmark/7 rr dr false false false \"\"\n  10.0.0.2:0 dr check 10.0.0.2:80\n  10.0.0.3:8080 nat check 10.0.0.3:9\n",
			[]string{"1 lbcluster sets no rule for this firewall mark", "4 with a firewall mark only NAT changes the port"}},
		{"mark of IPv6, known by its server", `virtual_server fwmark 7 {
			lb_algo rr
			lb_kind DR
			protocol TCP
			persistence_timeout
			persistence_granularity 64
			real_server fd00::2 {
			}
		}`, "fwmark6/7 rr dr persistence 6m0s /64  false false false \"\"\n  [fd00::2]:0 dr\n",
			[]string{"1 lbcluster sets no rule", "4 a firewall mark has no protocol", "7 no check"}},
		{"tunnel to the other family", `virtual_server fwmark 7 {
			ip_family inet
			lb_algo rr
			lb_kind TUN
			real_server fd00::2 {
			}
		}`, "fwmark/7 rr tun false false false \"\"\n  [fd00::2]:0 tun\n", []string{"1 lbcluster", "5 no check"}},
		{"SCTP with NAT by default", `virtual_server 10.0.0.1 2905 {
			lb_algo rr
			protocol SCTP
			real_server 10.0.0.2 2906 {
			}
			real_server 10.0.0.3 {
			}
		}`, "sctp/10.0.0.1:2905 rr nat false false false \"\"\n  10.0.0.2:2906 nat\n  10.0.0.3:2905 nat\n",
			[]string{"1 no lb_kind: NAT", "4 no check", "6 no check"}},
		{"all ports", `virtual_server 10.0.0.1 {
			lb_algo sh
			lb_kind DR
			protocol TCP
			sh-port
			flag-1
			real_server 10.0.0.2 {
			}
		}`, "tcp/10.0.0.1:0 sh dr persistence 6m0s /32  false true true \"\"\n  10.0.0.2:0 dr\n",
			[]string{"1 all ports, which works only with persistence", "7 no check"}},
		{"IPv6 with SIP", `virtual_server fd00::1 5060 {
			lb_algo mh
			lvs_method DR
			protocol udp
			ops
			mh-port
			mh-fallback
			persistence_timeout 60
			persistence_engine sip
			real_server fd00::2 5060 {
			}
		}`, "udp/[fd00::1]:5060 mh dr persistence 1m0s /128 sip true true true \"\"\n  [fd00::2]:5060 dr\n", []string{"10 no check"}},
		{"group", `virtual_server_group web {
			10.0.0.1 80
			10.0.0.2-3 443
			10.0.0.4-10.0.0.5 80
			10.0.0.8/31 80
			fd00::9-a 80
			fwmark 9
			fwmark 9 inet6
		}
		virtual_server group web {
			lb_algo rr
			lb_kind TUN
			protocol TCP
			delay_loop 5
			real_server 10.1.0.2 80 {
				TCP_CHECK {
				}
			}
		}`, strings.ReplaceAll(`tcp/10.0.0.1:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
tcp/10.0.0.2:443 rr tun false false false "web"
  10.1.0.2:443 tun check 10.1.0.2:80
tcp/10.0.0.3:443 rr tun false false false "web"
  10.1.0.2:443 tun check 10.1.0.2:80
tcp/10.0.0.4:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
tcp/10.0.0.5:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
tcp/10.0.0.8:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
tcp/10.0.0.9:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
tcp/[fd00::9]:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
tcp/[fd00::a]:80 rr tun false false false "web"
  10.1.0.2:80 tun check 10.1.0.2:80
fwmark/9 rr tun false false false "web"
  10.1.0.2:0 tun check 10.1.0.2:80
fwmark6/9 rr tun false false false "web"
  10.1.0.2:0 tun check 10.1.0.2:80
`, "\t", ""), []string{"10 lbcluster sets no rule"}},
		{"unused group", "virtual_server_group web {\n10.0.0.1 80\n}\nvrrp_instance V {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1\n}\n}",
			"", []string{"1 no virtual_server uses the group web"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, problems := read(c.text + "\n")
			if len(problems) > 0 {
				t.Fatal(lines(problems))
			}
			if got := story(r.Config.Services); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			if len(r.Notices) != len(c.notices) {
				t.Errorf("notices:\n%s", lines(r.Notices))
			}
			for i, n := range r.Notices {
				if i < len(c.notices) && !strings.HasPrefix(fmt.Sprint(n.Line, " ", n.Text), c.notices[i]) {
					t.Errorf("notice %s, want %s", n, c.notices[i])
				}
			}
			text, err := WriteKeepalived(r.Config) // which proves itself
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := read(string(text)); !slices.Equal(pieces(again.Config), pieces(r.Config)) {
				t.Errorf("written and read again:\n%s%s", text, story(again.Config.Services))
			}
		})
	}
}

// A group is written as one, with ranges.
func TestGroupIsWritten(t *testing.T) {
	r, problems := read(`virtual_server_group web {
		10.0.0.1 80
		10.0.0.2-9 80
		10.0.0.255 80
		10.0.1.0 80
		fd00::fffe-ffff 80
		fd00::1:0 80
	}
	virtual_server group web {
		lb_algo rr
		lb_kind TUN
		protocol TCP
		real_server 10.1.0.2 80 {
		}
	}
	virtual_server group web {
		lb_algo rr
		lb_kind TUN
		protocol UDP
		real_server 10.1.0.2 80 {
		}
	}
	`)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	text, err := WriteKeepalived(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	const want = `virtual_server_group web {
    10.0.0.1-9 80
    10.0.0.255 80
    10.0.1.0 80
    fd00::fffe-ffff 80
    fd00::1:0 80
}

virtual_server group web {
    protocol TCP
    lb_algo rr
    lb_kind TUN
    real_server 10.1.0.2 80 {
        weight 1
    }
}

virtual_server group web {
    protocol UDP
`
	if !strings.HasPrefix(string(text), want) {
		t.Errorf("got\n%s", text)
	}
	// Two that differ cannot be one group.
	r.Config.Services[3].Scheduler = "wlc"
	if text, err := WriteKeepalived(r.Config); err == nil {
		t.Errorf("written without loss:\n%s", text)
	}
}

func TestMatchIsNoKeepalived(t *testing.T) {
	cfg := fsm.Config{Services: []fsm.VirtualServer{{ServiceKey: fsm.ServiceKey{Mark: 7}, Scheduler: "rr", Method: fsm.DirectRouting,
		Matches: []fsm.Match{{Addr: netip.MustParsePrefix("10.0.0.1/32"), Protocol: fsm.TCP}}}}}
	if _, err := WriteKeepalived(cfg); err == nil || !strings.Contains(err.Error(), "fwmark/7") {
		t.Errorf("%v", err)
	}
}

// Whatever the entries of a group: what is written stands for the same.
func TestGroupRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := fsm.VirtualServer{Scheduler: "mh", HashPort: true, Method: rapid.SampledFrom(fsm.Methods).Draw(t, "method"), Group: "g"}
		var cfg fsm.Config
		seen := map[fsm.ServiceKey]bool{}
		for range rapid.IntRange(1, 12).Draw(t, "entries") {
			s.ServiceKey = fsm.ServiceKey{
				Addr: netip.AddrFrom4([4]byte{10, 0, rapid.Byte().Draw(t, "c") % 2, byte(250 + rapid.IntRange(0, 5).Draw(t, "d"))}),
				Port: uint16(rapid.IntRange(80, 82).Draw(t, "port")), Protocol: rapid.SampledFrom(fsm.Protocols[:2]).Draw(t, "protocol"),
			}
			if seen[s.ServiceKey] {
				continue
			}
			seen[s.ServiceKey] = true
			r := fsm.RealServer{Addr: netip.MustParseAddr("10.1.0.2"), Port: s.Port, Weight: 1}
			if s.Method == fsm.Masquerade {
				r.Port = 8080
			}
			s.RealServers = []fsm.RealServer{r}
			cfg.Services = append(cfg.Services, s)
		}
		text, err := WriteKeepalived(cfg)
		if err != nil { // TCP and UDP have other entries
			entries := map[fsm.Protocol][]string{}
			for _, s := range cfg.Services {
				entries[s.Protocol] = append(entries[s.Protocol], fmt.Sprint(s.Addr, s.Port))
			}
			for _, e := range entries {
				slices.Sort(e)
			}
			if len(entries) < 2 || reflect.DeepEqual(entries[fsm.TCP], entries[fsm.UDP]) {
				t.Fatalf("%v\n%s", err, text)
			}
		}
		yaml, err := WriteYAML(cfg)
		if err != nil {
			t.Fatal(err)
		}
		back, problems := ParseYAML("f", yaml)
		if len(problems) > 0 || !slices.Equal(pieces(back.Config), pieces(cfg)) {
			t.Fatalf("%s\n%s", lines(problems), yaml)
		}
	})
}

// Marks and matches in YAML.
func TestYAMLMarks(t *testing.T) {
	const text = `services:
  - mark: 7
    method: dr
    match:
      - {address: 172.25.88.100, protocol: tcp, ports: 80-443}
      - {address: 172.25.89.0/24, protocol: sctp}
    real_servers:
      - address: 10.0.0.2
        checks:
          - kind: tcp
            dest: 10.0.0.2:80
      - address: 10.0.0.3:8080
        method: nat
  - mark: 7
    family: ipv6
    method: tun
    scheduler: sh
    hash_port: true
    one_packet: true
    persistence: 1m
    persistence_engine: sip
    real_servers: []
`
	r, problems := ParseYAML("f", []byte(text))
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	want := "fwmark/7 wlc dr false false false \"\"\n  10.0.0.2:0 dr check 10.0.0.2:80\n  10.0.0.3:8080 nat\n" +
		"fwmark6/7 sh tun persistence 1m0s /128 sip true true false \"\"\n"
	if got := story(r.Config.Services); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := fmt.Sprint(r.Config.Services[0].Matches); got != "[tcp/172.25.88.100:80-443 sctp/172.25.89.0/24]" {
		t.Errorf("matches %s", got)
	}
	if len(r.Notices) != 2 || r.Notices[1].Line != 14 || !strings.Contains(r.Notices[1].Text, "sets no rule for this firewall mark") {
		t.Errorf("notices:\n%s", lines(r.Notices))
	}
	out, err := WriteYAML(r.Config)
	if err != nil {
		t.Fatal(err)
	}
	if back, problems := ParseYAML("f", out); len(problems) > 0 || !slices.Equal(pieces(back.Config), pieces(r.Config)) {
		t.Errorf("%s\n%s", lines(problems), out)
	}
	for _, c := range []struct {
		old, new string
		line     int
		keyword  string
		says     string
	}{
		{"address: 10.0.0.2\n", "address: 10.0.0.2:80\n", 8, "address", "only nat changes the port"},
		{"mark: 7\n    family: ipv6", "mark: 8\n    family: inet", 15, "family", "ipv4 or ipv6 is"},
		{"    family: ipv6", "    address: 10.0.0.1:80\n    family: ipv6", 15, "address", "a mark has none"},
		{"protocol: sctp", "protocol: icmp", 6, "protocol", "tcp, udp or sctp is"},
		{"172.25.89.0/24", "172.25.89.1/24", 6, "match", "bits set beyond"},
		{"172.25.89.0/24", "here", 6, "address", "not an IP address"},
		{"{address: 172.25.89.0/24, ", "{", 6, "match", "address is missing"},
		{"80-443", "443-80", 5, "ports", "neither a port nor a range"},
		{"mark: 7\n    family", "mark: 1818361857\n    family", 14, "mark", "kept for lbcluster"},
	} {
		_, problems := ParseYAML("f", []byte(strings.Replace(text, c.old, c.new, 1)))
		if len(problems) != 1 || problems[0].Line != c.line || problems[0].Keyword != c.keyword || !strings.Contains(problems[0].Text, c.says) {
			t.Errorf("%s: got %s", c.new, lines(problems))
		}
	}
}

// A short file that stands for very much is refused before it fills the memory.
func TestGroupsAreBounded(t *testing.T) {
	text := "virtual_server_group G {\n10.0.0.0/20 80\n}\n"
	for range 1000 {
		text += "virtual_server group G {\nlb_kind DR\nlb_algo rr\nprotocol TCP\n}\n"
	}
	r, problems := read(text)
	said := func(p Problem) bool { return strings.Contains(p.Text, "more than 200000 servers") }
	if !slices.ContainsFunc(problems, said) || len(r.Config.Services) > maxExpanded {
		t.Errorf("%d problems, %d services", len(problems), len(r.Config.Services))
	}
}

// FuzzServices is FuzzParse, begun where virtual servers are.
func FuzzServices(f *testing.F) {
	for _, s := range []string{
		"virtual_server_group G {\n10.0.0.1-9 80\nfd00::/126\nfwmark 7 inet6\n}\nvirtual_server group G {\nlb_kind TUN\nprotocol SCTP\nreal_server 10.0.0.9 {\n}\n}\n",
		"virtual_server fwmark 7 {\nip_family inet\nlb_algo mh\nmh-port\nops\npersistence_timeout 9\npersistence_granularity 64\npersistence_engine sip\nreal_server fd00::1 80 {\nlb_kind NAT\n}\n}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, problems := read(string(data))
		checkResult(t, "f", r, problems)
	})
}
