package conf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// words shows what the lexer makes of a text: words, braces, and | for the end
// of a statement.
func words(t *testing.T, m memory) (string, *report) {
	t.Helper()
	r := &report{order: map[string]int{}}
	l := newLexer(r, Reader{Open: m.open, Glob: m.glob})
	l.first("f")
	var out []string
	for _, tok := range l.tokens {
		if tok.kind == boundary {
			tok.text = "|"
		}
		out = append(out, tok.text)
	}
	return strings.Join(out, " "), r
}

func TestLexing(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"words and tabs", "a  b\tc\n", "a b c |"},
		{"CR LF", "a b\r\nc\r\n", "a b | c |"},
		{"no line end", "a", "a |"},
		{"blank and comment lines", "\n  \n# x\n! y\n   #z\na\n", "a |"},
		{"comments behind words", "a b # c\na b ! c\n", "a b | a b |"},
		{"comment inside a word", "a b#c d\ne f!g\n", "a b | e f |"},
		{"protected comment signs", `a b\#c \!d` + "\n", "a b#c !d |"},
		{"quoted comment signs", `a "b # c" "d!e"` + "\n", `a b # c d!e |`},
		{"a quote inside a comment", "a # it's \"\nb\n", "a | b |"},
		{"braces stick to words", "a{b}c\n", "a | { b | } c |"},
		{"braces in quotes", `a "{b}"` + "\n", "a {b} |"},
		{"brace on the next line", "a\n{\n", "a | {"},
		{"an empty word", `a ""` + "\n", "a  |"},
		{"quote in the middle", `a b"c d"e` + "\n", "a b c d e |"},
		{"other backslashes stay", `a b\nc \\ d` + "\n", `a b\nc \\ d |`},
		{"UTF-8", "名字 值 # 注释\n", "名字 值 |"},
		{"byte order mark", "\ufeffa\n", "a |"},
		{"a lone dollar stays", "a $b c$\n", "a $b c$ |"},
	} {
		got, r := words(t, memory{"f": c.text})
		if got != c.want || len(r.problems) > 0 {
			t.Errorf("%s: %q, want %q\n%s", c.name, got, c.want, lines(r.problems))
		}
	}
}

// TestLexingErrors: one problem, in line 2.
func TestLexingErrors(t *testing.T) {
	for _, c := range []struct{ line, keyword, says string }{
		{`a "b c`, "a", "quote is not closed"},
		{"a " + strings.Repeat("b", 1021), "a", "1023 bytes"},
		{"a\x00b", "", "NUL"},
		{"~SEQ i", "~SEQ", "must be followed by"},
		{"~SEQ(i) a", "~SEQ", "is not NAME"},
		{"~SEQ(i,x) a", "~SEQ", "not a whole number"},
		{"~SEQ(i,1,0,2) a", "~SEQ", "never reached"},
		{"~SEQ(i,3,1,2) a", "~SEQ", "never reached"},
		{"~SEQx(i,-1) a", "~SEQ", "no negative"},
		{"~SEQ(i,1000000) a", "~SEQ", "more than"},
		{"~LST i", "~LST", "must be followed by"},
		{"~LST(i) a", "~LST", "not of the form"},
		{"~LST({i,j,{1}) a", "~LST", "not of the form"},
		{"~LST({i,j},{1,2,3}) a", "~LST", "3 values for 2 names"},
		{"a ${VIP}", "${VIP}", "no such definition"},
		{"a $_RANDOM", "_RANDOM", "random number"},
		{"~SEQ(i,3) a {${NONE}}", "${NONE}", "no such definition"},
		{"include", "include", "name of a file"},
		{"include {a,b}.conf", "include", "no file of {a,b}.conf"},
		{"include {a,b.conf", "include", "not closed"},
		{"includea none*.conf", "includea", "no file matches"},
		{"includeb {f,b}", "includeb", "cannot read"},
		{"includer missing.conf", "includer", "file does not exist"},
		{"include missing.conf", "include", "file does not exist"},
		{"include f", "include", "includes itself"},
		{"includew none*.conf", "includew", "no file matches"},
		{"include [", "include", "looking up"},
	} {
		_, r := words(t, memory{"f": "x\n" + c.line + "\ny\n"})
		r.sort()
		if len(r.problems) != 1 {
			t.Errorf("%.40s: %s", c.line, lines(r.problems))
			continue
		}
		if p := r.problems[0]; p.File != "f" || p.Line != 2 || p.Keyword != c.keyword || !strings.Contains(p.Text, c.says) {
			t.Errorf("%.40s: %s", c.line, p)
		}
	}
	if got, r := words(t, memory{"f": "a " + strings.Repeat("b", 1020) + "\n"}); len(r.problems) > 0 || !strings.HasPrefix(got, "a bbb") {
		t.Errorf("a line of 1022 bytes: %s", lines(r.problems))
	}
}

