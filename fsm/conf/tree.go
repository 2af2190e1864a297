package conf

import "slices"

// node is one statement: a keyword, its words and, if it has one, its block.
type node struct {
	pos   pos
	word  string
	args  []string
	cols  []int32 // of the args, in the line of pos
	block bool
	kids  []*node
}

// arg is the place of the i-th word after the keyword, or of the keyword if
// there is none.
func (n *node) arg(i int) pos {
	p := n.pos
	if i < len(n.cols) {
		p.col = int(n.cols[i])
	}
	return p
}

// blockParents says where a block's keyword may stand; "" is the top level. It
// serves only to find the block whose } is missing when a keyword turns up too
// deep.
var blockParents = map[string][]string{
	"global_defs": {""}, "vrrp_instance": {""}, "vrrp_sync_group": {""}, "vrrp_script": {""}, "vrrp_track_process": {""},
	"virtual_server": {""}, "virtual_server_group": {""},
	"static_ipaddress": {""}, "static_routes": {""}, "static_rules": {""}, "bfd_instance": {""},
	"real_server":       {"virtual_server"},
	"virtual_ipaddress": {"vrrp_instance"}, "authentication": {"vrrp_instance"},
	"TCP_CHECK": {"real_server"}, "HTTP_GET": {"real_server"}, "SSL_GET": {"real_server"},
	"SMTP_CHECK": {"real_server"}, "MISC_CHECK": {"real_server"}, "DNS_CHECK": {"real_server"},
	"UDP_CHECK": {"real_server"}, "PING_CHECK": {"real_server"}, "url": {"HTTP_GET", "SSL_GET"},
}

// treeBuilder nests tokens into nodes.
type treeBuilder struct {
	*report
	top   node
	stack []*node // open blocks, outermost first; stack[0] is the top
	cur   *node   // the statement being read; nil between statements
	last  *node   // the statement before, whose { may follow on a later line
}

// tree nests tokens. Whatever is wrong with the braces is reported with the
// place of the block concerned, and reading goes on as well as it can.
func tree(r *report, tokens []token) []*node {
	t := &treeBuilder{report: r}
	t.stack = []*node{&t.top}
	for _, tok := range tokens {
		switch tok.kind {
		case word:
			t.word(tok)
		case open:
			t.open(tok)
		case shut:
			t.shut(tok)
		case boundary:
			t.cur = nil
		}
	}
	for _, n := range t.stack[1:] {
		t.doubt(n.pos, n.word, "the block that begins here is never closed: a } is missing", "it ends with the file")
	}
	return t.top.kids
}

func (t *treeBuilder) word(tok token) {
	if t.cur != nil {
		t.cur.args = append(t.cur.args, tok.text)
		t.cur.cols = append(t.cur.cols, int32(tok.pos.col))
		return
	}
	t.begun(tok)
	t.recover(tok)
	t.cur = &node{pos: tok.pos, word: tok.text}
	t.last = t.cur
	in := t.stack[len(t.stack)-1]
	in.kids = append(in.kids, t.cur)
}

// opensBlock says whether a keyword of a block opens one itself.
func opensBlock(in, word string) bool {
	return word != "virtual_server_group" && slices.Contains(blockParents[word], in)
}

// begun opens the block of the statement before if its { is missing: its
// content is meant for it, and so is the } that follows.
func (t *treeBuilder) begun(tok token) {
	n := t.last
	in := t.stack[len(t.stack)-1]
	if n == nil || n.block || !opensBlock(in.word, n.word) || opensBlock(in.word, tok.text) {
		return
	}
	t.doubt(n.pos, n.word, "needs a block: { is missing", "the block begins on the next line")
	n.block = true
	t.stack = append(t.stack, n)
	t.last = nil
}

// recover closes blocks that must have been meant to be closed: when the word
// is one that opens a block and stands too deep, but an outer block may hold it.
func (t *treeBuilder) recover(tok token) {
	parents, ok := blockParents[tok.text]
	if !ok || tok.quoted || t.lenient {
		return
	}
	inner := t.stack[len(t.stack)-1]
	if slices.Contains(parents, inner.word) {
		return
	}
	for i := len(t.stack) - 2; i >= 0; i-- {
		if !slices.Contains(parents, t.stack[i].word) || (i == 0) != (parents[0] == "") {
			continue
		}
		for _, n := range t.stack[i+1:] {
			t.problem(n.pos, n.word, "the block that begins here is not closed before %s in line %d: a } is missing", tok.text, tok.pos.line)
		}
		t.stack = t.stack[:i+1]
		return
	}
}

func (t *treeBuilder) open(tok token) {
	n := t.last
	if n == nil || n.block {
		if t.doubt(tok.pos, "{", "there is no keyword before this {", "it is ignored") {
			return
		}
		n = &node{pos: tok.pos, word: "{"} // outside the tree: its content is skipped
	}
	n.block = true
	t.stack = append(t.stack, n)
	t.cur, t.last = nil, nil
}

func (t *treeBuilder) shut(tok token) {
	t.cur, t.last = nil, nil
	if len(t.stack) == 1 {
		t.doubt(tok.pos, "}", "there is no open block that this } could close", "it is ignored")
		return
	}
	t.stack = t.stack[:len(t.stack)-1]
}
