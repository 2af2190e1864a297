package probe

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// HTTPConfig says what the HTTP prober does.
type HTTPConfig struct {
	Target  netip.AddrPort
	Sources []netip.Addr  // used in turn; empty: the kernel chooses
	Every   time.Duration // a new connection each
	Timeout time.Duration // for a whole request
}

// conn is one request under way.
type conn struct {
	rec  HTTP
	fd   int
	sent bool
	buf  [512]byte
	n    int
}

// httpProber is the state of the one loop.
type httpProber struct {
	cfg   HTTPConfig
	out   *os.File
	poll  *poller
	conns map[int]*conn
	queue []*conn // in the order they started, to find the ones that time out
	turn  int
	buf   []byte
}

// RunHTTP probes until it is killed; records go to out.
func RunHTTP(cfg HTTPConfig, out *os.File) error {
	poll, err := newPoller(cfg.Every)
	if err != nil {
		return err
	}
	p := &httpProber{cfg: cfg, out: out, poll: poll, conns: map[int]*conn{}}
	for {
		events, err := poll.wait()
		if err != nil {
			return err
		}
		for _, ev := range events {
			if int(ev.Fd) == poll.timer {
				err = p.tick()
			} else if c := p.conns[int(ev.Fd)]; c != nil {
				err = p.progress(c)
			}
			if err != nil {
				return err
			}
		}
	}
}

func (p *httpProber) tick() error {
	due, ok := p.poll.tick()
	if !ok {
		return nil
	}
	now := Now()
	for len(p.queue) > 0 && (p.queue[0].fd < 0 || now.Sub(p.queue[0].rec.Start) > p.cfg.Timeout) {
		c := p.queue[0]
		p.queue = p.queue[1:]
		if c.fd < 0 { // ended long ago
			continue
		}
		if err := p.end(c, TimedOut); err != nil {
			return err
		}
	}
	return p.start(&conn{rec: HTTP{Planned: due, Start: now}, fd: -1})
}

func (p *httpProber) start(c *conn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.fd = fd
	if n := len(p.cfg.Sources); n > 0 {
		// The port is chosen at connect, when the whole four-tuple is known;
		// otherwise the ports of an address run out.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		src := p.cfg.Sources[p.turn%n]
		p.turn++
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: src.As4()}); err != nil {
			return p.end(c, classify(err))
		}
	}
	to := &unix.SockaddrInet4{Addr: p.cfg.Target.Addr().As4(), Port: int(p.cfg.Target.Port())}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return p.end(c, classify(err))
	}
	p.conns[fd] = c
	p.queue = append(p.queue, c)
	return p.poll.watch(fd, unix.EPOLLOUT)
}

var request = []byte("GET / HTTP/1.0\r\nConnection: close\r\n\r\n")

// progress moves a request on after an event on its socket.
func (p *httpProber) progress(c *conn) error {
	if !c.sent {
		soErr, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && soErr != 0 {
			err = unix.Errno(soErr)
		}
		if err == nil {
			_, err = unix.Write(c.fd, request)
		}
		if err != nil {
			return p.end(c, classify(err))
		}
		c.sent = true
		return p.poll.rewatch(c.fd, unix.EPOLLIN)
	}
	n, err := unix.Read(c.fd, c.buf[c.n:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return p.end(c, classify(err))
	case n > 0 && c.n+n < len(c.buf):
		c.n += n
		return nil
	}
	c.n += n
	var result Result
	c.rec.Server, result = readAnswer(c.buf[:c.n])
	return p.end(c, result)
}

// readAnswer takes the first line of the body of an answer with status 200.
func readAnswer(b []byte) (string, Result) {
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok || !bytes.HasPrefix(head, []byte("HTTP/1.")) || !bytes.HasPrefix(head[min(8, len(head)):], []byte(" 200")) {
		return "", BadAnswer
	}
	line, _, _ := bytes.Cut(body, []byte("\n"))
	if len(line) == 0 {
		return "", BadAnswer
	}
	return string(line[:min(len(line), serverSize)]), OK
}

func (p *httpProber) end(c *conn, r Result) error {
	unix.Close(c.fd)
	delete(p.conns, c.fd)
	c.fd = -1
	c.rec.End, c.rec.Result = Now(), r
	p.buf = c.rec.append(p.buf[:0])
	_, err := p.out.Write(p.buf)
	return err
}

func classify(err error) Result {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return Reset
	case errors.Is(err, unix.ETIMEDOUT):
		return TimedOut
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ENETDOWN):
		return Unreachable
	}
	return OtherError
}
