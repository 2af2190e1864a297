package main

import (
	"errors"
	"testing"

	"lbcluster/cluster/api"
)

// A second init or join must not try the kernel, and so take over the gate,
// while the first one makes this machine a member.
func TestOneEnrolmentAtATime(t *testing.T) {
	d := &theDaemon{}
	d.enrolling.Lock()
	if _, err := d.Init(t.Context(), api.InitRequest{}); !errors.Is(err, errEnrolling) {
		t.Errorf("init: %v", err)
	}
	if _, err := d.Join(t.Context(), api.JoinRequest{}); !errors.Is(err, errEnrolling) {
		t.Errorf("join: %v", err)
	}
}
