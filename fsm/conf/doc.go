// Package conf turns operators' files into what package fsm understands, and
// back: keepalived.conf and a YAML format of our own are read into an
// [fsm.Config], the files of a pair's nodes are merged into one; YAML,
// keepalived.conf (of the cluster, or of one node) and ipvsadm rules are written.
//
// Called by: the verbs apply, check, export and eject of cmd/lbcluster.
//
// The keepalived [Reader] follows keepalived's grammar, because the same file
// often still feeds a real keepalived that must agree with us on the wire. Each
// line goes through these steps, again as long as they change it:
//
//   - # and ! start a comment anywhere outside double quotes, even inside a
//     word, unless a backslash stands before them;
//   - "@ID rest" and "@^ID rest" keep the rest for one configuration id, or
//     for all others;
//   - "$NAME=value" defines, a backslash at the end goes on in the next line;
//     the value is looked at where $NAME or ${NAME} is used;
//   - "~SEQ(...)" and "~LST(...)" read the rest of the line several times;
//   - include, and includer, m, w, b and a, splice files in, relative to the
//     folder of the file that says it;
//   - { and } count anywhere outside double quotes, and what follows one is a
//     line of its own;
//   - "..." is one word, without escapes; the values of script, notify and
//     their like are split as a shell would;
//   - a statement is what stands between line ends and braces: a keyword and
//     its words;
//   - timers are decimal seconds; booleans are on|off|true|false|yes|no.
//
// What the steps make of the files in testdata/grammar was noted from the real
// program. How far a file may grow by them is bounded (lex.go).
//
// Values, defaults and inheritance (virtual server -> real server -> checker)
// are keepalived's too; where its default surprises people, or where it corrects
// a value, there is a [Notice]. Keywords that the table can't hold are listed in
// keywords.go with what is nearest: a [Problem] if leaving them out changes what
// happens to packets or which programs run, else a notice. Unlike keepalived,
// which logs and carries on, every doubt is a problem: an unknown keyword, a
// missing or extra brace, a file that is not there. All problems of a run are
// returned together, each with file, line, column, the line itself and how it
// came to be read, and one problem means that the result must not be applied.
//
// A lenient reading does with all this what keepalived does, and says so in
// notices: [Reader.Lenient].
//
// It never opens a file itself (the caller passes functions that do), never
// logs, and keeps no state.
package conf
