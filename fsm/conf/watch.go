package conf

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"lbcluster/fsm"
)

// definition is a vrrp_script, a track_file or a vrrp_track_process: a tracker
// that instances and groups then name.
type definition struct {
	fsm.Tracker
	at   *node
	said map[string]*node
	used bool
}

// use is one line of a track_* block.
type use struct {
	kind fsm.TrackKind
	at   *node
}

// definitionBlocks are the blocks that define trackers, by keyword.
var definitionBlocks = map[string]struct {
	kind  fsm.TrackKind
	rules map[string]rule
}{
	"vrrp_script":        {fsm.TrackScript, scriptRules},
	"track_file":         {fsm.TrackFile, fileRules},
	"vrrp_track_file":    {fsm.TrackFile, fileRules}, // the name until keepalived 2.1
	"vrrp_track_process": {fsm.TrackProcess, processRules},
}

var scriptRules = map[string]rule{
	"script":    {min: 1, max: 1, do: func(b *builder, n *node) { b.tracker.Command = n.args[0]; b.define(n) }},
	"interval":  {min: 1, max: 1, do: func(b *builder, n *node) { b.scriptTimer(n, &b.tracker.Interval) }},
	"timeout":   {min: 1, max: 1, do: func(b *builder, n *node) { b.scriptTimer(n, &b.tracker.Timeout) }},
	"rise":      {min: 1, max: 1, do: func(b *builder, n *node) { b.readCount(n, 1, 1000, &b.tracker.Rise) }},
	"fall":      {min: 1, max: 1, do: func(b *builder, n *node) { b.readCount(n, 1, 1000, &b.tracker.Fall) }},
	"weight":    {min: 1, max: 2, do: func(b *builder, n *node) { b.readTrackWeight(n, n.args, 253, &b.tracker.Tracker); b.define(n) }},
	"user":      {min: 1, max: 2, do: func(b *builder, n *node) { b.tracker.User = strings.Join(n.args, ":") }},
	"init_fail": {do: func(b *builder, n *node) { b.tracker.InitFail = true }},
}

var fileRules = map[string]rule{
	"file":   {min: 1, max: 1, do: func(b *builder, n *node) { b.tracker.Path = n.args[0]; b.define(n) }},
	"weight": {min: 1, max: 2, do: func(b *builder, n *node) { b.readTrackWeight(n, n.args, 254, &b.tracker.Tracker); b.define(n) }},
	"init_file": {max: 2, do: func(b *builder, n *node) {
		b.notice(n.pos, n.word, "not acted on: the file is not made, and counts as 0 while it is not there")
	}},
}

var processRules = map[string]rule{
	"process":         {min: 1, max: -1, do: (*builder).readProcess},
	"weight":          {min: 1, max: 2, do: func(b *builder, n *node) { b.readTrackWeight(n, n.args, 254, &b.tracker.Tracker); b.define(n) }},
	"quorum":          {min: 1, max: 1, do: func(b *builder, n *node) { b.readCount(n, 1, 65535, &b.tracker.Quorum) }},
	"quorum_max":      {min: 1, max: 1, do: (*builder).readQuorumMax},
	"fork_delay":      {min: 1, max: 1, do: func(b *builder, n *node) { b.readTimer(n, n.args[0], 0, &b.tracker.StartupDelay) }},
	"terminate_delay": {min: 1, max: 1, do: func(b *builder, n *node) { b.readTimer(n, n.args[0], 0, &b.tracker.TerminDelay) }},
	"delay": {min: 1, max: 1, do: func(b *builder, n *node) {
		b.readTimer(n, n.args[0], 0, &b.tracker.StartupDelay)
		b.tracker.TerminDelay = b.tracker.StartupDelay
	}},
	"full_command": {do: func(b *builder, n *node) { b.tracker.FullCommand = true }},
}

// define remembers where a keyword of the current definition stands.
func (b *builder) define(n *node) { b.tracker.said[n.word] = n }

