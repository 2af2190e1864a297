package oracle

import (
	"maps"
	"testing"
)

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name         string
		theirs, ours Facts
		want         string
	}{
		{"equal", Facts{{"vrrp_instance V", "vrid"}: "1"}, Facts{{"vrrp_instance V", "vrid"}: "1"}, ""},
		{"other value", Facts{{"vrrp_instance V", "vrid"}: "1"}, Facts{{"vrrp_instance V", "vrid"}: "2"}, `f.conf: vrrp_instance V: vrid: keepalived "1", lbcluster "2"`},
		{"a default need not be said", Facts{{"vrrp_instance V", "vrid"}: "1"}, Facts{{"vrrp_instance V", "vrid"}: "1", {"vrrp_instance V", "preempt"}: "enabled"}, ""},
		{"but what is no default", Facts{{"vrrp_instance V", "vrid"}: "1"}, Facts{{"vrrp_instance V", "vrid"}: "1", {"vrrp_instance V", "preempt"}: "disabled"}, `f.conf: vrrp_instance V: preempt: keepalived "enabled", lbcluster "disabled"`},
		{"a missing element is told once", Facts{{"virtual_server A > real_server R", "weight"}: "1", {"virtual_server A", "ops"}: "enabled", {"virtual_server A", "lb_algo"}: "rr"}, Facts{}, `f.conf: virtual_server A: exists: keepalived "yes", lbcluster ""`},
		{"a missing part", Facts{{"virtual_server A > real_server R", "weight"}: "1", {"virtual_server A", "lb_algo"}: "rr"}, Facts{{"virtual_server A", "lb_algo"}: "rr"}, `f.conf: virtual_server A > real_server R: exists: keepalived "yes", lbcluster ""`},
		{"the kernel's rules", Facts{{"ipvs", "-A x"}: "yes"}, Facts{}, `f.conf: ipvs: -A x: keepalived "yes", lbcluster ""`},
	} {
		got := ""
		for _, d := range Compare("f", c.theirs, c.ours) {
			got += d.String()
		}
		if got != c.want {
			t.Errorf("%s: got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestExplained(t *testing.T) {
	table, err := ReadExplained([]byte("# remark\nBecause\nof this.\n\ta* | vrrp_instance *: preempt | disabled | -\n\nOther.\n\tb | x: y | [1]:2 | *\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(table) != 2 || table[0].Why != "Because of this." {
		t.Fatalf("read %+v", table)
	}
	preempt := Difference{"abc", Fact{"vrrp_instance V", "preempt"}, "disabled", ""}
	other := preempt
	other.Theirs = "enabled"
	left := Unexplained(table, []Difference{preempt, other})
	if len(left) != 1 || left[0] != other {
		t.Errorf("left %v, want the one with another value", left)
	}
	if unused := Unused(table); len(unused) != 1 || unused[0].File != "b" {
		t.Errorf("unused %v, want the second reason's case", unused)
	}
	for _, bad := range []string{"\ta | b | c | d\n", "Why.\n\ta | b | c\n"} {
		if _, err := ReadExplained([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"*b", "ab", true}, {"a*c", "abc", true},
		{"a*c", "abcd", false}, {"*", "", true}, {"a*b*c", "a1b2c", true}, {"a*b*c", "a1c", false}, {"[x]*", "[x]:1", true}, {"ab*b", "ab", false},
	} {
		if got := like(c.pattern, c.text); got != c.want {
			t.Errorf("like(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}

func TestRecord(t *testing.T) {
	want := map[string]Facts{"empty": {}, "f": {{"ipvs", "-a -t 1.2.3.4:80 -r 1.2.3.5:80 -g -w 1"}: "yes", {"check 1", "name"}: ""}}
	got, err := ReadRecord(WriteRecord(want))
	if err != nil || !maps.EqualFunc(got, want, func(a, b Facts) bool { return maps.Equal(a, b) }) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"a: b = c\n", "== f\nnothing\n", "== f\na = b\n"} {
		if _, err := ReadRecord([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
