package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryVerbHasHelp: a summary, an example that names the verb, and no
// verb that takes arguments it does not describe.
func TestEveryVerbHasHelp(t *testing.T) {
	a := &app{in: strings.NewReader(""), out: io.Discard, errOut: io.Discard}
	seen := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.Runnable() || c == c.Root() {
			return
		}
		seen++
		if c.Short == "" {
			t.Errorf("%s has no summary", c.CommandPath())
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has no example of itself: %q", c.CommandPath(), c.Example)
		}
		if c.Args == nil {
			t.Errorf("%s does not say which arguments it takes", c.CommandPath())
		}
	}
	walk(a.root())
	if seen < 20 {
		t.Errorf("only %d verbs seen", seen)
	}
}
