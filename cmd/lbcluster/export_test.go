package main

import (
	"fmt"
	"slices"
	"testing"

	"lbcluster/fsm"
)

// The directors follow by priority in the order of the placement, and none has
// a priority that VRRP cannot say.
func TestPlacedPriority(t *testing.T) {
	order := []fsm.MemberID{"m2", "m1", "m3"}
	for _, tt := range []struct {
		home uint8
		want string // of m2, m1, m3 and a stranger
	}{
		{150, "[150 140 130 120]"}, {100, "[100 90 80 70]"}, {21, "[21 11 1 1]"}, {20, "[20 19 18 17]"}, {2, "[2 1 1 1]"}, {1, "[1 1 1 1]"}, {255, "[255 245 235 225]"},
	} {
		var got []uint8
		for _, id := range append(slices.Clone(order), "m9") {
			got = append(got, placedPriority(tt.home, order, id))
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("home %d: %v, want %s", tt.home, got, tt.want)
		}
	}
}
