package oracle

import (
	"fmt"
	"regexp"
	"strings"
)

// serviceLabels and serverLabels are those of a virtual server and of a real
// server; "" is state, or what the checks have taken over from there.
var serviceLabels = map[string]string{
	"lvs_sched": "lb_algo", "Hashed": "hashed", "flag-1": "flag-1", "flag-2": "flag-2", "flag-3": "flag-3",
	"sh-port": "sh-port", "sh-fallback": "sh-fallback", "mh-port": "mh-port", "mh-fallback": "mh-fallback",
	"One packet scheduling": "ops", "persistence timeout": "persistence_timeout",
	"persistence granularity": "persistence_granularity", "persistence engine": "persistence_engine",
	"quorum": "quorum", "Using smtp notification": "smtp_alert", "VirtualHost": "virtualhost",
	"sorry server": "sorry_server", "Quorum up notify script": "quorum_up", "Quorum down notify script": "quorum_down",

	"Address family": "", "connection timeout": "", "delay_loop": "", "default forwarding method": "", "alive": "",
	"quorum_state_up": "", "reloaded": "", "retry count": "", "retry delay": "", "warmup": "", "weight": "",
	"Inhibit on failure is OFF": "", "Inhibit on failure is ON": "", "delay before retry": "", "Delay before retry": "",
	"forwarding method": "", "Retries": "", "Warmup": "", "Retry count": "", "Retry delay": "",
}

var serverLabels = map[string]string{
	"forwarding method": "lb_kind", "connection limit range": "connections", "Using smtp notification": "smtp_alert",
	"VirtualHost": "virtualhost", "RS up notify script": "notify_up", "RS down notify script": "notify_down",

	"connection timeout": "", "Delay loop": "", "initial weight": "", "effective weight": "", "previous effective_weight": "",
	"alive": "", "num failed checkers": "", "RS set": "", "reloaded": "", "Retry count": "", "Retry delay": "", "Warmup": "",
	"Delay before retry": "", "Retries": "",
}

var checkLabels = map[string]string{
	"Delay loop": "delay_loop", "Warmup": "warmup", "Retries": "retry", "Delay before retry": "delay_before_retry",
	"Log all failures": "log_all_failures", "Alpha": "alpha", "Dest": "dest", "Timeout": "connect_timeout",
	"Bind to": "bindto", "Keepalive method": "kind", "script": "misc_path", "timeout": "misc_timeout", "dynamic": "misc_dynamic",
	"helo": "helo_name", "Payload specified": "payload", "Require reply": "require_reply", "Type": "type", "Name": "name", "uid:gid": "user",

	"Enabled": "", "Up": "", "Has run": "", "Current weight": "", "Retries iterations": "", "Default delay before retry": "",
	"Connection": "", "Last ran": "", "Last status": "",
}

// lvs collects the facts of the checkers' dump.
type lvs struct {
	Facts
	service, server, check string            // elements
	pending                Facts             // of the service, whose name the protocol completes
	head                   string            // "172.25.88.100:80", to be completed
	paths                  map[string]string // from how checks call a server to its element
	checks                 map[string]int
	group                  string
}

// readLVS adds what the dump of the checkers says.
func readLVS(f Facts, all []line) {
	d := lvs{Facts: f, paths: map[string]string{}, checks: map[string]int{}}
	for _, l := range all {
		switch l.section {
		case "Virtual server group":
			d.readGroup(l)
		case "Virtual server":
			d.readService(l)
		case "Real server":
			d.readServer(l)
		case "Health checkers":
			d.readCheck(l)
		}
	}
}

func (d *lvs) readGroup(l line) {
	name, _, _ := strings.Cut(l.value, ", ")
	if l.label == "Virtual Server Group" {
		d.group = "virtual_server_group " + name
	} else if !strings.HasPrefix(l.label, "Alive") && l.label != "reloaded" {
		addTo(d.Facts, d.group, "member", l.text())
	}
}

func (d *lvs) readService(l line) {
	if l.indent == 1 {
		d.pending, d.service, d.server = Facts{}, "", ""
		d.head = l.text()
		return
	}
	field, known := serviceLabels[l.label]
	switch {
	case l.label == "protocol":
		d.name(l.value)
	case field != "":
		d.put(field, l.value)
	case strings.HasPrefix(l.label, "alpha is"), strings.HasPrefix(l.label, "omega is"):
		word, value, _ := strings.Cut(l.label, " is ")
		d.put(word, value)
	case !known:
		d.put(l.label, said(l.value))
	}
}

