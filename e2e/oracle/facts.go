package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fact names a field of an element: "vrrp_instance VI_1", "priority".
type Fact struct{ Element, Field string }

// Facts are what a file says, with the defaults filled in. A fact that has its
// default's value may be missing: see [Facts.Get].
type Facts map[Fact]string

// defaults are keepalived's values of fields that its dump always has and that
// lbcluster has no word for. Keys are an element's kind and the field.
var defaults = map[Fact]string{
	{"global_defs", "vrrp_skip_check_adv_addr"}:     "false",
	{"global_defs", "vrrp_garp_interval"}:           "0.000000",
	{"global_defs", "vrrp_gna_interval"}:            "0.000000",
	{"vrrp_instance", "garp_master_delay"}:          "5",
	{"vrrp_instance", "garp_master_repeat"}:         "5",
	{"vrrp_instance", "garp_master_refresh"}:        "0",
	{"vrrp_instance", "garp_master_refresh_repeat"}: "1",
	{"vrrp_instance", "garp_lower_prio_delay"}:      "5",
	{"vrrp_instance", "garp_lower_prio_repeat"}:     "5",
	{"vrrp_instance", "down_timer_adverts"}:         "3",
	{"vrrp_instance", "advert after a lower one"}:   "true",
	{"vrrp_instance", "advert after a higher one"}:  "false",
	{"vrrp_instance", "accept"}:                     "enabled",
	{"vrrp_instance", "preempt"}:                    "enabled",
	{"vrrp_instance", "promote_secondaries"}:        "disabled",
	{"vrrp_instance", "auth_type"}:                  "none",
	{"vrrp_instance", "unicast_ttl"}:                "255",
	{"vrrp_instance", "check_unicast_src"}:          "no",
	{"vrrp_instance", "old_unicast_checksum"}:       "no",
	{"vrrp_instance", "smtp_alert"}:                 "no",
	{"vrrp_instance", "notify_deleted"}:             "Fault",
	{"vrrp_instance", "notify_priority_changes"}:    "false",
	{"vrrp_sync_group", "smtp_alert"}:               "no",
	{"virtual_server", "hashed"}:                    "disabled",
	{"virtual_server", "ops"}:                       "disabled",
	{"virtual_server", "alpha"}:                     "OFF",
	{"virtual_server", "omega"}:                     "OFF",
	{"virtual_server", "smtp_alert"}:                "no",
	{"virtual_server", "quorum"}:                    "1, hysteresis = 0",
	{"real_server", "alpha"}:                        "OFF",
	{"real_server", "smtp_alert"}:                   "yes",
	{"real_server", "connections"}:                  "0 -> 0",
	{"real_server", "inhibit_on_failure"}:           "OFF",
	{"check", "alpha"}:                              "no",
	{"check", "log_all_failures"}:                   "no",
	{"vrrp_script", "user"}:                         "0:0",
	{"vrrp_track_process", "full_command"}:          "false",
	{"vrrp_track_process", "quorum_max"}:            "",
	{"vrrp_track_process", "terminate_delay"}:       "0.000000s",
	{"vrrp_track_process", "fork_delay"}:            "0.000000s",
	{"virtual_server", "flag-1"}:                    "disabled",
	{"virtual_server", "flag-2"}:                    "disabled",
	{"virtual_server", "flag-3"}:                    "disabled",
	{"virtual_server", "sh-port"}:                   "disabled",
	{"virtual_server", "sh-fallback"}:               "disabled",
	{"virtual_server", "mh-port"}:                   "disabled",
	{"virtual_server", "mh-fallback"}:               "disabled",
}

// kind is the word before an element's name: of the last one of a path.
func (f Fact) kind() string {
	last := f.Element[strings.LastIndex(f.Element, "> ")+1:]
	word, _, _ := strings.Cut(strings.TrimSpace(last), " ")
	return word
}

// standard is the value of a field that nobody set; "" for most.
func (f Fact) standard() string { return defaults[Fact{f.kind(), f.Field}] }

// Get returns the value, or the default's.
func (f Facts) Get(fact Fact) string {
	if v, ok := f[fact]; ok {
		return v
	}
	return fact.standard()
}

// Sorted returns the facts in the order of their elements and fields.
func (f Facts) Sorted() []Fact {
	return slices.SortedFunc(maps.Keys(f), func(a, b Fact) int { return strings.Compare(a.String(), b.String()) })
}

// String is "vrrp_instance VI_1: priority".
func (f Fact) String() string { return f.Element + ": " + f.Field }

// Difference is a field whose values differ.
type Difference struct {
	File string // without .conf
	Fact
	Theirs, Ours string // "" : nothing said
}

// String says it for people.
func (d Difference) String() string {
	return fmt.Sprintf("%s.conf: %s: keepalived %q, lbcluster %q", d.File, d.Fact, d.Theirs, d.Ours)
}

// Compare returns the fields that differ, sorted. Of an element that one side
// lacks altogether it tells that alone.
func Compare(file string, theirs, ours Facts) []Difference {
	all := maps.Clone(theirs)
	maps.Copy(all, ours)
	has := [2]map[string]bool{elements(theirs), elements(ours)}
	told := map[string]bool{}
	var out []Difference
	for _, f := range all.Sorted() {
		t, o := has[0][f.Element], has[1][f.Element]
		switch {
		case t != o && f.Element != globals && f.Element != rules:
			if parent := parentOf(f.Element); !told[f.Element] && (parent == "" || has[0][parent] == has[1][parent]) {
				out = append(out, Difference{file, Fact{f.Element, "exists"}, yes(t), yes(o)})
			}
			told[f.Element] = true
		case theirs.Get(f) != ours.Get(f):
			out = append(out, Difference{file, f, theirs.Get(f), ours.Get(f)})
		}
	}
	return out
}

// globals is the element of what holds for the file; both sides have it.
const globals = "global_defs"

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func elements(f Facts) map[string]bool {
	m := map[string]bool{}
	for fact := range f {
		m[fact.Element] = true
	}
	return m
}

func parentOf(element string) string {
	if i := strings.LastIndex(element, " > "); i >= 0 {
		return element[:i]
	}
	return ""
}
