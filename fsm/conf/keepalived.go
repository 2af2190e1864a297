package conf

import (
	"fmt"
	"strings"

	"lbcluster/fsm"
)

// Parse reads a keepalived.conf. The functions read a file and list the files
// that match a pattern (for include); names are absolute or relative to the
// folder of name.
//
// It always reads to the end. If there is any problem, the result shows only
// how far the file was understood and must not be applied.
func Parse(name string, open func(string) ([]byte, error), glob func(pattern string) ([]string, error)) (Result, []Problem) {
	r := &report{order: map[string]int{name: 0}}
	l := &lexer{report: r, open: open, glob: glob}
	l.file(name, pos{})
	b := &builder{report: r, places: places{"": {place: place{pos: pos{file: name}}}}}
	b.each(tree(r, l.tokens), "the top level", topRules)
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
	mail        *node // the first keyword about mail
}

// each runs the rules over the statements of one block.
func (b *builder) each(nodes []*node, where string, rules map[string]rule) {
	seen := map[string]*node{}
	for _, n := range nodes {
		r, ok := rules[n.word]
		if !ok {
			b.stranger(n, where)
			continue
		}
		if first := seen[n.word]; first != nil && !r.repeat {
			b.notice(n.pos, n.word, "said before in line %d; the last one counts", first.pos.line)
		}
		seen[n.word] = n
		if b.fits(n, r) {
			r.do(b, n)
		}
	}
}

// fits checks a statement's outward form.
func (b *builder) fits(n *node, r rule) bool {
	switch {
	case r.block && !n.block:
		b.problem(n.pos, n.word, "needs a block: { is missing")
	case !r.block && n.block:
		b.problem(n.pos, n.word, "takes no block")
	case len(n.args) < r.min:
		b.problem(n.pos, n.word, "needs %s after it", count(r.min))
	case r.max >= 0 && len(n.args) > r.max:
		b.problem(n.pos, n.word, "takes %s after it, not also %q", count(r.max), strings.Join(n.args[r.max:], " "))
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

// stranger reports a keyword that has no rule where it stands; its block is
// not looked into, so that one error stays one.
func (b *builder) stranger(n *node, where string) {
	place := belongs(n.word)
	switch {
	case place != "":
		b.problem(n.pos, n.word, "belongs in %s, not in %s", place, where)
	case known[n.word]:
		b.problem(n.pos, n.word, "not supported yet")
	default:
		b.problem(n.pos, n.word, "unknown keyword in %s", where)
	}
}

// wrong reports a bad value of n.
func (b *builder) wrong(n *node, err error) { b.problem(n.pos, n.word, "%v", err) }

var topRules map[string]rule

// Rules of keywords with blocks lead back to the maps they stand in, which the
// language allows only in an init.
func init() {
	topRules = map[string]rule{
		"global_defs":     {block: true, repeat: true, do: (*builder).readGlobals},
		"vrrp_instance":   {min: 1, max: 1, block: true, repeat: true, do: (*builder).readRouter},
		"virtual_server":  {min: 1, max: 2, block: true, repeat: true, do: (*builder).readService},
		"vrrp_sync_group": {min: 1, max: 1, block: true, repeat: true, do: (*builder).readGroup},
	}
	for word := range definitionBlocks {
		topRules[word] = rule{min: 1, max: 1, block: true, repeat: true, do: (*builder).readDefinition}
	}
}

// finish turns drafts into the configuration and checks the whole.
func (b *builder) finish() {
	b.users()
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
	b.unused()
	if b.mail != nil {
		b.notice(b.mail.pos, b.mail.word, "mail settings are stored and exported, but no mail is sent yet")
	}
	if len(b.problems) == 0 && len(b.cfg.Routers)+len(b.cfg.Services) == 0 {
		b.notice(b.places[""].pos, "", "the file names no vrrp_instance and no virtual_server")
	}
	validate(b.report, b.places, b.cfg)
}