func (d *lvs) put(field, value string) {
	if field == "persistence_granularity" && (value == "255.255.255.255" || value == "128") {
		return
	}
	if d.service == "" {
		d.pending[Fact{"", field}] = value
		return
	}
	d.Facts[Fact{d.service, field}] = value
}

var (
	vsAddress = regexp.MustCompile(`^VS VIP = (\S+), VPORT = (\d+)`)
	vsMark    = regexp.MustCompile(`^VS FWMARK = (\d+)`)
	vsGroup   = regexp.MustCompile(`^VS GROUP = \[(.*)\]`)
	rsAddress = regexp.MustCompile(`^RIP = (\S+), RPORT = (\d+), WEIGHT = (-?\d+)`)
	checkOf   = regexp.MustCompile(`^(.*) -> \[(\S+)\]:\w+:(\d+)$`)
)

// name gives the virtual server its name, now that all of it is known.
func (d *lvs) name(protocol string) {
	protocol = strings.ToLower(protocol)
	called := ""
	if m := vsAddress.FindStringSubmatch(d.head); m != nil {
		d.service = fmt.Sprintf("virtual_server %s %s %s", protocol, m[1], m[2])
		called = fmt.Sprintf("[%s]:%s:%s", m[1], protocol, m[2])
	} else if m := vsMark.FindStringSubmatch(d.head); m != nil {
		d.service = "virtual_server fwmark " + m[1]
		called = "FWM " + m[1]
	} else if m := vsGroup.FindStringSubmatch(d.head); m != nil {
		d.service = "virtual_server group " + m[1]
		called = fmt.Sprintf("[%s]:0", m[1])
	}
	d.paths[called] = d.service
	for f, v := range d.pending {
		d.Facts[Fact{d.service, f.Field}] = v
	}
}

func (d *lvs) readServer(l line) {
	if m := rsAddress.FindStringSubmatch(l.text()); m != nil {
		d.server = fmt.Sprintf("%s > real_server %s %s", d.service, m[1], m[2])
		d.Facts[Fact{d.server, "weight"}] = m[3]
		return
	}
	field, known := serverLabels[l.label]
	switch {
	case field != "":
		d.Facts[Fact{d.server, field}] = l.value
	case strings.HasPrefix(l.label, "Alpha is "):
		d.Facts[Fact{d.server, "alpha"}] = strings.TrimPrefix(l.label, "Alpha is ")
	case strings.HasPrefix(l.label, "Inhibit on failure is "):
		d.Facts[Fact{d.server, "inhibit_on_failure"}] = strings.TrimPrefix(l.label, "Inhibit on failure is ")
	case !known:
		d.Facts[Fact{d.server, l.label}] = said(l.value)
	}
}

func (d *lvs) readCheck(l line) {
	if l.indent == 1 {
		d.check = ""
		if m := checkOf.FindStringSubmatch(l.text()); m != nil && d.paths[m[1]] != "" {
			server := fmt.Sprintf("%s > real_server %s %s", d.paths[m[1]], m[2], m[3])
			d.checks[server]++
			d.check = fmt.Sprintf("%s > check %d", server, d.checks[server])
		}
		return
	}
	if d.check == "" {
		return
	}
	field, known := checkLabels[l.label]
	switch {
	case field == "dest" || field == "bindto":
		d.Facts[Fact{d.check, field}] = l.value
	case field != "":
		d.Facts[Fact{d.check, field}] = timing(l.value)
	case !known && l.indent > 3 && l.value == "":
		addTo(d.Facts, d.check, l.heading, l.text())
	case !known: // there may be several, as of pages
		addTo(d.Facts, d.check, l.label, said(l.value))
	}
}

// timing brings both ways of writing a time into one: "6000000 us", "5.000000".
func timing(v string) string {
	if us, ok := strings.CutSuffix(v, " us"); ok {
		return seconds(us)
	}
	return v
}

// seconds writes microseconds as keepalived does seconds: "6.000000".
func seconds(us string) string {
	us = strings.Repeat("0", max(0, 7-len(us))) + us
	return us[:len(us)-6] + "." + us[len(us)-6:]
}