// readDefinition reads a block that defines a tracker, with keepalived's
// defaults (man keepalived.conf(5)).
func (b *builder) readDefinition(n *node) {
	block := definitionBlocks[n.word]
	if first := b.defined(block.kind, n.args[0]); first != nil {
		b.problem(n.pos, n.word, "%s is already in line %d of %s", n.args[0], first.at.pos.line, first.at.pos.file)
		return
	}
	d := &definition{Tracker: fsm.Tracker{Kind: block.kind, Name: n.args[0]}, at: n, said: map[string]*node{}}
	switch block.kind {
	case fsm.TrackScript:
		d.Interval, d.Rise, d.Fall = fsm.Duration(time.Second), 1, 1
	case fsm.TrackFile:
		d.Weight = 1
	case fsm.TrackProcess:
		d.Weight, d.Quorum = 1, 1
	}
	b.tracker = d
	b.definitions = append(b.definitions, d)
	b.each(n.kids, n.word, block.rules)
	if d.Kind == fsm.TrackScript && d.Timeout == 0 {
		d.Timeout = d.Interval
	}
	for kind, needed := range map[fsm.TrackKind]string{fsm.TrackScript: "script", fsm.TrackFile: "file", fsm.TrackProcess: "process"} {
		if d.Kind == kind && d.said[needed] == nil {
			b.doubt(n.pos, n.word, sprint("%s has no %s", d.Name, needed), "it is left out")
			b.definitions = slices.DeleteFunc(b.definitions, func(o *definition) bool { return b.lenient && o == d })
		}
	}
}

// scriptTimer reads a script's interval or timeout, of which keepalived makes a
// second if it is 0.
func (b *builder) scriptTimer(n *node, to *fsm.Duration) {
	b.define(n)
	d, err := timer(n.args[0])
	if err != nil || d > 0 {
		b.readTimer(n, n.args[0], time.Millisecond, to)
		return
	}
	if b.doubt(n.pos, n.word, sprint("must be at least %v", time.Millisecond), "1 s is taken") {
		*to = fsm.Duration(time.Second)
	}
}

func (b *builder) defined(kind fsm.TrackKind, name string) *definition {
	i := slices.IndexFunc(b.definitions, func(d *definition) bool { return d.Kind == kind && d.Name == name })
	if i < 0 {
		return nil
	}
	return b.definitions[i]
}

func (b *builder) readCount(n *node, low, high uint64, to *int) {
	v, err := number(n.args[0], low, high)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = int(v)
}

// readProcess keeps the words: a name that holds a blank is quoted again, so
// that they can be told apart.
func (b *builder) readProcess(n *node) {
	b.define(n)
	words := slices.Clone(n.args)
	for i, w := range words {
		if strings.ContainsAny(w, " \t") {
			words[i] = "'" + w + "'"
		}
	}
	b.tracker.Process = strings.Join(words, " ")
}

// readQuorumMax: 0 means that no such process may run, which the table writes
// as -1: its 0 is "any number".
func (b *builder) readQuorumMax(n *node) {
	b.readCount(n, 0, 65535, &b.tracker.QuorumMax)
	if n.args[0] == "0" {
		b.tracker.QuorumMax, b.tracker.Quorum = -1, 0
	}
}

// readTrackWeight reads "N [reverse|noreverse]".
func (b *builder) readTrackWeight(n *node, args []string, bound int, t *fsm.Tracker) {
	v, err := strconv.Atoi(args[0])
	if err != nil || v < -bound || v > bound {
		b.doubt(n.pos, n.word, sprint("weight %q is not a whole number from %d to %d", args[0], -bound, bound), "it is ignored")
		return
	}
	t.Weight = v
	if len(args) == 1 {
		return
	}
	switch args[1] {
	case "reverse":
		t.Reverse = true
	case "noreverse", "no_reverse":
		t.Reverse = false
	default:
		b.problem(n.pos, n.word, "%q after the weight is neither reverse nor noreverse", args[1])
	}
}

