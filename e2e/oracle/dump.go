package oracle

import (
	"regexp"
	"strings"
)

// line is one line of a dump.
type line struct {
	section string // of the last "------< Section >------"
	indent  int
	label   string // before " = ", or all of it
	value   string
	heading string // the label that a deeper line stands under
}

// text is the line without its blanks.
func (l line) text() string {
	if l.value == "" {
		return l.label
	}
	return l.label + " = " + l.value
}

// stamp is what keepalived writes before each line of its log (option -l).
var stamp = regexp.MustCompile(`^\w{3} \w{3} [ \d]\d [\d:]{8} \d{4}: `)

// lines reads the dump out of a log. Other messages come between, from other
// processes of keepalived: they aren't indented, and follow the dump's end.
func lines(log string) []line {
	var out []line
	section, headings := "", map[int]string{}
	for raw := range strings.Lines(log) {
		s := strings.TrimRight(stamp.ReplaceAllString(raw, ""), "\n")
		body := strings.TrimLeft(s, " ")
		indent := len(s) - len(body)
		if name, ok := strings.CutPrefix(body, "------< "); ok {
			section = strings.TrimSuffix(name, " >------")
			clear(headings)
			continue
		}
		if section == "" || indent == 0 {
			continue
		}
		l := line{section: section, indent: indent, heading: headings[indent-2]}
		l.label, l.value, _ = strings.Cut(body, " = ")
		l.label, l.value = strings.TrimRight(l.label, " =:"), strings.TrimSpace(l.value)
		headings[indent] = l.label
		out = append(out, l)
	}
	return out
}

// ReadDump makes facts of the logs of keepalived's VRRP process and of its
// checkers (options -P and -C), each run with -n -l -d.
func ReadDump(vrrp, checkers string) Facts {
	f := Facts{}
	readVRRP(f, lines(vrrp))
	readLVS(f, lines(checkers))
	for fact, v := range f {
		if v == fact.standard() && fact.standard() != "" {
			delete(f, fact)
		}
	}
	return f
}

var complaint = regexp.MustCompile(`(?m)\((?:(\S+): )?Line (\d+)\) (.*)$`)

// Complaint is what keepalived said of a line of the file.
type Complaint struct{ Line, Text string }

// Complaints returns what keepalived found wrong, each once.
func Complaints(logs ...string) []Complaint {
	var out []Complaint
	seen := map[Complaint]bool{}
	for _, m := range complaint.FindAllStringSubmatch(strings.Join(logs, "\n"), -1) {
		c := Complaint{m[2], strings.TrimSpace(m[3])}
		if !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
	}
	return out
}
