package fsm

import (
	"slices"
	"strings"
)

// Difference is one setting that two configurations have otherwise, or one
// element that only one of them has: what people should see when both are said
// to describe the same.
type Difference struct {
	Path string // as in Problem
	// Field is the setting: "priority", "scheduler", "virtual_ipaddress
	// 10.0.0.1" for one of several, "order". Empty: the whole element.
	Field string
	// A and B are its words as a file has them ("priority 150"); empty: it is not
	// there.
	A, B string
}

// Compare finds all differences of a and b, one by one, in the order in which
// people read them. None: applying either would change nothing that the other
// made.
func Compare(a, b Config) []Difference {
	c := comparison{}
	d := differ{was: a.canonical(""), is: b.canonical(""), each: c.element}
	d.all()
	for _, o := range d.changes {
		c.found = append(c.found, Difference{Path: o.Path, Field: "order", A: o.Before, B: o.After})
	}
	return c.found
}

type comparison struct{ found []Difference }

func (c *comparison) element(path string, a, b []field) {
	switch {
	case len(a) == 0 && len(b) == 0:
		return
	case (len(a) == 0 || len(b) == 0) && path != "global_defs":
		c.found = append(c.found, Difference{Path: path, A: show(a, ""), B: show(b, "")})
		return
	}
	var names []string
	for _, f := range append(slices.Clone(a), b...) {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	for _, name := range names {
		c.field(path, name, named(a, name), named(b, name))
	}
}

// named are the fields of a name: none or one.
func named(fields []field, name string) []field {
	i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	return fields[i : i+1]
}

func (c *comparison) field(path, name string, a, b []field) {
	if slices.Equal(a, b) {
		return
	}
	if name != "virtual_ipaddress" {
		c.found = append(c.found, Difference{Path: path, Field: name, A: show(a, ""), B: show(b, "")})
		return
	}
	one, two := addressList(a), addressList(b)
	for _, s := range one {
		if !slices.Contains(two, s) {
			c.found = append(c.found, Difference{Path: path, Field: name + " " + firstWord(s), A: s})
		}
	}
	for _, s := range two {
		if slices.Contains(one, s) {
			continue
		}
		// The same address with other words is one difference, not two.
		same := func(d Difference) bool {
			return d.Path == path && d.B == "" && d.Field == name+" "+firstWord(s)
		}
		if i := slices.IndexFunc(c.found, same); i >= 0 {
			c.found[i].B = s
		} else {
			c.found = append(c.found, Difference{Path: path, Field: name + " " + firstWord(s), B: s})
		}
	}
	if slices.Equal(slices.Sorted(slices.Values(one)), slices.Sorted(slices.Values(two))) {
		c.found = append(c.found, Difference{Path: path, Field: name, A: "order " + strings.Join(one, "; "), B: "order " + strings.Join(two, "; ")})
	}
}

// addressList takes apart what routerFields joined.
func addressList(f []field) []string {
	if len(f) == 0 || f[0].value == "" {
		return nil
	}
	return strings.Split(f[0].value, "; ")
}

// firstWord is the address itself, without its length and options.
func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	word, _, _ = strings.Cut(word, "/")
	return word
}
