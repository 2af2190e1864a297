package main

import (
	"fmt"
	"testing"
)

func TestFitOnlyIfEachPartIs(t *testing.T) {
	got := ""
	f := newFitness(func(ok bool, why string) { got = fmt.Sprint(ok, " ", why) }, "data plane")
	gate, plane := f.of("gate"), f.of("data plane")
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { gate(true, "") }, "false data plane has not reported yet"},
		{func() { plane(true, "") }, "true "},
		{func() { gate(false, "eth0: no gate") }, "false eth0: no gate"},
		{func() { plane(false, "link") }, "false eth0: no gate"},
		{func() { plane(true, "") }, "false eth0: no gate"},
		{func() { plane(false, "link") }, "false eth0: no gate"},
		{func() { gate(true, "") }, "false link"},
		{func() { plane(true, "") }, "true "},
	} {
		if step.do(); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
}
