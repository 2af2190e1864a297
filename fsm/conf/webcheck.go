package conf

import (
	"slices"
	"strconv"
	"strings"

	"lbcluster/fsm"
)

// webRules are the words of HTTP_GET and SSL_GET.
func webRules() map[string]rule {
	return map[string]rule{
		"virtualhost":   {min: 1, max: 1, do: func(b *builder, n *node) { b.check.virtualHost = n.args[0] }},
		"http_protocol": {min: 1, max: 1, do: (*builder).readHTTPProtocol},
		"enable_sni": {max: 1, do: func(b *builder, n *node) {
			b.readBool(n, &b.check.HTTP.SNI)
			if b.check.Kind == fsm.CheckHTTP && b.check.HTTP.SNI {
				b.notice(n.pos, n.word, "means nothing without TLS: ignored, as in keepalived")
				b.check.HTTP.SNI = false
			}
		}},
		"fast_recovery": {max: 1, do: func(b *builder, n *node) {
			b.notice(n.pos, n.word, "all URLs are asked in every check, so that one success is enough anyway")
		}},
		"nb_get_retry": {min: 1, max: 1, do: func(b *builder, n *node) {
			if v, err := number(n.args[0], 0, 1000); err != nil {
				b.wrong(n, err)
			} else {
				b.check.retry = ptr(int(v))
			}
		}},
		"url": {block: true, repeat: true, do: (*builder).readURL},
	}
}

var urlRules = map[string]rule{
	"path":             {min: 1, max: 1, do: func(b *builder, n *node) { b.check.url.Path = n.args[0] }},
	"virtualhost":      {min: 1, max: 1, do: func(b *builder, n *node) { b.check.url.VirtualHost = n.args[0] }},
	"digest":           {min: 1, max: 1, do: func(b *builder, n *node) { b.check.url.Digest = strings.ToLower(n.args[0]) }},
	"status_code":      {min: 1, max: -1, repeat: true, do: (*builder).readStatus},
	"regex":            {min: 1, max: 1, do: func(b *builder, n *node) { b.check.url.Regex = unescaped(n.args[0]) }},
	"regex_no_match":   {do: func(b *builder, n *node) { b.check.url.NoMatch = true }},
	"regex_options":    {min: 1, max: -1, do: (*builder).readRegexOptions},
	"regex_min_offset": {min: 1, max: 1, do: func(b *builder, n *node) { b.readOffset(n, &b.check.url.MinOffset) }},
	"regex_max_offset": {min: 1, max: 1, do: func(b *builder, n *node) { b.readOffset(n, &b.check.url.MaxOffset) }},
	"regex_stack": {max: -1, do: func(b *builder, n *node) {
		b.notice(n.pos, n.word, "is about how keepalived's regex library works: not needed here")
	}},
}

func (b *builder) readHTTPProtocol(n *node) {
	word := strings.ToUpper(n.args[0])
	if !slices.Contains([]string{fsm.HTTPProtocol10, fsm.HTTPProtocol10C, fsm.HTTPProtocol11}, word) {
		b.doubt(n.pos, n.word, sprint("%q is none of 1.0, 1.0C and 1.1", n.args[0]), "it is ignored")
		return
	}
	b.check.HTTP.Protocol = word
}

func (b *builder) readURL(n *node) {
	b.check.url, b.check.regexFlags = &fsm.HTTPURL{}, ""
	b.each(n.kids, n.word, urlRules)
	u := b.check.url
	if u.Path == "" {
		b.doubt(n.pos, n.word, "it has no path", "it is ignored")
		return
	}
	if len(u.Status) == 0 {
		u.Status = []fsm.StatusRange{{From: 200, To: 299}}
	}
	if u.Regex != "" && b.check.regexFlags != "" {
		u.Regex = "(?" + b.check.regexFlags + ")" + u.Regex
	}
	b.check.HTTP.URLs = append(b.check.HTTP.URLs, *u)
}

// readStatus adds codes and ranges; what overlaps or touches becomes one range.
func (b *builder) readStatus(n *node) {
	all := b.check.url.Status
	for _, word := range n.args {
		low, high, ranged := strings.Cut(word, "-")
		if !ranged {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || from < 100 || to > 599 || from > to {
			b.doubt(n.pos, n.word, sprint("%q is no status code, nor a range of them, from 100 to 599", word), "it is ignored")
			continue
		}
		all = append(all, fsm.StatusRange{From: from, To: to})
	}
	b.check.url.Status = joinedRanges(all)
}

func joinedRanges(all []fsm.StatusRange) []fsm.StatusRange {
	slices.SortFunc(all, func(a, b fsm.StatusRange) int { return a.From - b.From })
	var out []fsm.StatusRange
	for _, r := range all {
		if last := len(out) - 1; last >= 0 && r.From <= out[last].To+1 {
			out[last].To = max(out[last].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

func (b *builder) readOffset(n *node, to *int) {
	v, err := number(n.args[0], 0, 1<<30)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = int(v)
}

// regexFlags are those of PCRE's options that Go's regular expressions have.
var regexFlags = map[string]string{"caseless": "i", "multiline": "m", "dotall": "s", "ungreedy": "U"}

// idleOptions change nothing about what is found.
var idleOptions = set("utf no_utf_check no_auto_capture never_utf never_ucp no_auto_possess no_start_optimize never_backslash_c")

func (b *builder) readRegexOptions(n *node) {
	for _, word := range n.args {
		switch flag := regexFlags[word]; {
		case idleOptions[word]:
		case flag == "":
			b.doubt(n.pos, n.word, sprint("the option %q is not supported: caseless, multiline, dotall and ungreedy are", word), "it is ignored")
		case !strings.Contains(b.check.regexFlags, flag):
			b.check.regexFlags += flag
		}
	}
}

// unescaped resolves the backslashes of a quoted text, as keepalived does before it
// hands a pattern to its regex library: \\d is what finds a digit.
func unescaped(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		if at := strings.IndexByte("abefnrtv", s[i]); at >= 0 {
			out.WriteByte("\a\b\x1b\f\n\r\t\v"[at])
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// escaped undoes unescaped.
func escaped(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s)
}
