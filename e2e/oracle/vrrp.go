package oracle

import (
	"fmt"
	"strings"
)

// instanceLabels are the labels of the dump of an instance, with the fields
// they are; "" is state that says nothing of the file.
var instanceLabels = map[string]string{
	"VRRP Version": "version", "Wantstate": "state", "Virtual Router ID": "vrid",
	"Priority": "priority", "Accept": "accept", "Preempt": "preempt",
	"Preempt delay": "preempt_delay", "Promote_secondaries": "promote_secondaries",
	"Password": "auth_pass", "Unicast TTL": "unicast_ttl",
	"Gratuitous ARP delay": "garp_master_delay", "Gratuitous ARP repeat": "garp_master_repeat",
	"Gratuitous ARP refresh": "garp_master_refresh", "Gratuitous ARP refresh repeat": "garp_master_refresh_repeat",
	"Gratuitous ARP lower priority delay": "garp_lower_prio_delay", "Gratuitous ARP lower priority repeat": "garp_lower_prio_repeat",
	"Down timer adverts":                               "down_timer_adverts",
	"Send advert after receive lower priority advert":  "advert after a lower one",
	"Send advert after receive higher priority advert": "advert after a higher one",
	"Unicast checksum compatibility":                   "old_unicast_checksum",
	"Using smtp notification":                          "smtp_alert",
	"Notify deleted":                                   "notify_deleted",
	"Notify priority changes":                          "notify_priority_changes",
	"Master state transition script":                   "notify_master",
	"Backup state transition script":                   "notify_backup",
	"Fault state transition script":                    "notify_fault",
	"Stop state transition script":                     "notify_stop",
	"Generic state transition script":                  "notify",

	"Sync group": "", "Flags": "", "Flags: none": "", "Number of config faults": "", "Using Native IPv6": "",
	"No sockets allocated": "", "Using unicast": "", "Tracked scripts": "", "Tracked interfaces": "",
	"Tracked files": "", "Tracked processes": "", "Unicast Peer": "", "Virtual IP Excluded": "", "Virtual Routes": "",
	"Virtual Rules": "", "VRRP member instances": "", "Num member fault 0, num member init 0": "",
}

// listed are the headings of lists, with the field of each of their lines.
var listed = map[string]string{
	"Virtual IP Excluded": "virtual_ipaddress_excluded", "Unicast Peer": "unicast_peer",
	"Virtual Routes": "virtual_routes", "Virtual Rules": "virtual_rules",
	"Tracked scripts": "track_script", "Tracked interfaces": "track_interface",
	"Tracked files": "track_file", "Tracked processes": "track_process",
	"VRRP member instances": "group",
}

var globalLabels = map[string]string{
	"Router ID": "router_id", "Smtp server": "smtp_server", "Smtp server connection timeout": "smtp_connect_timeout",
	"Smtp server port": "smtp_port", "Email notification from": "notification_email_from",
	"VRRP skip check advert addresses": "vrrp_skip_check_adv_addr",
	"LVS TCP FIN timeout":              "lvs_timeouts tcpfin", "LVS TCP timeout": lastTimeout,
	"LVS syncd vrrp instance": "lvs_sync_daemon inst", "LVS syncd interface": "lvs_sync_daemon", "LVS syncd syncid": "lvs_sync_daemon id",
	"LVS syncd maxlen": "lvs_sync_daemon maxlen", "LVS syncd mcast port": "lvs_sync_daemon port", "LVS syncd mcast ttl": "lvs_sync_daemon ttl",
	"Gratuitous ARP interval": "vrrp_garp_interval", "Gratuitous NA interval": "vrrp_gna_interval",
}

// lastTimeout is that of UDP, or else of TCP: the dump has one name for both.
const lastTimeout = "lvs_timeouts udp or tcp"

// definitionLabels are those of the blocks that define trackers.
var definitionLabels = map[string]map[string]string{
	"VRRP Scripts":     {"Command": "script", "Interval": "interval", "Timeout": "timeout", "Rise": "rise", "Fall": "fall", "Script uid:gid": "user"},
	"VRRP Track files": {"File": "file"},
	"VRRP Track processes": {"Process": "process", "Min processes": "quorum", "Max processes": "quorum_max",
		"Terminate delay": "terminate_delay", "Fork delay": "fork_delay", "Full command": "full_command"},
}

