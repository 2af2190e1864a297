package gate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// An interface from which the gate was taken and where it cannot be put back
// makes the member unfit at once, and fit again when it is back or gone.
func TestMissingGateIsUnfit(t *testing.T) {
	needRoot(t)
	for _, cure := range []string{"the gate is back", "the interface is gone"} {
		s := newSite(t, ModeClsact)
		told := make(chan string, 10)
		g := s.open(Config{Known: vips, OnFit: func(ok bool, why string) { told <- fmt.Sprint(ok, " ", why) }})
		s.run(g)
		if !s.attached(g, "eth0") {
			t.Fatal("not attached")
		}
		qdisc := func(l netlink.Link) *netlink.Ingress {
			return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
		}
		// Another agent that wants an ingress qdisc leaves no place for what goes out.
		s.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
			for range 100 {
				if err = netlink.QdiscDel(clsact); err != nil {
					return err
				}
				if err = netlink.QdiscAdd(qdisc(l)); err == nil {
					return nil
				}
			}
			return err
		})
		select {
		case got := <-told:
			if !strings.HasPrefix(got, "false eth0: ") {
				t.Errorf("told %q", got)
			}
		case <-time.After(3 * time.Second):
			t.Fatal("nobody was told that eth0 has no gate")
		}
		s.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			if cure == "the gate is back" {
				return netlink.QdiscDel(qdisc(l))
			}
			return netlink.LinkDel(l)
		})
		select {
		case got := <-told:
			if got != "true " {
				t.Errorf("%s: told %q", cure, got)
			}
		case <-time.After(3 * time.Second):
			t.Errorf("%s: nobody was told", cure)
		}
	}
}
