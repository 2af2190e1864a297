package nstest

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Tap sends and hears raw frames on an interface. Of a frame that comes in with
// a VLAN tag the kernel keeps the tag to itself.
type Tap struct {
	t  testing.TB
	fd int
}

// NewTap opens a tap; it is closed with the test.
func NewTap(t testing.TB, h *Host, name string) *Tap {
	t.Helper()
	p := &Tap{t: t}
	h.Do(func() (err error) {
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: Index(name)})
	})
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// Send sends a frame. One that a filter of this host drops is no error.
func (p *Tap) Send(frame []byte) {
	p.t.Helper()
	if _, err := unix.Write(p.fd, frame); err != nil && !errors.Is(err, unix.ENOBUFS) {
		p.t.Fatalf("send: %v", err)
	}
}

// Drain forgets what was heard so far.
func (p *Tap) Drain() {
	buf := make([]byte, 2000)
	for {
		if _, _, err := unix.Recvfrom(p.fd, buf, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// Ask sends a frame and reports whether one that matches comes within wait.
func (p *Tap) Ask(frame []byte, wait time.Duration, match func([]byte) bool) bool {
	p.t.Helper()
	p.Drain()
	p.Send(frame)
	return p.Hears(wait, match)
}

// Hears reports whether a frame that matches comes within wait, sent or
// received by this interface.
func (p *Tap) Hears(wait time.Duration, match func([]byte) bool) bool {
	buf := make([]byte, 2000)
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		tv := unix.NsecToTimeval(int64(left) + 1000)
		if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			p.t.Fatalf("set a tap's timeout: %v", err)
		}
		n, err := unix.Read(p.fd, buf)
		if err == nil && match(buf[:n]) {
			return true
		}
	}
}

// Eventually waits for a kernel that works on its own time.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not within 5 s: %s", what)
}

// BPFFS mounts a file system for pinned eBPF objects and returns its path.
func BPFFS(t testing.TB) string {
	t.Helper()
	NeedRoot(t)
	at := t.TempDir()
	if err := unix.Mount("bpffs", at, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return at
}
