package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/journal"
)

// Only changes are recorded, and only of interfaces that members or clients are
// reached over; one that lost its address with its link still counts.
func TestLinkLog(t *testing.T) {
	var told []string
	uses := map[string]bool{"eth0": true}
	l := &linkLog{
		matters: func(_ int, name string) bool { return uses[name] },
		note:    func(e journal.Entry) { told = append(told, fmt.Sprintf("%s %s %s", e.Kind, e.Cause, e.Text)) },
		links:   map[int]linkState{},
	}
	const up = unix.IFF_UP | unix.IFF_LOWER_UP
	for _, flags := range []uint32{up, up, unix.IFF_UP, unix.IFF_UP, 0, up} {
		l.take(2, "eth0", linkDown(flags))
		l.take(3, "veth7", linkDown(flags))
		uses["eth0"] = false
	}
	l.gone(2)
	l.gone(2)
	l.gone(3)
	l.take(4, "eth1", linkDown(0))
	want := []string{"link down eth0: no carrier", "link down eth0: it was set down", "link up eth0", "link down eth0: it was removed"}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// The watch sees the interfaces that there are, and its end is at once.
func TestFollowLinksEnds(t *testing.T) {
	seen := make(chan string, 64)
	l := &linkLog{links: map[int]linkState{}, note: func(journal.Entry) {}, matters: func(_ int, name string) bool {
		select {
		case seen <- name:
		default:
		}
		return false
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.follow(ctx) }()
	select {
	case <-seen:
	case <-time.After(10 * time.Second):
		t.Error("no interface was seen")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the watch does not end")
	}
}
