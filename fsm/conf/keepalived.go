package conf

import (
	"fmt"
	"strconv"
	"strings"

	"lbcluster/fsm"
)

// Reader reads a keepalived.conf. The functions read a file and list the files
// that match a pattern (for include); names are absolute or relative to the
// folder of the file.
type Reader struct {
	Open func(string) ([]byte, error)
	Glob func(pattern string) ([]string, error) // nil: wildcards are a problem
	// Env is the environment, for ${_ENV NAME}; nil: empty.
	Env func(string) (string, bool)
	// ConfigID is what @ID lines are compared with, and $_INSTANCE: keepalived's
	// --config-id, by default the host's name up to the first dot.
	ConfigID string
	// Folder is the absolute path that relative names are relative to, for
	// $_PWD.
	Folder string
	// Lenient passes over what keepalived logs and passes over, in its way, and
	// says so in notices. What cannot be applied is still a problem.
	Lenient bool

	limits *limits // nil: the standard ones
}

// Parse reads a file strictly, without a configuration id.
func Parse(name string, open func(string) ([]byte, error), glob func(pattern string) ([]string, error)) (Result, []Problem) {
	return Reader{Open: open, Glob: glob}.Read(name)
}

// Read always reads to the end. If there is any problem, the result shows only
// how far the file was understood and must not be applied.
func (o Reader) Read(name string) (Result, []Problem) {
	r := &report{order: map[string]int{name: 0}, lenient: o.Lenient}
	l := newLexer(r, o)
	l.first(name)
	if l.conditional && o.ConfigID != "" {
		r.notice(pos{file: name}, "", "lines with @ and $_INSTANCE are read for the configuration id %s (--config-id chooses another)", o.ConfigID)
	}
	b := &builder{report: r, places: places{"": {place: place{pos: pos{file: name}}}}, serverGroups: map[string]*serverGroup{}}
	b.each(tree(r, l.tokens), topLevel, topRules)
	b.finish()
	r.sort()
	return Result{Config: b.cfg, Notices: r.notices, places: b.places}, r.problems
}

// rule says what a keyword takes and what it does.
type rule struct {
	min, max int  // words after the keyword; max -1: any number
	block    bool // a { } must follow
	// repeat: the keyword may stand several times in one block. Of others, the
	// last counts, as in keepalived.
	repeat bool
	do     func(*builder, *node)
}

// builder makes a configuration of a tree. The pointers are the resource that
// is being read.
type builder struct {
	*report
	places  places
	cfg     fsm.Config
	version uint8 // vrrp_version
	peers   peerDefaults
	// defaultInterface is that of routers that name none.
	defaultInterface string
	// scriptUser is what scripts run as that name no user.
	scriptUser string

	router  *routerDraft
	service *serviceDraft
	server  *serverDraft
	check   *checkDraft
	group   *groupDraft
	tracker *definition

	routers     []*routerDraft
	services    []*serviceDraft
	groups      []*groupDraft
	definitions []*definition
	// serverGroups are the virtual_server_groups by name.
	serverGroups map[string]*serverGroup
	expanded     int   // virtual and real servers so far
	mail         *node // the first keyword about mail
	alerts       alerts
	sync         *node // lvs_sync_daemon
	syncID       int   // its id; negative: not said

	// spilt is, in a lenient reading, what stray ends moved out of its block: the
	// last to the block around it, the one before to the block around that, and
	// so on.
	spilt [][]*node
}

// topLevel is what messages call the file outside all blocks.
const topLevel = "the top level"

// each runs the rules over the statements of one block.
func (b *builder) each(nodes []*node, where string, rules map[string]rule) {
	seen := map[string]*node{}
	todo := [][]*node{nodes} // the last comes first
	for len(todo) > 0 {
		last := len(todo) - 1
		if len(todo[last]) == 0 {
			todo = todo[:last]
			continue
		}
		n := todo[last][0]
		todo[last] = todo[last][1:]
		r, ok := rules[n.word]
		if !ok {
			if b.stranger(n, where) && n.block {
				todo = b.spill(where, todo, nil, n.kids)
			}
			continue
		}
		if first := seen[n.word]; first != nil && !r.repeat {
			b.notice(n.pos, n.word, "said before in line %d; the last one counts", first.pos.line)
		}
		seen[n.word] = n
		if !b.fits(n, r) {
			continue
		}
		outer := b.spilt
		b.spilt = nil
		r.do(b, n)
		inner := b.spilt
		b.spilt = outer
		if i := len(inner) - 1; i >= 0 {
			todo = b.spill(where, todo, inner[:i], inner[i])
		}
	}
}

