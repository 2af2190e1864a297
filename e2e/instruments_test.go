package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
)

// The lab's faults do what they say: a disk that stalls, a cable that loses, a
// second network.
func TestFaultsOfTheLab(t *testing.T) {
	lab.Need(t)
	l := lab.New(t)
	a, b := l.AddHost("a", "10.1.0.1/24"), l.AddHost("b", "10.1.0.2/24")
	ping := func(to string, count string) string {
		out, _ := a.Run(context.Background(), "ping", "-n", "-q", "-i", "0.02", "-W", "1", "-c", count, to)
		return out
	}
	t.Run("disk", func(t *testing.T) { stallingDisk(t, l, a) })
	t.Run("netem", func(t *testing.T) {
		b.ShapeIn("loss", "100%")
		if out := ping("10.1.0.2", "10"); !strings.Contains(out, "100% packet loss") {
			t.Errorf("all is lost, and yet:\n%s", out)
		}
		b.Shape()
		if out := ping("10.1.0.2", "10"); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("the cable is good again, and yet:\n%s", out)
		}
	})
	t.Run("second network", func(t *testing.T) {
		a.AddNIC("10.2.0.1/24")
		nic := b.AddNIC("10.2.0.2/24")
		nic.Detach()
		if out := ping("10.2.0.2", "5"); !strings.Contains(out, "100% packet loss") {
			t.Errorf("detached, and yet:\n%s", out)
		}
		nic.Attach()
		b.Detach() // the first network is not the way
		if out := ping("10.2.0.2", "5"); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("%s", out)
		}
		b.Attach()
	})
}

func stallingDisk(t *testing.T, l *lab.Lab, h *lab.Host) {
	d := h.OwnDisk(16)
	file := lab.DataDir + "/x"
	write := func() <-chan error {
		done := make(chan error, 1)
		go func() {
			done <- h.Do(func() error {
				f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					return err
				}
				defer f.Close()
				if _, err := f.WriteString("x"); err != nil {
					return err
				}
				return f.Sync()
			})
		}()
		return done
	}
	if err := <-write(); err != nil {
		t.Fatal(err)
	}
	d.Stall()
	stuck := write()
	select {
	case err := <-stuck:
		t.Errorf("written to a stalled disk: %v", err)
	case <-time.After(2 * time.Second):
	}
	d.Resume()
	if err := <-stuck; err != nil {
		t.Error(err)
	}
	l.DropCaches()
}
