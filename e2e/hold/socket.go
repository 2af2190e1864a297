package hold

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connectPatience is how long opening a connection may take.
const connectPatience = 3 * time.Second

// socket is a TCP socket that never blocks.
type socket int

// dial begins to connect a socket, from the network that the thread is in.
func dial(to netip.AddrPort) (socket, error) {
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	if to.Addr().Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = unix.Connect(fd, at)
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return socket(fd), nil
}

// connected waits until the socket is connected, and closes it if it cannot be.
func (s socket) connected() error {
	for deadline := time.Now().Add(connectPatience); ; {
		fds := []unix.PollFd{{Fd: int32(s), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, int(time.Until(deadline).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = unix.ETIMEDOUT
		}
		if err == nil {
			var code int
			if code, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
				err = unix.Errno(code)
			}
		}
		if err != nil {
			s.shut()
			return fmt.Errorf("connect: %w", err)
		}
		return nil
	}
}

// send sends a request.
func (s socket) send(words []byte) error {
	if err := unix.Sendto(int(s), words, unix.MSG_NOSIGNAL, nil); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// answer reads what has come. The page is so short that an answer comes as a
// whole or not at all.
func (s socket) answer() (came bool, err error) {
	var buf [4096]byte
	n, err := unix.Read(int(s), buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read: %w", err)
	case n == 0:
		return false, io.EOF
	case !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200 ")):
		return false, fmt.Errorf("answer %.40q", buf[:n])
	}
	return true, nil
}

func (s socket) shut() { unix.Close(int(s)) }
