package conf

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"lbcluster/fsm"
)

// leniently reads text as the file "f" the way keepalived does.
func leniently(text string) (Result, []Problem) {
	m := memory{"f": text}
	return Reader{Open: m.open, Glob: m.glob, Lenient: true}.Read("f")
}

// TestLenient: what keepalived passes over is passed over, the notice says what
// was done, and strictly it is a problem in the same place.
func TestLenient(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"unknown keyword", routerWith("garlic 1"), "f:5:1: garlic: unknown keyword in vrrp_instance; it is ignored"},
		{"bad value", routerWith("advert_int soon"), "f:5:12: advert_int: \"soon\" is not a number of seconds; it is ignored"},
		{"value missing", routerWith("advert_int"), "f:5:1: advert_int: needs one value after it; it is ignored"},
		{"one value too many", routerWith("advert_int 1 2"), "f:5:14: advert_int: takes one value after it, not also \"2\"; the rest is ignored"},
		{"misplaced", serverWith("lb_algo rr"), "lb_algo: belongs in virtual_server, not in real_server; it is ignored"},
		{"no } at the end", strings.TrimSuffix(routerWith(""), "}\n"), "never closed: a } is missing; it ends with the file"},
		{"one } too many", routerWith("") + "}\n", "no open block that this } could close; it is ignored"},
		{"no {", "vrrp_instance V\n" + strings.TrimPrefix(routerWith(""), "vrrp_instance V {\n"), "f:1:1: vrrp_instance: needs a block: { is missing; the block begins on the next line"},
		{"two {", "vrrp_instance V {\n{\n" + strings.TrimPrefix(routerWith(""), "vrrp_instance V {\n"), "f:2:1: {: there is no keyword before this {; it is ignored"},
		{"missing file", "include none\n" + routerWith(""), "f:1:9: include: cannot read none: file does not exist; it is left out"},
		{"what the table can't hold", globalWith("startup_script /bin/true"), "f:2:1: startup_script: left out, which changes what the file does: "},
		{"what peers would see", routerWith("use_ipvlan"), "f:5:1: use_ipvlan: left out, which changes what the file does: "},
		{"a quote", routerWith("notify \"a"), "f:5:8: notify: the quote is not closed on this line; what follows it is ignored"},
		{"a long line", routerWith("# " + strings.Repeat("x", 1020) + " # y"), "it is cut into lines of 1023"},
		{"random numbers", routerWith("priority ${_RANDOM 7 9}"), "7 is taken"},
		{"a version", routerWith("version 9"), "f:5:1: version: \"9\" is not a VRRP version: 2 or 3; it is ignored"},
		{"a state", routerWith("state FAULT"), "f:5:1: state: \"FAULT\" is neither MASTER nor BACKUP; BACKUP is taken"},
		{"too short a timer", routerWith("advert_int 0"), "f:5:1: advert_int: must be at least 10ms; it is ignored"},
		{"a script's interval", trackedWith("interval 0"), "interval: must be at least 1ms; 1 s is taken"},
		{"a script's timeout", trackedWith("interval 5\ntimeout 0"), "timeout: must be at least 1ms; 1 s is taken"},
		{"a script's weight", trackedWith("weight 254"), "weight \"254\" is not a whole number from -253 to 253; it is ignored"},
		{"no script", routerWith("") + "vrrp_script s {\n}\n", "vrrp_script: s has no script; it is left out"},
		{"an unknown script", routerWith("track_script {\nnone\n}"), "f:6:1: track_script: there is no vrrp_script none; it is left out"},
		{"an instance again", routerWith("") + routerWith("priority 9"), "f:10:1: vrrp_instance: V is already in line 1 of f; this one is left out"},
		{"a group again", routerWith("") + strings.Repeat("vrrp_sync_group G {\ngroup {\nV\n}\n}\n", 2), "vrrp_sync_group: G is already in line 10 of f; this one is left out"},
		{"no auth_type", routerWith("authentication {\nauth_pass x\n}"), "authentication: auth_type is missing; there is no authentication"},
		{"no auth_pass", routerWith("authentication {\nauth_type PASS\n}"), "authentication: auth_pass is missing; there is no authentication"},
		{"an unknown auth_type", routerWith("authentication {\nauth_type NONE\nauth_pass x\n}"), "auth_type: \"NONE\" is neither PASS nor AH; it is ignored"},
		{"a peer", routerWith("unicast_peer {\nten\n10.0.0.2\n}"), "f:6:1: ten: a peer is an address, with min_ttl N and max_ttl N after it; it is left out"},
		{"a method", serviceWith("lb_kind dr"), "lb_kind: \"dr\" is not a forwarding method: DR, TUN or NAT; it is ignored"},
		{"a protocol", serviceWith("protocol ICMP"), "protocol: \"ICMP\" is not a protocol: TCP, UDP or SCTP; it is ignored"},
		{"a scheduler", serviceWith("lb_algo fastest"), "lb_algo: \"fastest\" is not a scheduler; it is ignored"},
		{"another scheduler's flag", serviceWith("sh-port"), "sh-port: is for the scheduler sh, not for "},
		{"flag-3", serviceWith("flag-3"), "flag-3: no scheduler of the kernel knows it; it is ignored"},
		{"a family", serviceWith("ip_family inet6"), "ip_family: is not that of 10.0.0.100; it is ignored"},
		{"a server again", serviceWith("real_server 10.0.0.2 80 {\nweight 4\n}"), "real_server: 10.0.0.2:80 is there twice; the second one is left out"},
		{"repetition", "~SEQ(i,1,0,2) x\n" + routerWith(""), "never reached from 1; the line is ignored"},
	} {
		if _, problems := read(c.text); len(problems) == 0 {
			t.Errorf("%s: strictly nothing is wrong", c.name)
		}
		r, problems := leniently(c.text)
		if len(problems) > 0 {
			t.Errorf("%s: %s", c.name, lines(problems))
		}
		if all := lines(r.Notices); !strings.Contains(all, c.says) {
			t.Errorf("%s: nothing says %q:\n%s", c.name, c.says, all)
		}
	}
}

