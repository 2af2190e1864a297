package lease

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// R7: whatever order writes and closes come in, a deadline only moves forward
// or to 0, and no round that is closed opens the gate again.
func TestKeeperOrdersWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newFakeGate()
		k := newKeeper(g)
		closed := uint64(0)
		for range 30 {
			round := rapid.Uint64Range(1, 9).Draw(t, "round")
			before := g.slots[vip1]
			if rapid.Bool().Draw(t, "close") {
				g.noClose = rapid.Bool().Draw(t, "fails")
				err := k.close(CloseGate{Addrs: []netip.Addr{vip1}, Round: round})
				if closed = max(closed, round); (err == nil) != (g.slots[vip1] == 0) && before != 0 {
					t.Fatalf("close: %v, but the slot reads %d", err, g.slots[vip1])
				}
				continue
			}
			deadline := rapid.Int64Range(1, 99).Draw(t, "deadline")
			if err := k.arm(Arm{Addrs: []netip.Addr{vip1}, Deadline: deadline, Round: round}); err != nil {
				t.Fatal(err)
			}
			if now := g.slots[vip1]; now < before || now != before && round <= closed {
				t.Fatalf("round %d moved the deadline from %d to %d although %d is closed", round, before, now, closed)
			}
		}
	})
}

func TestKeeperReportsTheFirstError(t *testing.T) {
	g := newFakeGate()
	g.failArm = true
	if err := newKeeper(g).arm(Arm{Addrs: []netip.Addr{vip1, vip2}, Deadline: 1, Round: 1}); err == nil {
		t.Error("an address that cannot be armed is no error")
	}
}
