package fence

import (
	"net/netip"
	"testing"
)

var vip = netip.MustParseAddr("172.25.88.100")

func TestPermitFollowsItsTerm(t *testing.T) {
	now := int64(1000)
	term := NewTerm(7, []netip.Addr{vip}, 2000, func() int64 { return now })
	p := term.Permit()

	if !p.Valid() || !p.Covers(vip) || p.Router() != 7 || p.Remaining() != 1000 {
		t.Fatalf("fresh permit: valid %v, covers %v, router %d, remaining %d", p.Valid(), p.Covers(vip), p.Router(), p.Remaining())
	}
	if p.Covers(netip.MustParseAddr("172.25.88.101")) {
		t.Error("a permit covers an address that its lease never named")
	}
	now = 2000
	if p.Valid() || p.Covers(vip) {
		t.Error("valid at its deadline")
	}
	if !term.Extend(3000) || !p.Valid() {
		t.Error("an extended term must be valid again: the deadline is absolute")
	}
	term.Extend(2500)
	if p.Deadline() != 3000 {
		t.Errorf("deadline moved back to %d", p.Deadline())
	}
	term.End()
	if p.Valid() || term.Extend(9000) || p.Valid() {
		t.Error("an ended term came back")
	}
}

func TestZeroPermitPermitsNothing(t *testing.T) {
	var p Permit
	if p.Valid() || p.Covers(vip) || p.Deadline() != 0 || p.Router() != 0 {
		t.Error("the zero permit permits something")
	}
}
