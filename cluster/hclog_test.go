package cluster

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRaftComplainsOnceAboutADeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := newHCLogger(slog.New(slog.NewTextHandler(&out, nil)), "raft").With("term", 3)
		for range 50 { // five seconds of a dead peer
			log.Error("failed to heartbeat to", "peer", "m2@172.25.88.12:7500", "backoff time", time.Second)
			time.Sleep(100 * time.Millisecond)
		}
		log.Error("failed to heartbeat to", "peer", "m3@172.25.88.13:7500")
		log.Info("entering leader state")
		log.Info("entering leader state")
		if n := strings.Count(out.String(), "peer=m2@"); n != 1 {
			t.Errorf("%d lines about m2 in 5 s, want 1", n)
		}
		if !strings.Contains(out.String(), "peer=m3@") {
			t.Error("another peer's trouble was held back")
		}
		if n := strings.Count(out.String(), "entering leader state"); n != 2 {
			t.Errorf("%d of 2 informative lines passed", n)
		}
		time.Sleep(calmFor)
		log.Error("failed to heartbeat to", "peer", "m2@172.25.88.12:7500")
		if !strings.Contains(out.String(), "like_it_before=49") {
			t.Errorf("the lines left out are not counted:\n%s", out.String())
		}
	})
}

func TestCalmForgetsRatherThanGrows(t *testing.T) {
	c := &calm{said: map[string]*saying{}}
	for i := range 3 * calmMost {
		c.pass(time.Now(), string(rune(i)))
	}
	if len(c.said) > calmMost {
		t.Errorf("%d sayings are remembered", len(c.said))
	}
}

// A member that was removed is told so once; its Raft goes on standing for
// election, and may say so once an hour.
func TestARemovedMemberIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		var hush atomic.Bool
		log := newRaftLogger(slog.New(slog.NewTextHandler(&out, nil)), "raft", &hush)
		campaign := func(d time.Duration) int {
			out.Reset()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				log.Info("entering candidate state", "node", "m3")
				log.Warn("Election timeout reached, restarting election")
			}
			return strings.Count(out.String(), "\n")
		}
		if n := campaign(time.Minute); n < 60 {
			t.Errorf("%d lines in a minute before it is known", n)
		}
		hush.Store(true)
		if n := campaign(50 * time.Minute); n > 2 {
			t.Errorf("%d lines in fifty minutes of a removed member", n)
		}
		hush.Store(false)
		if n := campaign(time.Minute); n < 60 {
			t.Errorf("%d lines in a minute when it turned out wrong", n)
		}
	})
}
