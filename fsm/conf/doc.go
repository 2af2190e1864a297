// Package conf turns operators' files into what package fsm understands, and
// back: keepalived.conf and a YAML format of our own are read into an
// [fsm.Config], the files of a pair's nodes are merged into one; YAML,
// keepalived.conf (of the cluster, or of one node) and ipvsadm rules are written.
//
// Called by: the verbs apply, check, export and eject of cmd/lbcluster.
//
// The keepalived reader follows keepalived's grammar, because the same file
// often still feeds a real keepalived that must agree with us on the wire:
//
//   - # and ! start a comment anywhere outside double quotes, even inside a
//     word, unless a backslash stands before them;
//   - { and } count anywhere outside double quotes, on any line;
//   - "..." is one word, without escapes;
//   - a statement is what stands between line ends and braces: a keyword and
//     its words;
//   - timers are decimal seconds; booleans are on|off|true|false|yes|no;
//   - include is textual, relative to the folder of the file that says it.
//
// Values, defaults and inheritance (virtual server -> real server -> checker)
// are keepalived's too; where its default surprises people there is a
// [Notice]. Unlike keepalived, which logs and carries on, every doubt is a
// [Problem]: an unknown keyword, a keyword that is keepalived's but not ours
// yet, a missing or extra brace. All problems of a run are returned together,
// each with file, line and keyword, and one problem means that the result must
// not be applied.
//
// Not read yet, and said so by name: $ definitions, @ conditions, ~SEQ and
// ~LST, braces in include patterns.
//
// It never opens a file itself (the caller passes functions that do), never
// logs, and keeps no state.
package conf
