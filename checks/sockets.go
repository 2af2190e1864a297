package checks

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

// sockets begins TCP connections without waiting for them. It serves one goroutine.
type sockets interface {
	// begin begins to connect. Where that is over at once, done is true and err is
	// what became of it; else the descriptor is one that ended or drop will be about.
	begin(fsm.Check) (fd int, done bool, err error)
	// ended calls over for each connection that was accepted or refused since, which
	// is closed already.
	ended(over func(fd int, err error))
	// drop gives up one that is not over.
	drop(fd int)
	// close ends it; what is not over must have been dropped.
	close()
}

// epoll is the kernel's sockets.
type epoll struct {
	fd     int
	events [256]unix.EpollEvent
}

func newEpoll() (sockets, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &epoll{fd: fd}, nil
}

func (e *epoll) close() { unix.Close(e.fd) }

func (e *epoll) begin(c fsm.Check) (fd int, done bool, err error) {
	family, to := unix.AF_INET, endpoint(c)
	if c.Dest.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, true, os.NewSyscallError("socket", err)
	}
	if err = prepare(fd, c); err == nil {
		err = os.NewSyscallError("connect", unix.Connect(fd, to))
	}
	if errors.Is(err, unix.EINPROGRESS) {
		err = os.NewSyscallError("epoll", unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}))
		if err == nil {
			return fd, false, nil
		}
	}
	unix.Close(fd)
	return -1, true, err
}

// prepare sets what a socket has besides where it connects to.
func prepare(fd int, c fsm.Check) error {
	if err := options(fd, c); err != nil {
		return err
	}
	if !c.Bind.IsValid() && c.BindPort == 0 {
		return nil
	}
	from := c
	from.Dest = local(c)
	return os.NewSyscallError("bind", unix.Bind(fd, endpoint(from)))
}

// endpoint is where c goes, as the kernel takes it.
func endpoint(c fsm.Check) unix.Sockaddr {
	if a := c.Dest.Addr(); a.Is6() {
		return &unix.SockaddrInet6{Addr: a.As16(), Port: int(c.Dest.Port())}
	}
	return &unix.SockaddrInet4{Addr: c.Dest.Addr().As4(), Port: int(c.Dest.Port())}
}

func (e *epoll) ended(over func(fd int, err error)) {
	for {
		n, err := unix.EpollWait(e.fd, e.events[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		for _, ev := range e.events[:max(n, 0)] {
			fd := int(ev.Fd)
			err := refusal(fd)
			unix.Close(fd) // leaves the epoll set with it
			over(fd, err)
		}
		if n < len(e.events) {
			return
		}
	}
}

// refusal is why a connection failed. One that was reset had been accepted: a SYN that
// is answered by a reset is refused.
func refusal(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err == unix.ECONNRESET || err == unix.EPIPE {
		return nil
	}
	return os.NewSyscallError("connect", err)
}

func (e *epoll) drop(fd int) { unix.Close(fd) }