// TestBraces: what is wrong with braces is told where the block began.
func TestBraces(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"all closed", "vrrp_instance V\n{\nvirtual_ipaddress { 10.0.0.1 }\n}\n", nil},
		{"one missing at the end", "a\nb {\nc {\n}\n", []string{"f:2:1: b: the block that begins here is never closed: a } is missing"}},
		{"two missing", "b {\nc {\n", []string{
			"f:1:1: b: the block that begins here is never closed: a } is missing",
			"f:2:1: c: the block that begins here is never closed: a } is missing"}},
		{"one too many", "b {\n}\n}\n", []string{"f:3:1: }: there is no open block that this } could close"}},
		{"no keyword", "{\na b\n}\n", []string{"f:1:1: {: there is no keyword before this {"}},
		{"twice", "a { {\n} }\n", []string{"f:1:5: {: there is no keyword before this {"}},
		{"missing before the next block", "global_defs {\nrouter_id x\nvrrp_instance V {\n}\n", []string{
			"f:1:1: global_defs: the block that begins here is not closed before vrrp_instance in line 3: a } is missing"}},
		{"missing in the first of two servers", "virtual_server a {\nreal_server b {\nTCP_CHECK {\n}\nreal_server c {\n}\n}\n", []string{
			"f:2:1: real_server: the block that begins here is not closed before real_server in line 5: a } is missing"}},
		{"missing twice before the next block", "virtual_server a {\nreal_server b {\nvirtual_server c {\n}\n", []string{
			"f:1:1: virtual_server: the block that begins here is not closed before virtual_server in line 3: a } is missing",
			"f:2:1: real_server: the block that begins here is not closed before virtual_server in line 3: a } is missing"}},
	} {
		r := &report{order: map[string]int{}}
		l := newLexer(r, Reader{Open: memory{"f": c.text}.open})
		l.first("f")
		tree(r, l.tokens)
		r.sort()
		var got []string
		for _, p := range r.problems {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s", c.name, lines(r.problems))
		}
	}
}

// TestIncludes: textual, relative to the folder of the including file, in the
// order of the pattern's matches, with the place in the included file.
func TestIncludes(t *testing.T) {
	m := memory{
		"etc/k.conf":        "global_defs {\ninclude sub/router_id\n}\ninclude sub/*.conf\ninclude none/*.conf\ninclude /abs/v.conf\n",
		"etc/sub/a.conf":    "include ../up.conf\nbad_a\n",
		"etc/sub/b.conf":    "vrrp_instance B {\nbad_b\n",
		"etc/sub/c.conf":    "virtual_router_id 1\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n",
		"etc/up.conf":       "bad_up\n",
		"/abs/v.conf":       "include \"quoted name\"\nbad_v\n",
		"/abs/quoted name":  "bad_quoted\n",
		"etc/sub/router_id": "router_id inner\n",
	}
	r, problems := Parse("etc/k.conf", m.open, m.glob)
	if r.Config.Globals.RouterID != "inner" || len(r.Config.Routers) != 1 || r.Config.Routers[0].VRID != 1 {
		t.Errorf("%+v", r.Config)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.File+" "+p.Keyword)
	}
	want := []string{"etc/sub/a.conf bad_a", "etc/up.conf bad_up", "etc/sub/b.conf bad_b", "/abs/v.conf bad_v", "/abs/quoted name bad_quoted"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	found := false
	for _, n := range r.Notices {
		found = found || n.Line == 5 && strings.Contains(n.Text, "no file matches etc/none/*.conf")
	}
	if !found {
		t.Error("no notice of the pattern that matches nothing: " + lines(r.Notices))
	}
}

// TestIncludeLoops: a circle is one problem, however long; depth has an end.
func TestIncludeLoops(t *testing.T) {
	m := memory{"a": "include b\n", "b": "include c\n", "c": "include a\n"}
	_, problems := Parse("a", m.open, m.glob)
	if len(problems) != 1 || problems[0].File != "c" || !strings.Contains(problems[0].Text, "includes itself") {
		t.Error(lines(problems))
	}
	deep := func(name string) ([]byte, error) { return []byte("include x" + name + "\n"), nil }
	_, problems = Parse("x", deep, nil)
	if len(problems) != 1 || !strings.Contains(problems[0].Text, "nested more than") {
		t.Error(lines(problems))
	}
}

// TestMissingFile: the file itself cannot be read.
func TestMissingFile(t *testing.T) {
	_, problems := Parse("none.conf", os.ReadFile, filepath.Glob)
	if len(problems) != 1 || problems[0].File != "none.conf" || !strings.Contains(problems[0].Text, "no such file") {
		t.Error(lines(problems))
	}
}

// FuzzParse: the reader never panics, its problems have places, and what has no
// problem is valid to package fsm (asserted in checkResult).
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/pair.conf", "testdata/pair-unclosed.conf"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	grammar, err := filepath.Glob("testdata/grammar/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range grammar {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"$A=$A\n$A", "$A=b\\\n$A\n$A", "~SEQ(i,9)~LST({a,b},{1,2},{$i}) ${a}{$b", "~SEQ(", "~LST({", "@x", "@^x $A=\\", "include {a,{b,c}}*", "${_ENV x}${_RANDOM 1 2}${_PWD}",
		"script 'a b\\", "script \"a 'b'\" \\x", "", "}", "{", "a{", "include f", "include *", "\"", "$", "a ${", "vrrp_instance", "virtual_server 1.2.3.4 5 { real_server 1 { TCP_CHECK {"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := memory{"f": string(data)}
		for _, lenient := range []bool{false, true} {
			r, problems := Reader{Open: m.open, Glob: m.glob, ConfigID: "x", Lenient: lenient}.Read("f")
			checkResult(t, "f", r, problems)
			for _, p := range problems {
				_ = p.Context()
			}
		}
	})
}