// trackedWith is a router that tracks a script, with a line in that.
func trackedWith(line string) string {
	return "vrrp_script s {\nscript /bin/true\n" + line + "\n}\n" + routerWith("track_script {\ns\n}")
}

// TestLenientValues: what is taken where keepalived takes something, noted from
// what keepalived 2.2.7 says of the same files.
func TestLenientValues(t *testing.T) {
	server := func(lines string) string { // without the method, protocol and scheduler that serviceWith has
		return "virtual_server 10.0.0.100 80 {\n" + lines + "\nreal_server 10.0.0.2 80 {\nweight 3\n}\nreal_server 10.0.0.2 80 {\nweight 4\n}\n}\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"a script's interval and timeout", trackedWith("interval 0\ntimeout 0"), "s 1s 1s 0"},
		{"a timeout alone", trackedWith("interval 5\ntimeout 0"), "s 5s 1s 0"},
		{"an interval alone", trackedWith("interval 0"), "s 1s 1s 0"},
		{"a weight", trackedWith("weight 254"), "s 1s 1s 0"},
		{"an empty script is not tracked", "vrrp_script s {\n}\n" + routerWith("track_script {\ns\n}"), ""},
		{"the first instance counts", routerWith("priority 8") + routerWith("priority 9"), "8 BACKUP 2 1s"},
		{"a state, a version and an interval", routerWith("priority 8\nstate FAULT\nversion 7\nadvert_int 0"), "8 BACKUP 2 1s"},
		{"no password of no type", routerWith("priority 8\nauthentication {\nauth_type NONE\nauth_pass x\n}"), "8 BACKUP 2 1s"},
		{"defaults for what is ignored", server("lb_kind dr\nlb_algo fastest\nprotocol ICMP"), "wlc NAT udp [3]"},
		{"what was right before stays", server("lb_kind DR\nlb_kind dr\nlb_algo rr\nlb_algo fastest\nprotocol TCP\nprotocol ICMP"), "rr DR tcp [3]"},
		{"ports that become one", strings.Replace(server("lb_kind DR\nlb_algo rr\nprotocol TCP"), "10.0.0.2 80 {\nweight 4", "10.0.0.2 81 {\nweight 4", 1), "rr DR tcp [3]"},
		{"ports that stay two", strings.Replace(server("lb_kind NAT\nlb_algo rr\nprotocol TCP"), "10.0.0.2 80 {\nweight 4", "10.0.0.2 81 {\nweight 4", 1), "rr NAT tcp [3 4]"},
	} {
		r, problems := leniently(c.text)
		if len(problems) > 0 {
			t.Errorf("%s: %s", c.name, lines(problems))
			continue
		}
		got := ""
		for _, v := range r.Config.Services {
			var weights []int
			for _, s := range v.RealServers {
				weights = append(weights, s.Weight)
			}
			got += fmt.Sprint(v.Scheduler, " ", methodWord[v.Method], " ", v.Protocol, " ", weights)
		}
		for _, v := range r.Config.Routers {
			for _, k := range v.Track {
				got += fmt.Sprint(k.Name, " ", k.Interval.D(), " ", k.Timeout.D(), " ", k.Weight)
			}
			if strings.HasPrefix(c.want, "8") {
				got += fmt.Sprint(v.Priority, " ", cmp.Or(v.Initial, "BACKUP"), " ", v.Version, " ", v.AdvertInterval.D(), v.AuthPass)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

var methodWord = map[fsm.Method]string{fsm.DirectRouting: "DR", fsm.Masquerade: "NAT", fsm.Tunnel: "TUN"}

// TestUnknownBlocks: the block of an unknown keyword is none to keepalived. What
// is in it belongs to the block around it, its end ends that one, and what
// follows belongs further out, where much of it is unknown.
func TestUnknownBlocks(t *testing.T) {
	r, problems := leniently("virtual_server 10.0.0.100 80 {\nlb_kind DR\nprotocol TCP\nlb_algo rr\ndelay_loop 6\n" +
		"real_server 10.0.0.2 80 {\nTCP_CHECK {\n}\nshiny {\nweight 7\n}\n" + // ends real_server
		"persistence_timeout 50\n}\n" + // of virtual_server, and ends it
		"vrrp_instance V {\nvirtual_router_id 5\nvirtual_ipaddress {\n10.0.0.100\n}\npriority 9\n}\n}\n")
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	s := r.Config.Services[0]
	if s.Persistence.D().Seconds() != 50 || s.RealServers[0].Weight != 7 || len(r.Config.Routers) != 1 || r.Config.Routers[0].Priority != 9 {
		t.Errorf("%+v\n%s", r.Config, lines(r.Notices))
	}
	// Two levels: the end of "b" ends the virtual server, so that d is outside.
	r, _ = leniently("virtual_server 10.0.0.100 80 {\nlb_kind DR\nprotocol TCP\nlb_algo rr\nreal_server 10.0.0.2 80 {\na {\nb {\nweight 5\n}\nlb_algo wrr\n}\nlb_algo wlc\n}\n}\n")
	s = r.Config.Services[0]
	if s.RealServers[0].Weight != 5 || s.Scheduler != "wrr" || !strings.Contains(lines(r.Notices), "f:12:1: lb_algo: belongs in virtual_server, not in the top level") {
		t.Errorf("%+v\n%s", s, lines(r.Notices))
	}
}
