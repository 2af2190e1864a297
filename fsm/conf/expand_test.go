package conf

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// where shows a problem with all that it knows of its place.
func where(p Problem) string {
	return fmt.Sprintf("%s:%d:%d %s | %s | %s | %s", p.File, p.Line, p.Column, p.Keyword, p.Source, p.Became, strings.Join(p.Chain, ", "))
}

// TestPlaces: a problem names the line as it stands in its file, the column of
// what is wrong, what became of the line, and how it came to be read.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		files memory
		want  string
	}{
		{"a keyword", memory{"f": "global_defs {\n  nonsense 1\n}\n"}, "f:2:3 nonsense |   nonsense 1 |  | "},
		{"a value", memory{"f": routerWith("  priority   high # or so")}, "f:5:14 priority |   priority   high # or so |  | "},
		{"one value too many", memory{"f": routerWith("priority 9 10")}, "f:5:12 priority | priority 9 10 |  | "},
		{"columns are of characters", memory{"f": "全 { } 局\n"}, "f:1:1 全 | 全 { } 局 |  | ; f:1:7 局 | 全 { } 局 |  | "},
		{"behind a brace", memory{"f": "global_defs { router_id x } nonsense\n"}, "f:1:29 nonsense | global_defs { router_id x } nonsense |  | "},
		{"behind an escape", memory{"f": `a\# global_defs` + "\n"}, `f:1:1 a# | a\# global_defs |  | `},
		{"an included file", memory{"f": "\ninclude a\n", "a": "include b", "b": "\n\n  nonsense"}, "b:3:3 nonsense |   nonsense |  | included from a:1, included from f:2"},
		{"a definition", memory{"f": "$X=high\n" + routerWith(" priority ${X}")}, "f:6:11 priority |  priority ${X} | priority high | "},
		{"behind a definition", memory{"f": "$X=longer_than_this\nglobal_defs { router_id ${X}\nfoo } ${X} bar\n"},
			"f:3:1 foo | foo } ${X} bar | foo } longer_than_this bar | ; f:3:7 longer_than_this | foo } ${X} bar | foo } longer_than_this bar | "},
		{"a definition of several lines", memory{"f": "include d\n\nglobal_defs {\n  $M\n}\n", "d": "$M= router_id x\\\n  nonsense y\n"},
			"d:2:3 nonsense |   nonsense y |  | used in f:4"},
		{"a repetition", memory{"f": "global_defs {\n ~SEQ(i,2) x${i} y\n}\n"},
			"f:2:12 x1 |  ~SEQ(i,2) x${i} y | x1 y | ; f:2:12 x2 |  ~SEQ(i,2) x${i} y | x2 y | "},
		{"a condition", memory{"f": "@^vm   nonsense\n"}, "f:1:8 nonsense | @^vm   nonsense |  | "},
		{"an unclosed quote", memory{"f": "global_defs {\nrouter_id \"x\n}\n"}, `f:2:11 router_id | router_id "x |  | ; f:2:1 router_id | router_id "x |  | `},
	} {
		_, problems := Parse("f", c.files.open, c.files.glob)
		var got []string
		for _, p := range problems {
			got = append(got, where(p))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, strings.Join(got, "; "), c.want)
		}
	}
}

// TestContext: the line, a mark below it, what became of it, and the chain.
func TestContext(t *testing.T) {
	m := memory{"f": "$X=high\ninclude g\n", "g": routerWith("\tpriority ${X}")}
	_, problems := Parse("f", m.open, m.glob)
	want := "    5 |  priority ${X}\n      |           ^\n      = priority high\n      included from f:2\n"
	if len(problems) != 1 || problems[0].Context() != want {
		t.Errorf("got\n%s\nwant\n%s%s", problems[0].Context(), want, lines(problems))
	}
	if got := (Problem{File: "f", Text: "x"}).Context(); got != "" {
		t.Errorf("of nothing: %q", got)
	}
	long := Problem{Line: 7, Column: 500, Source: strings.Repeat("é", 499) + "X\x1b[31m" + strings.Repeat("z", 499)}
	shown := long.Context()
	line, mark, _ := strings.Cut(shown, "\n")
	if at := strings.IndexByte(mark, '^'); len([]rune(line)) > 140 || at < 0 || []rune(line)[at] != 'X' || strings.Contains(line, "\x1b") {
		t.Errorf("a long line:\n%s", shown)
	}
}