// spill mimics what keepalived makes of a block of an unknown keyword: the brace
// is ignored, what is in the block belongs to the one around it (next), and the
// block's end is the end of that. What then follows there (todo) belongs one
// level further out, and so on; between are levels that come before it. It
// returns what is left to do in this block.
func (b *builder) spill(where string, todo, between [][]*node, next []*node) [][]*node {
	if where == topLevel { // there is nothing further out
		return append(append(todo, between...), next)
	}
	b.spilt = append(append(b.spilt, todo...), between...)
	return [][]*node{next}
}

// fits checks a statement's outward form.
func (b *builder) fits(n *node, r rule) bool {
	switch {
	case r.block && !n.block:
		b.problem(n.pos, n.word, "needs a block: { is missing")
	case !r.block && n.block:
		b.problem(n.pos, n.word, "takes no block")
	case len(n.args) < r.min:
		b.doubt(n.pos, n.word, sprint("needs %s after it", count(r.min)), "it is ignored")
	case r.max >= 0 && len(n.args) > r.max:
		more := strings.Join(n.args[r.max:], " ")
		if !b.doubt(n.arg(r.max), n.word, sprint("takes %s after it, not also %q", count(r.max), more), "the rest is ignored") {
			return false
		}
		n.args = n.args[:r.max]
		return true
	default:
		return true
	}
	return false
}

func count(n int) string {
	switch n {
	case 0:
		return "nothing"
	case 1:
		return "one value"
	}
	return fmt.Sprintf("%d values", n)
}

// stranger reports a keyword that has no rule where it stands; strictly, its
// block is not looked into, so that one error stays one. It says whether the
// keyword is to be treated as unknown, as keepalived would.
func (b *builder) stranger(n *node, where string) (unknown bool) {
	if b.listed(n, where) {
		return false
	}
	if place := belongs(n.word); place != "" {
		return b.doubt(n.pos, n.word, sprint("belongs in %s, not in %s", place, where), "it is ignored")
	}
	guess := "it is ignored"
	if n.block {
		guess = "it is ignored with its braces, what is in it counts for what is around it, and its end as the end of that"
	}
	return b.doubt(n.pos, n.word, sprint("unknown keyword in %s", where), guess)
}

// wrong reports a bad value of n, which keepalived reports and ignores.
func (b *builder) wrong(n *node, err error) {
	b.doubt(n.blame(err.Error()), n.word, err.Error(), "it is ignored")
}

// blame is the place of the word that a text begins with; else of the first
// word after the keyword.
func (n *node) blame(text string) pos {
	if strings.HasPrefix(text, strconv.Quote(n.word)) {
		return n.pos
	}
	for i, s := range n.args {
		if strings.HasPrefix(text, strconv.Quote(s)) {
			return n.arg(i)
		}
	}
	return n.arg(0)
}

var topRules map[string]rule

// Rules of keywords with blocks lead back to the maps they stand in, which the
// language allows only in an init.
func init() {
	topRules = map[string]rule{
		"global_defs":          {block: true, repeat: true, do: (*builder).readGlobals},
		"vrrp_instance":        {min: 1, max: 1, block: true, repeat: true, do: (*builder).readRouter},
		"virtual_server":       {min: 1, max: 2, block: true, repeat: true, do: (*builder).readService},
		"virtual_server_group": {min: 1, max: 1, block: true, repeat: true, do: (*builder).readServerGroup},
		"vrrp_sync_group":      {min: 1, max: 1, block: true, repeat: true, do: (*builder).readGroup},
	}
	for word := range definitionBlocks {
		topRules[word] = rule{min: 1, max: 1, block: true, repeat: true, do: (*builder).readDefinition}
	}
}

// finish turns drafts into the configuration and checks the whole.
func (b *builder) finish() {
	b.users()
	b.settleAlerts()
	for _, d := range b.routers {
		d.Track = b.resolve(d.uses)
	}
	for _, g := range b.groups {
		b.addGroup(g)
	}
	for _, d := range b.routers {
		b.addRouter(d)
	}
	for _, d := range b.services {
		b.addService(d)
	}
	b.settleSync()
	b.unused()
	b.unusedServerGroups()
	if len(b.problems) == 0 && len(b.cfg.Routers)+len(b.cfg.Services) == 0 {
		b.notice(b.places[""].pos, "", "the file names no vrrp_instance and no virtual_server")
	}
	validate(b.report, b.places, b.cfg)
}
