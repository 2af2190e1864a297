package lab

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// WatchAddresses calls f, on a goroutine of its own, whenever an interface of the
// host gains or loses an address, until the lab ends: unlike a poll it misses
// nothing and takes no time at rest. Lost notices are an error of the test.
func (h *Host) WatchAddresses(f func(at time.Time, addr netip.Addr, on bool)) {
	h.lab.t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 64), make(chan struct{})
	err := h.do(func() error {
		return netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
			ErrorCallback: func(err error) {
				select {
				case <-done:
				default:
					h.lab.t.Errorf("lab: %s: watching its addresses: %v", h.Name, err)
				}
			},
		})
	})
	if err != nil {
		h.lab.t.Fatalf("lab: %s: watching its addresses: %v", h.Name, err)
	}
	go func() {
		for u := range updates {
			if addr, ok := netip.AddrFromSlice(u.LinkAddress.IP); ok {
				f(time.Now(), addr.Unmap(), u.NewAddr)
			}
		}
	}()
	h.lab.t.Cleanup(func() { close(done) })
}
