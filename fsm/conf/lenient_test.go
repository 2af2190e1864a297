package conf

import (
	"strings"
	"testing"
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
		{"what the table can't hold", serviceWith("sorry_server 10.0.0.9 80"), "f:6:1: sorry_server: left out, which changes what the file does: "},
		{"what peers would see", routerWith("use_ipvlan"), "f:5:1: use_ipvlan: left out, which changes what the file does: "},
		{"a quote", routerWith("notify \"a"), "f:5:8: notify: the quote is not closed on this line; what follows it is ignored"},
		{"a long line", routerWith("# " + strings.Repeat("x", 1020) + " # y"), "it is cut into lines of 1023"},
		{"random numbers", routerWith("priority ${_RANDOM 7 9}"), "7 is taken"},
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
