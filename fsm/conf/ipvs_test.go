package conf

import (
	"fmt"
	"strings"
	"testing"

	"lbcluster/fsm"
)

const ipvsYAML = `
globals:
  ipvs:
    sync: {}
    udp_timeout: 30s
    sysctls:
      sloppy_tcp: 0
      sync_threshold: 3 50
`

func TestYAMLOfIPVS(t *testing.T) {
	r, problems := ParseYAML("f", []byte(ipvsYAML))
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	v := r.Config.Globals.IPVS
	if got := fmt.Sprint(*v.Sync, v.UDPTimeout, v.Sysctls); got != "id 1 30s map[sloppy_tcp:0 sync_threshold:3 50]" {
		t.Error(got)
	}
	if text, err := WriteYAML(r.Config); err != nil {
		t.Error(err)
	} else if again, problems := ParseYAML("g", text); len(problems) > 0 || len(fsm.DiffConfigs(r.Config, again.Config)) > 0 {
		t.Errorf("written and read again:\n%s%v", text, lines(problems))
	}
	for _, c := range []struct {
		old, new string
		line     int
		keyword  string
		says     string
	}{
		{"sync: {}", "sync: {id: 256}", 4, "id", "256 is not from 0 to 255"},
		{"sync: {}", "sync: {group: 10.0.0.1}", 4, "group", "not a multicast address"},
		{"sync: {}", "sync: {group: here}", 4, "group", "not an IP address"},
		{"sync: {}", "sync: {instance: VI_9}", 4, "sync", "no virtual router"},
		{"sync: {}", "sync: {interface: more than a name is}", 4, "interface", "is no interface name"},
		{"sync: {}", "sync: {dev: eth0}", 4, "dev", "unknown key"},
		{"30s", "1500ms", 5, "udp_timeout", "want whole seconds"},
		{"30s", "soon", 5, "udp_timeout", "is not a duration"},
		{"sloppy_tcp: 0", "sloppy_tcp: 2", 7, "sloppy_tcp", "from 0 to 1"},
		{"sloppy_tcp: 0", "sloppy_tcp:", 7, "sloppy_tcp", "from 0 to 1"},
		{"sloppy_tcp: 0", "secure_tcp: 2", 7, "secure_tcp", "not among the sysctls"},
		{"3 50", "3", 8, "sync_threshold", "two whole numbers"},
	} {
		_, problems := ParseYAML("f", []byte(strings.Replace(ipvsYAML, c.old, c.new, 1)))
		if len(problems) != 1 || problems[0].Line != c.line || problems[0].Keyword != c.keyword || !strings.Contains(problems[0].Text, c.says) {
			t.Errorf("%s: got %s, want line %d, keyword %s: ...%s...", c.new, lines(problems), c.line, c.keyword, c.says)
		}
	}
}

// What keepalived has no words for is said in the file that a node gets, and the
// rest of it is there.
func TestKeepalivedOfIPVS(t *testing.T) {
	r, _ := ParseYAML("f", []byte(ipvsYAML))
	if _, err := WriteKeepalived(r.Config); err == nil || !strings.Contains(err.Error(), "names no interface") {
		t.Error(err)
	}
	for _, c := range []struct {
		iface string
		want  []string
	}{
		{"", []string{"# ipvs.sync names no interface", "# net.ipv4.vs.sloppy_tcp = 0", "lvs_timeouts udp 30\n"}},
		{"eth1", []string{"# net.ipv4.vs.sync_threshold = 3 50", "lvs_sync_daemon eth1 id 1\n"}},
	} {
		r.Config.Globals.IPVS.Sync.Interface = c.iface
		text, err := WriteKeepalivedFor(r.Config, Node{Name: "dir1"})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(string(text), want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if got := KeepalivedLimits(r.Config); len(got) < 2 {
			t.Errorf("limits %q", got)
		}
	}
}

// A node that calls the interface of its router otherwise calls that of the
// synchronisation so too, if it is the same.
func TestSyncInterfaceOfANode(t *testing.T) {
	r, problems := read(globalWith("lvs_sync_daemon eth0 V") + routerWith(""))
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	text, err := WriteKeepalivedFor(r.Config, Node{Name: "dir1", Interfaces: map[string]string{"V": "ens3"}})
	if err != nil || !strings.Contains(string(text), "lvs_sync_daemon ens3 inst V id 5") {
		t.Errorf("%v\n%s", err, text)
	}
	if r.Config.Globals.IPVS.Sync.Interface != "eth0" {
		t.Error("the cluster's own has changed")
	}
}
