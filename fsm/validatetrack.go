package fsm

import (
	"fmt"
	"strings"
	"time"
)

// Limits of trackers and scripts.
const (
	// MaxTrackWeight is keepalived's: with a base priority of 1 to 254 more
	// would have no meaning.
	MaxTrackWeight = 253
	maxCommand     = 1024
	maxQuorum      = 65535
)

// trackPath begins complaints with keepalived's keyword and the tracker's name.
func (k Tracker) trackPath() string { return "track_" + string(k.Kind) + " " + k.Name }

func (p *problems) trackers(path string, all []Tracker) {
	seen := map[string]bool{}
	for _, k := range all {
		if what := k.trackPath(); seen[what] {
			p.add(path, "%s is there twice", what)
		} else {
			seen[what] = true
		}
		p.tracker(path, k)
	}
}

func (p *problems) tracker(path string, k Tracker) {
	bad := func(format string, args ...any) {
		p.add(path, "%s: %s", k.trackPath(), fmt.Sprintf(format, args...))
	}
	if k.Kind == TrackInterface {
		p.device(path, "track_interface", k.Name)
	}
	if name := nameProblem(k.Name); name != "" && (k.Kind != TrackInterface || k.Name == "") {
		bad("%s", name)
	}
	if most := k.maxWeight(); k.Weight < -most || k.Weight > most {
		bad("weight %d is not within -%d to %d", k.Weight, most, most)
	}
	if user := userProblem(k.User); user != "" {
		bad("%s", user)
	}
	for _, d := range []Duration{k.Interval, k.Timeout, k.Delay, k.TerminDelay, k.StartupDelay} {
		if d < 0 || d.D() > maxDelay {
			bad("%v is not within 0s to %v", d, maxDelay)
		}
	}
	switch k.Kind {
	case TrackInterface:
	case TrackScript:
		k.scriptProblems(bad)
	case TrackFile:
		if !strings.HasPrefix(k.Path, "/") || !isClean(k.Path, maxCommand) {
			bad("file %q is no absolute path of up to %d bytes", k.Path, maxCommand)
		}
	case TrackProcess:
		k.processProblems(bad)
	default:
		bad("%q is nothing that can be tracked: known are %s, %s, %s, %s", k.Kind,
			TrackInterface, TrackScript, TrackFile, TrackProcess)
	}
}

// maxWeight: of files and processes keepalived takes one more.
func (k Tracker) maxWeight() int {
	if k.Kind == TrackFile || k.Kind == TrackProcess {
		return MaxTrackWeight + 1
	}
	return MaxTrackWeight
}

func (k Tracker) scriptProblems(bad func(string, ...any)) {
	if text := commandProblem(k.Command); text != "" {
		bad("%s", text)
	}
	if k.Interval.D() < time.Millisecond {
		bad("interval %v: it must be at least 1ms", k.Interval)
	}
	if k.Rise < 0 || k.Rise > maxRetry || k.Fall < 0 || k.Fall > maxRetry {
		bad("rise %d and fall %d must be within 0 to %d", k.Rise, k.Fall, maxRetry)
	}
}

func (k Tracker) processProblems(bad func(string, ...any)) {
	if text := commandProblem(k.Process); text != "" {
		bad("%s", text)
	}
	if k.Quorum < 0 || k.Quorum > maxQuorum || k.QuorumMax < -1 || k.QuorumMax > maxQuorum {
		bad("quorum %d and quorum_max %d must be within 0 to %d", k.Quorum, k.QuorumMax, maxQuorum)
	}
	if k.QuorumMax > 0 && k.QuorumMax < k.Quorum {
		bad("quorum_max %d is below the quorum, %d", k.QuorumMax, k.Quorum)
	}
}

// commandProblem says why s is no program to run; "" if it is one.
func commandProblem(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "it names no program"
	case !isClean(s, maxCommand):
		return fmt.Sprintf("the command has control characters in it or is longer than %d bytes", maxCommand)
	}
	return ""
}

func userProblem(s string) string {
	if len(s) > 64 || !isClean(s, 64) || strings.HasPrefix(s, "-") {
		return fmt.Sprintf("user %q is no user name", s)
	}
	return ""
}

func (p *problems) notify(path string, n Notify) {
	for _, s := range n.scripts() {
		p.script(path, s.keyword, s.script)
	}
}

// groups finds what is wrong with cfg's sync groups.
func (p *problems) groups(cfg Config) {
	routers := map[string]bool{}
	for _, r := range cfg.Routers {
		routers[r.Name] = true
	}
	names, member := map[string]bool{}, map[string]string{}
	for i, g := range cfg.Groups {
		path := groupPath(g.Name)
		if g.Name == "" {
			path = fmt.Sprintf("vrrp_sync_group #%d", i+1)
		}
		p.addIf(path, nameProblem(g.Name))
		if names[g.Name] && g.Name != "" {
			p.add(path, "there is a sync group of this name already")
		}
		names[g.Name] = true
		if len(g.Routers) == 0 {
			p.add(path, "group is empty: name the virtual routers that move together")
		}
		for _, name := range g.Routers {
			p.inGroup(path, name, routers[name], member)
		}
		p.trackers(path, g.Track)
		p.notify(path, g.Notify)
	}
}

// inGroup checks one router of a group; member has the group of each router so far.
func (p *problems) inGroup(path, router string, known bool, member map[string]string) {
	first, taken := member[router]
	switch {
	case !known:
		p.add(path, "group %s: there is no such virtual router in the same file", quoted(router))
	case taken && first == path:
		p.add(path, "group %s: it is there twice", router)
	case taken:
		p.add(path, "group %s: it is in %s already: one lease moves one router", router, first)
	}
	member[router] = path
}