// TestBounds: whatever a file says, reading it ends soon and says why.
func TestBounds(t *testing.T) {
	bomb := memory{}
	for i := range 30 {
		bomb[fmt.Sprintf("b%d", i)] = fmt.Sprintf("include b%d\ninclude b%d\n", i+1, i+1)
	}
	bomb["f"], bomb["b30"] = "include b0\n", "global_defs { }\n"
	nested := "$A0=x y\n"
	for i := range 40 {
		nested += fmt.Sprintf("$A%d=${A%d} ${A%d}\n", i+1, i, i)
	}
	towers := "$M0=x\\\n y\n"
	for i := range 60 {
		towers += fmt.Sprintf("$M%d=$M%d\\\n$M%d\n", i+1, i, i)
	}
	small := limits{files: 100, bytes: 1 << 20, grown: 2000, spliced: 1 << 18, replaced: 10_000, tokens: 20_000}
	for _, c := range []struct {
		name  string
		files memory
		says  string
	}{
		{"includes of includes", bomb, "are exceeded"},
		{"a definition by itself", memory{"f": "$A=$A\nx $A\n"}, "have no end"},
		{"a definition that grows by itself", memory{"f": "$A=x${A}x\n${A}\n"}, "longer than"},
		{"many uses of one by itself", memory{"f": "$A=${A}\n" + strings.Repeat("${A}\n", 1000)}, "have no end"},
		{"doubling", memory{"f": nested + "${A40}\n"}, "longer than"},
		{"doubling of lines", memory{"f": towers + "$M60\n"}, "more than"},
		{"lines by themselves", memory{"f": "$M=a\\\n $M\n$M\n"}, "nested more than"},
		{"repetitions of repetitions", memory{"f": strings.Repeat("~SEQ(i,1000) ", 5) + "x\n"}, "more than"},
		{"repetitions of nothing", memory{"f": strings.Repeat("~SEQ(i,1000) ", 5) + "\n"}, "more than"},
		{"repetitions of many words", memory{"f": "~SEQ(i,1000) " + strings.Repeat("x ", 500) + "\n"}, "more than 20000 words"},
		{"repetitions of long lines", memory{"f": "~SEQ(i,1000) " + strings.Repeat("x", 900) + "${i}\n"}, "in lines of more than"},
		{"many words", memory{"f": strings.Repeat("a b c d e f g h\n", 3000)}, "more than 20000 words"},
		{"a long repetition", memory{"f": "~SEQ(i,0,1000000000000) x\n"}, "more than"},
		{"braces in file names", memory{"f": "include " + strings.Repeat("{a,b}", 150) + "\n"}, "more than 256 names"},
		{"deep blocks", memory{"f": strings.Repeat("a {\n", 5000)}, "never closed"},
		{"a binary", memory{"f": strings.Repeat("\x00\x01\xff{\n", 20_000)}, "NUL"},
		{"many comments in words", memory{"f": "global_defs {\n" + strings.Repeat("x#y\n", 5000) + "}\n"}, "middle of a word"},
	} {
		for _, lenient := range []bool{false, true} {
			began := spent(t)
			r, problems := Reader{Open: c.files.open, Glob: c.files.glob, Lenient: lenient, limits: &small}.Read("f")
			if took := spent(t) - began; took > 5*time.Second {
				t.Errorf("%s: took %v", c.name, took)
			}
			all := lines(problems) + lines(r.Notices)
			if !strings.Contains(all, c.says) {
				t.Errorf("%s, lenient %v: nothing says %q:\n%.600s", c.name, lenient, c.says, all)
			}
			if len(problems) > maxProblems+1 || len(r.Notices) > maxNotices+1 {
				t.Errorf("%s: %d problems, %d notices", c.name, len(problems), len(r.Notices))
			}
		}
	}
}
