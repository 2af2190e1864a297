package conf

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// Backslashes and quotes of a script stay as the file has them, so that whoever
// splits it sees what keepalived sees, and are written so.
func TestScriptBackslashes(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{`"/bin/a \"b\" c"`, `/bin/a \"b\" c`},
		{`"/bin/grep \\.x f"`, `/bin/grep \\.x f`},
		{`'/bin/a\tb'`, `/bin/a\tb`},
		{`/bin/a\ b`, `/bin/a\ b`},
		{`"/x # y"`, `/x # y`},
		{`"a 'b \" c'"`, `a 'b \" c'`},
	} {
		text := "vrrp_script s {\nscript " + tt.file + "\n}\n" + routerWith("notify "+tt.file+"\ntrack_script {\ns\n}")
		r := source(t, "f", text).Result
		router := r.Config.Routers[0]
		if router.Track[0].Command != tt.want || router.Notify.Any.Command != tt.want {
			t.Errorf("%s: %s and %s, want %s", tt.file, router.Track[0].Command, router.Notify.Any.Command, tt.want)
		}
		if _, err := WriteKeepalived(r.Config); err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
	}
}

// Whatever the file's words of a script: what was read without a problem is
// written and read back the same, or the writer says that it can't.
func TestScriptWordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.StringMatching(`["']?[a-c/ \\"'#!{}$@~]{1,12}["']?`).Draw(t, "words")
		r, problems := read("vrrp_script s {\nscript " + words + "\n}\n" + routerWith("track_script {\ns\n}"))
		if len(problems) > 0 {
			t.Skip()
		}
		text, err := WriteKeepalived(r.Config)
		if err != nil {
			if !strings.Contains(err.Error(), "cannot say") {
				t.Fatal(err)
			}
			return
		}
		again, problems := read(string(text))
		if len(problems) > 0 || again.Config.Routers[0].Track[0].Command != r.Config.Routers[0].Track[0].Command {
			t.Fatalf("%s\n%s", text, lines(problems))
		}
	})
}

// A script with a weight in a sync group: keepalived drops it, and that is said;
// an interface's weight is 0 in both.
func TestWeightsInSyncGroups(t *testing.T) {
	text := "vrrp_script s {\nscript /x\n}\n" + routerWith("track_script {\ns weight 5\n}\ntrack_interface {\neth1 weight 6\n}") + "vrrp_sync_group G {\ngroup {\nV\n}\n}\n"
	r := source(t, "f", text).Result
	for _, want := range []string{"f:9:1: s: V is in vrrp_sync_group G: its weight 5 counts as 0, so a failure is a FAULT, whereas keepalived 2.2 drops", "its weight 6 counts as 0, so a failure is a FAULT, as in keepalived"} {
		if !strings.Contains(lines(r.Notices), want) {
			t.Errorf("nothing says %q:\n%s", want, lines(r.Notices))
		}
	}
	if list := r.Config.Routers[0].Track; len(list) != 2 || list[0].Weight != 0 || list[1].Weight != 0 {
		t.Errorf("%+v", list)
	}
}

// A node's file cannot say which packets get a mark: it says that.
func TestMatchOfNode(t *testing.T) {
	cfg := fsm.Config{Services: []fsm.VirtualServer{{ServiceKey: fsm.ServiceKey{Mark: 7}, Scheduler: "rr", Method: fsm.DirectRouting,
		Matches: []fsm.Match{{Addr: netip.MustParsePrefix("10.0.0.1/32"), Protocol: fsm.TCP}}}}}
	text, err := WriteKeepalivedFor(cfg, Node{Name: "n"})
	if err != nil || !strings.HasPrefix(string(text), "# virtual_server fwmark/7") || !strings.Contains(string(text), "10.0.0.1") {
		t.Errorf("%v\n%s", err, text)
	}
	if len(cfg.Services[0].Matches) != 1 {
		t.Error("the configuration itself was changed")
	}
	if back := source(t, "f", string(text)).Result; len(back.Config.Services) != 1 || back.Config.Services[0].Matches != nil {
		t.Errorf("%+v", back.Config.Services)
	}
	if all := strings.Join(KeepalivedLimits(cfg), "\n"); !strings.Contains(all, "have a firewall rule set mark 7") {
		t.Error(all)
	}
	if _, err := WriteKeepalivedFor(cfg, Node{}); err == nil {
		t.Error("of no node: dropped in silence")
	}
}

// Files likewise, but for the weight 1, which is their default.
func TestFileWeightsInSyncGroups(t *testing.T) {
	for weight, want := range map[string]string{"": "its weight 1 counts as 0, so a failure is a FAULT, as in keepalived", "weight 2": "its weight 2 counts as 0, so a failure is a FAULT, whereas keepalived"} {
		text := "track_file s {\nfile /x\n" + weight + "\n}\n" + routerWith("track_file {\ns\n}") + "vrrp_sync_group G {\ngroup {\nV\n}\n}\n"
		if all := lines(source(t, "f", text).Result.Notices); !strings.Contains(all, want) {
			t.Errorf("nothing says %q:\n%s", want, all)
		}
	}
}