// trackRules are the rules of the track_* blocks of whatever list to returns.
func trackRules(to func(*builder) *[]use) map[string]rule {
	block := func(kind fsm.TrackKind) rule {
		return rule{block: true, repeat: true, do: func(b *builder, n *node) {
			for _, k := range n.kids {
				if k.block {
					b.problem(k.pos, k.word, "takes no block")
					continue
				}
				*to(b) = append(*to(b), use{kind, k})
			}
		}}
	}
	return map[string]rule{
		"track_interface": block(fsm.TrackInterface), "track_script": block(fsm.TrackScript),
		"track_file": block(fsm.TrackFile), "track_process": block(fsm.TrackProcess),
	}
}

// resolve turns the lines of track_* blocks into trackers: definitions may
// follow those who use them.
func (b *builder) resolve(uses []use) []fsm.Tracker {
	var list []fsm.Tracker
	for _, u := range uses {
		t := fsm.Tracker{Kind: u.kind, Name: u.at.word}
		if u.kind != fsm.TrackInterface {
			d := b.defined(u.kind, t.Name)
			if d == nil {
				b.doubt(u.at.pos, "track_"+string(u.kind), sprint("there is no %s %s", definedBy(u.kind), t.Name), "it is left out")
				continue
			}
			d.used = true
			t = d.Tracker
		}
		b.trackOptions(u, &t)
		same := func(o fsm.Tracker) bool { return o.Kind == t.Kind && o.Name == t.Name }
		if slices.ContainsFunc(list, same) {
			b.notice(u.at.pos, t.Name, "tracked already; the first one counts")
			continue
		}
		list = append(list, t)
	}
	return list
}

func (b *builder) trackOptions(u use, t *fsm.Tracker) {
	args := u.at.args
	if len(args) == 0 {
		return
	}
	if args[0] != "weight" || len(args) < 2 || len(args) > 3 {
		b.problem(u.at.pos, u.at.word, "%q is not understood: weight N, and reverse after it, may follow a name", strings.Join(args, " "))
		return
	}
	bound := 253
	if u.kind == fsm.TrackFile || u.kind == fsm.TrackProcess {
		bound = 254
	}
	b.readTrackWeight(u.at, args[1:], bound, t)
}

// definedBy is the block that defines trackers of a kind.
func definedBy(kind fsm.TrackKind) string {
	switch kind {
	case fsm.TrackFile:
		return "track_file"
	case fsm.TrackProcess:
		return "vrrp_track_process"
	}
	return "vrrp_script"
}

// unweighted forces the weights of a sync group's members to 0, as keepalived
// does unless sync_group_tracking_weight says that all have the same.
func (b *builder) unweighted(d *routerDraft, g *groupDraft) {
	for i, t := range d.Track {
		if t.Weight == 0 || g.weights {
			continue
		}
		at := d.at
		if j := slices.IndexFunc(d.uses, func(u use) bool { return u.kind == t.Kind && u.at.word == t.Name }); j >= 0 {
			at = d.uses[j].at
		}
		what := "as in keepalived"
		if t.Kind == fsm.TrackScript || t.Kind != fsm.TrackInterface && t.Weight != 1 { // 1 is the default of files and processes
			what = "whereas keepalived 2.2 drops such a tracker from the instance (sync_group_tracking_weight keeps it, with its weight, in both)"
		}
		b.notice(at.pos, t.Name, "%s is in %s %s: its weight %d counts as 0, so a failure is a FAULT, %s", d.Name, "vrrp_sync_group", g.Name, t.Weight, what)
		d.Track[i].Weight = 0
	}
}

// unused tells of trackers that nobody names.
func (b *builder) unused() {
	for _, d := range b.definitions {
		if !d.used {
			b.notice(d.at.pos, d.at.word, "%s is not used, and not kept", d.Name)
		}
	}
}

