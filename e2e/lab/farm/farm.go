package farm

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Counts is what a farm has seen since it was started.
type Counts struct {
	Accepted uint64        // connections
	Again    uint64        // of them: not the first to their address
	Late     uint64        // of those: later than an interval and a tenth after the one before
	Worst    time.Duration // the longest time between two to the same address
}

// Sub returns what was counted since old. Worst is the later one's.
func (c Counts) Sub(old Counts) Counts {
	return Counts{c.Accepted - old.Accepted, c.Again - old.Again, c.Late - old.Late, c.Worst}
}

const size = 4 * 8 // of the file

// Read reads a farm's file.
func Read(file string) (Counts, error) {
	b, err := os.ReadFile(file)
	if err == nil && len(b) < size {
		err = fmt.Errorf("%s has only %d bytes", file, len(b))
	}
	if err != nil {
		return Counts{}, fmt.Errorf("reading a farm's counts: %w", err)
	}
	n := func(i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }
	return Counts{n(0), n(1), n(2), time.Duration(n(3))}, nil
}

// Main is "lab farm -listen ADDR:PORT -every INTERVAL FILE". It runs until it is
// killed and returns an exit status if it cannot go on.
func Main(args []string) int {
	debug.SetGCPercent(-1) // nothing is allocated once it serves
	fs := flag.NewFlagSet("lab farm", flag.ContinueOnError)
	var listen netip.AddrPort
	fs.TextVar(&listen, "listen", netip.AddrPort{}, "where to accept connections, 0.0.0.0 for all IPv4 addresses")
	every := fs.Duration("every", time.Second, "how often each address should be asked")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	f, err := open(listen, *every, fs.Arg(0))
	if err == nil {
		err = f.serve()
	}
	fmt.Fprintln(os.Stderr, "lab farm:", err)
	return 1
}

// farm is one socket and what it counted.
type farm struct {
	fd     int
	late   time.Duration
	counts []uint64 // as in the file
	seen   map[[4]byte]time.Duration
}

func open(listen netip.AddrPort, every time.Duration, file string) (*farm, error) {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := out.Truncate(size); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(out.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", file, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Addr: listen.Addr().As4(), Port: int(listen.Port())}),
			unix.Listen(fd, 4096))
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", listen, err)
	}
	return &farm{fd: fd, late: every + every/10, counts: unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), size/8), seen: map[[4]byte]time.Duration{}}, nil
}

// serve accepts and closes for ever.
func (f *farm) serve() error {
	for {
		fd, _, err := unix.Accept4(f.fd, unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("accepting: %w", err)
		}
		if local, err := unix.Getsockname(fd); err == nil {
			if a, ok := local.(*unix.SockaddrInet4); ok {
				f.note(a.Addr)
			}
		}
		unix.Close(fd)
	}
}

// note counts a connection to an address.
func (f *farm) note(addr [4]byte) {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	now := time.Duration(ts.Nano())
	last, again := f.seen[addr]
	f.seen[addr] = now
	if again {
		atomic.AddUint64(&f.counts[1], 1)
		if gap := now - last; gap > f.late {
			atomic.AddUint64(&f.counts[2], 1)
			atomic.StoreUint64(&f.counts[3], max(f.counts[3], uint64(gap)))
		}
	}
	atomic.AddUint64(&f.counts[0], 1)
}
