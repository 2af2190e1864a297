package lease

import (
	"net/netip"
	"testing"
)

// TestSendToTheOtherFamily: a member's addresses are of both families, and a dead
// process's Releases go to all of them from one socket.
func TestSendToTheOtherFamily(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		c, err := listen(netip.MustParseAddrPort(at))
		if err != nil {
			t.Logf("%s: %v", at, err) // a machine without IPv6
			continue
		}
		own := netip.MustParseAddrPort(c.LocalAddr().String())
		for _, to := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
			addr := netip.AddrPortFrom(netip.MustParseAddr(to), own.Port())
			err := c.Send([]byte("x"), addr)
			if same := addr.Addr().Unmap().Is4() == own.Addr().Is4(); same != (err == nil) {
				t.Errorf("from %v to %v: %v", own, addr, err)
			}
		}
		c.Close()
	}
}
