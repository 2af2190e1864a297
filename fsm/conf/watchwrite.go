package conf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lbcluster/fsm"
)

// definitions writes each tracker that anybody names, once. Their weights stand
// where they are named: one definition may have another there.
func (w *writer) definitions(cfg fsm.Config) {
	done := map[string]bool{}
	for _, list := range trackLists(cfg) {
		for _, t := range list {
			if key := string(t.Kind) + " " + t.Name; !done[key] {
				done[key] = true
				w.definition(t)
			}
		}
	}
	names, fresh := fileNames(cfg)
	for w.files = names; len(fresh) > 0; fresh = fresh[1:] {
		w.definition(fresh[0])
	}
}

// trackLists are all lists of trackers, in the order of the file.
func trackLists(cfg fsm.Config) [][]fsm.Tracker {
	var lists [][]fsm.Tracker
	for _, g := range cfg.Groups {
		lists = append(lists, g.Track)
	}
	for _, r := range cfg.Routers {
		lists = append(lists, r.Track)
	}
	return lists
}

func (w *writer) definition(t fsm.Tracker) {
	switch t.Kind {
	case fsm.TrackScript:
		w.block(func() {
			w.line("script", t.Command)
			w.line("interval", seconds(t.Interval))
			w.line("timeout", seconds(t.Timeout))
			w.line("rise", strconv.Itoa(t.Rise))
			w.line("fall", strconv.Itoa(t.Fall))
			w.user("user", t.User)
			w.unless(!t.InitFail, "init_fail")
		}, "vrrp_script", t.Name)
	case fsm.TrackFile:
		w.block(func() { w.line("file", t.Path) }, "track_file", t.Name)
	case fsm.TrackProcess:
		w.block(func() { w.process(t) }, "vrrp_track_process", t.Name)
	}
}

func (w *writer) process(t fsm.Tracker) {
	w.line(append([]string{"process"}, unquoted(t.Process)...)...)
	if t.QuorumMax == -1 {
		w.line("quorum_max", "0")
	} else {
		w.line("quorum", strconv.Itoa(t.Quorum))
		w.unless(t.QuorumMax == 0, "quorum_max", strconv.Itoa(t.QuorumMax))
	}
	w.unless(t.StartupDelay == 0, "fork_delay", seconds(t.StartupDelay))
	w.unless(t.TerminDelay == 0, "terminate_delay", seconds(t.TerminDelay))
	w.unless(!t.FullCommand, "full_command")
}

// unquoted splits what readProcess joined.
func unquoted(s string) []string {
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, " ") {
		if inner, rest, ok := strings.Cut(s[1:], "'"); ok && s[0] == '\'' {
			words, s = append(words, inner), rest
			continue
		}
		word, rest, _ := strings.Cut(s, " ")
		words, s = append(words, word), rest
	}
	return words
}

// user writes "user" or "user:group" as two words.
func (w *writer) user(keyword, user string) {
	if user != "" {
		w.line(append([]string{keyword}, strings.SplitN(user, ":", 2)...)...)
	}
}

// tracks writes the track_* blocks, a block for each run of one kind.
func (w *writer) tracks(list []fsm.Tracker) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Kind == list[0].Kind {
			n++
		}
		run := list[:n]
		w.block(func() {
			for _, t := range run {
				words := []string{t.Name, "weight", strconv.Itoa(t.Weight)}
				if t.Reverse {
					words = append(words, "reverse")
				}
				w.line(words...)
			}
		}, "track_"+string(run[0].Kind))
		list = list[n:]
	}
}

func (w *writer) notify(n fsm.Notify) {
	for _, s := range []struct {
		keyword string
		script  *fsm.Script
	}{
		{"notify_master", n.Master}, {"notify_backup", n.Backup}, {"notify_fault", n.Fault}, {"notify_stop", n.Stop}, {"notify", n.Any},
	} {
		w.script(s.keyword, s.script)
	}
}

func (w *writer) script(keyword string, s *fsm.Script) {
	if s == nil {
		return
	}
	words := []string{keyword, s.Command}
	if s.User != "" {
		words = append(words, strings.SplitN(s.User, ":", 2)...)
	}
	w.line(words...)
}

// group writes a sync group; weights within it need a word to count.
func (w *writer) group(g fsm.SyncGroup, routers []fsm.Router) {
	weighted := slices.ContainsFunc(routers, func(r fsm.Router) bool {
		return slices.Contains(g.Routers, r.Name) && slices.ContainsFunc(r.Track, func(t fsm.Tracker) bool { return t.Weight != 0 })
	})
	w.block(func() {
		w.block(func() {
			for _, name := range g.Routers {
				w.line(name)
			}
		}, "group")
		w.unless(!weighted, "sync_group_tracking_weight")
		w.tracks(g.Track)
		w.notify(g.Notify)
		w.unless(!g.Alert, "smtp_alert")
	}, "vrrp_sync_group", g.Name)
}

