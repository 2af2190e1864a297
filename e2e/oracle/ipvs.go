package oracle

import (
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
	"regexp"
	"strings"
)

// rules is the element of what is in the kernel; both sides have it.
const rules = "ipvs"

var thresholds = regexp.MustCompile(` -x \d+ -y \d+| --tun-type ipip`)

// AddRules adds the rules that "ipvsadm -Sn" prints, or conf.WriteIPVSAdm writes.
// Thresholds, which ipvsadm leaves out, are left out, and so is the type of
// tunnels that is meant when none is said.
func (f Facts) AddRules(text string) {
	for l := range strings.Lines(text) {
		l = thresholds.ReplaceAllString(strings.TrimSpace(l), "")
		if l != "" {
			f[Fact{rules, strings.TrimSpace(l)}] = "yes"
		}
	}
}

// Rules are the rules that a configuration asks for while all servers are up.
func Rules(c fsm.Config) string {
	return string(conf.WriteIPVSAdm((&fsm.Table{Services: c.Services}).Effective()))
}