// notifyRules are the rules of the notify_* keywords of whatever to returns.
// scriptRule reads a program with its user and group.
func scriptRule(to func(*builder) **fsm.Script) rule {
	return rule{min: 1, max: 3, do: func(b *builder, n *node) {
		if strings.TrimSpace(n.args[0]) == "" {
			b.problem(n.pos, n.word, "names no program")
			return
		}
		*to(b) = &fsm.Script{Command: n.args[0], User: strings.Join(n.args[1:], ":")}
	}}
}

func notifyRules(to func(*builder) *fsm.Notify) map[string]rule {
	one := func(which func(*fsm.Notify) **fsm.Script) rule {
		return scriptRule(func(b *builder) **fsm.Script { return which(to(b)) })
	}
	return map[string]rule{
		"notify_master": one(func(n *fsm.Notify) **fsm.Script { return &n.Master }),
		"notify_backup": one(func(n *fsm.Notify) **fsm.Script { return &n.Backup }),
		"notify_fault":  one(func(n *fsm.Notify) **fsm.Script { return &n.Fault }),
		"notify_stop":   one(func(n *fsm.Notify) **fsm.Script { return &n.Stop }),
		"notify":        one(func(n *fsm.Notify) **fsm.Script { return &n.Any }),
	}
}

// users gives scripts that name no user the file's script_user.
func (b *builder) users() {
	if b.scriptUser == "" {
		return
	}
	for _, d := range b.definitions {
		if d.Kind == fsm.TrackScript && d.User == "" {
			d.User = b.scriptUser
		}
	}
	set := func(n *fsm.Notify) {
		for _, s := range []*fsm.Script{n.Master, n.Backup, n.Fault, n.Stop, n.Any} {
			if s != nil && s.User == "" {
				s.User = b.scriptUser
			}
		}
	}
	for _, d := range b.routers {
		set(&d.Notify)
	}
	for _, g := range b.groups {
		set(&g.Notify)
	}
	b.upDownUsers()
}

// groupDraft is a vrrp_sync_group.
type groupDraft struct {
	fsm.SyncGroup
	at      *node
	uses    []use
	weights bool // sync_group_tracking_weight
}

var groupRules = with(with(trackRules(func(b *builder) *[]use { return &b.group.uses }),
	notifyRules(func(b *builder) *fsm.Notify { return &b.group.Notify })), map[string]rule{
	"group":                      {block: true, repeat: true, do: (*builder).readMembers},
	"sync_group_tracking_weight": {do: func(b *builder, n *node) { b.group.weights = true }},
	"global_tracking": {do: func(b *builder, n *node) {
		b.notice(n.pos, n.word, "not acted on: keepalived itself calls it deprecated; track_* in the group does what it did")
	}},
})

func (b *builder) readGroup(n *node) {
	for _, g := range b.groups {
		if g.Name == n.args[0] {
			b.doubt(n.pos, n.word, sprint("%s is already in line %d of %s", n.args[0], g.at.pos.line, g.at.pos.file), "this one is left out")
			return
		}
	}
	b.group = &groupDraft{SyncGroup: fsm.SyncGroup{Name: n.args[0]}, at: n}
	b.groups = append(b.groups, b.group)
	b.each(n.kids, n.word, groupRules)
	if len(b.group.Routers) == 0 {
		b.problem(n.pos, n.word, "%s names no vrrp_instance in a group { }", b.group.Name)
	}
}

func (b *builder) readMembers(n *node) {
	for _, k := range n.kids {
		for _, name := range append([]string{k.word}, k.args...) {
			b.group.Routers = append(b.group.Routers, name)
		}
	}
}

// addGroup hands the group over; its members' trackers lose their weights.
func (b *builder) addGroup(g *groupDraft) {
	g.Track = b.resolve(g.uses)
	for _, d := range b.routers {
		if slices.Contains(g.Routers, d.Name) {
			b.unweighted(d, g)
		}
	}
	b.places.element(groupPath(g.Name), place{g.at.pos, g.at.word})
	b.cfg.Groups = append(b.cfg.Groups, g.SyncGroup)
}

// groupPath is the path that package fsm uses.
func groupPath(name string) string { return "vrrp_sync_group " + name }