// The YAML of trackers, scripts and groups; a tracker says everything itself.
type (
	yamlTrack struct {
		Kind        string `yaml:"kind"`
		Name        string `yaml:"name"`
		Weight      int    `yaml:"weight,omitempty"` // 0: a failure is a FAULT
		Reverse     bool   `yaml:"reverse,omitempty"`
		Command     string `yaml:"command,omitempty"`
		Interval    string `yaml:"interval,omitempty"` // 1s
		Timeout     string `yaml:"timeout,omitempty"`  // the interval
		Rise        *int   `yaml:"rise,omitempty"`     // 1
		Fall        *int   `yaml:"fall,omitempty"`     // 1
		User        string `yaml:"user,omitempty"`
		InitFail    bool   `yaml:"init_fail,omitempty"`
		Path        string `yaml:"path,omitempty"`
		Process     string `yaml:"process,omitempty"`
		FullCommand bool   `yaml:"full_command,omitempty"`
		Quorum      *int   `yaml:"quorum,omitempty"` // 1
		QuorumMax   int    `yaml:"quorum_max,omitempty"`
		Delay       string `yaml:"delay,omitempty"`
		TerminDelay string `yaml:"terminate_delay,omitempty"`
		ForkDelay   string `yaml:"fork_delay,omitempty"`
	}
	yamlScript struct {
		Command string `yaml:"command"`
		User    string `yaml:"user,omitempty"`
	}
	yamlNotify struct {
		Master *yamlScript `yaml:"master,omitempty"`
		Backup *yamlScript `yaml:"backup,omitempty"`
		Fault  *yamlScript `yaml:"fault,omitempty"`
		Stop   *yamlScript `yaml:"stop,omitempty"`
		Any    *yamlScript `yaml:"any,omitempty"`
	}
	yamlGroup struct {
		Name    string      `yaml:"name"`
		Routers []string    `yaml:"routers"`
		Track   []yamlTrack `yaml:"track,omitempty"`
		Notify  *yamlNotify `yaml:"notify,omitempty"`
		Alert   *bool       `yaml:"smtp_alert,omitempty"`
	}
)

// tracks reads trackers with the defaults of keepalived's blocks.
func (y *yamlReader) tracks(path string, list []yamlTrack) []fsm.Tracker {
	var out []fsm.Tracker
	for i, k := range list {
		at := fmt.Sprintf("%s.track[%d]", path, i)
		y.required(at, "kind", k.Kind, string(fsm.TrackInterface), string(fsm.TrackScript), string(fsm.TrackFile), string(fsm.TrackProcess))
		t := fsm.Tracker{
			Kind: fsm.TrackKind(k.Kind), Name: k.Name, Weight: k.Weight, Reverse: k.Reverse, Command: k.Command, User: k.User,
			InitFail: k.InitFail, Path: k.Path, Process: k.Process, FullCommand: k.FullCommand, QuorumMax: k.QuorumMax,
			Delay:       y.duration(at+".delay", k.Delay, 0),
			TerminDelay: y.duration(at+".terminate_delay", k.TerminDelay, 0), StartupDelay: y.duration(at+".fork_delay", k.ForkDelay, 0),
		}
		switch t.Kind {
		case fsm.TrackScript:
			t.Interval = y.duration(at+".interval", k.Interval, time.Second)
			t.Timeout = y.duration(at+".timeout", k.Timeout, t.Interval.D())
			t.Rise, t.Fall = y.bounded(at+".rise", k.Rise, 1, 1, 1000), y.bounded(at+".fall", k.Fall, 1, 1, 1000)
		case fsm.TrackProcess:
			t.Quorum = y.bounded(at+".quorum", k.Quorum, 1, 0, 65535)
		}
		out = append(out, t)
	}
	return out
}

func tracksToYAML(list []fsm.Tracker) []yamlTrack {
	var out []yamlTrack
	for _, t := range list {
		k := yamlTrack{
			Kind: string(t.Kind), Name: t.Name, Weight: t.Weight, Reverse: t.Reverse, Command: t.Command,
			Interval: optional(t.Interval), Timeout: optional(t.Timeout), User: t.User, InitFail: t.InitFail, Path: t.Path,
			Process: t.Process, FullCommand: t.FullCommand, QuorumMax: t.QuorumMax,
			Delay: optional(t.Delay), TerminDelay: optional(t.TerminDelay), ForkDelay: optional(t.StartupDelay),
		}
		switch t.Kind {
		case fsm.TrackScript:
			k.Rise, k.Fall = ptr(t.Rise), ptr(t.Fall)
		case fsm.TrackProcess:
			k.Quorum = ptr(t.Quorum)
		}
		out = append(out, k)
	}
	return out
}

func (n *yamlNotify) read() fsm.Notify {
	if n == nil {
		return fsm.Notify{}
	}
	return fsm.Notify{Master: n.Master.read(), Backup: n.Backup.read(), Fault: n.Fault.read(), Stop: n.Stop.read(), Any: n.Any.read()}
}

func notifyToYAML(n fsm.Notify) *yamlNotify {
	if n == (fsm.Notify{}) {
		return nil
	}
	one := scriptToYAML
	return &yamlNotify{Master: one(n.Master), Backup: one(n.Backup), Fault: one(n.Fault), Stop: one(n.Stop), Any: one(n.Any)}
}