// readVRRP adds what the dump of the VRRP process says.
func readVRRP(f Facts, all []line) {
	element := ""
	for _, l := range all {
		if l.indent == 1 && l.section != "Global definitions" {
			element = elementOf(l)
		}
		switch {
		case l.section == "Global definitions":
			readGlobal(f, l)
		case l.indent == 1 || element == "":
		case l.section == "VRRP Topology" || l.section == "VRRP Sync groups":
			readInstance(f, element, l)
		case definitionLabels[l.section] != nil:
			if field := definitionLabels[l.section][l.label]; field != "" {
				f[Fact{element, field}] = plain(l.value)
			}
		}
	}
	settle(f)
}

// settle fills in the timeout that a script has if nobody says one: 0 is shown.
func settle(f Facts) {
	for fact, v := range f {
		if fact.kind() == "vrrp_script" && fact.Field == "timeout" && v == "0" {
			f[fact] = f[Fact{fact.Element, "interval"}]
		}
	}
}

// elementOf names what a line of the outermost level begins; "" if nothing
// that is compared.
func elementOf(l line) string {
	name, _, _ := strings.Cut(l.value, ", ")
	switch l.label {
	case "VRRP Instance":
		return "vrrp_instance " + l.value
	case "VRRP Sync Group":
		return "vrrp_sync_group " + name
	case "VRRP Script":
		return "vrrp_script " + l.value
	case "Track file":
		return "track_file " + l.value
	case "VRRP Track process":
		return "vrrp_track_process " + l.value
	}
	return ""
}

func readGlobal(f Facts, l line) {
	switch field := globalLabels[l.label]; {
	case field == "router_id" && (l.value == "[unknown]" || strings.HasPrefix(l.value, HostName)):
	case field != "":
		f[Fact{globals, field}] = l.value
	case l.heading == "Email notification to":
		addTo(f, globals, "notification_email", l.text())
	}
}

// HostName is the config-id that keepalived is run with, and the beginning of its
// host's name, which is the router_id if the file gives none.
const HostName = "oracle"

// addTo adds a line to a list.
func addTo(f Facts, element, list, value string) {
	for i := 1; ; i++ {
		fact := Fact{element, fmt.Sprintf("%s %d", list, i)}
		if _, ok := f[fact]; !ok {
			f[fact] = value
			return
		}
	}
}

func readInstance(f Facts, element string, l line) {
	if list := listed[l.heading]; list != "" {
		addTo(f, element, list, addressText(l.text()))
		return
	}
	field, known := instanceLabels[l.label]
	switch {
	case field != "":
		f[Fact{element, field}] = plain(l.value)
	case known:
	case strings.HasPrefix(l.heading, "Virtual IP ("):
		addTo(f, element, "virtual_ipaddress", addressText(l.text()))
	case strings.HasPrefix(l.label, "Virtual IP ("), strings.HasPrefix(l.label, "Multicast address"), strings.HasPrefix(l.label, "Num member"):
	case l.label == "Interface":
		f[Fact{element, "interface"}] = l.value
	case l.label == "Using src_ip":
		if ip, ok := strings.CutSuffix(l.value, " (from configuration)"); ok {
			f[Fact{element, "source address"}] = ip
		}
	case l.label == "Authentication type":
		f[Fact{element, "auth_type"}] = strings.Replace(l.value, "SIMPLE_PASSWORD", "PASS", 1)
	case l.label == "Advert interval":
		f[Fact{element, "advert_int"}] = milliseconds(l.value)
	case strings.HasPrefix(l.label, "Check unicast src"):
		f[Fact{element, "check_unicast_src"}] = strings.TrimPrefix(l.label, "Check unicast src : ")
	default: // nothing is dropped in silence
		f[Fact{element, l.label}] = said(l.value)
	}
}

// said is the value of a label that may stand alone.
func said(v string) string {
	if v == "" {
		return "yes"
	}
	return v
}

// plain drops the unit of whole seconds.
func plain(v string) string {
	v = strings.TrimSuffix(v, " secs")
	return strings.TrimSuffix(v, " sec")
}

// milliseconds reads "1 sec" and "250 milli-sec".
func milliseconds(v string) string {
	if n, ok := strings.CutSuffix(v, " milli-sec"); ok {
		return n + "ms"
	}
	return strings.TrimSuffix(v, " sec") + "000ms"
}

// addressText drops what an address has unless somebody says otherwise.
func addressText(s string) string {
	return strings.NewReplacer(" scope global", "", " preferred_lft forever", "", " min_ttl 0 max_ttl 255", "").Replace(s)
}
