package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// ARPConfig says what the ARP prober does.
type ARPConfig struct {
	Interface string
	Self      netip.Addr // the prober's own address, the sender of its requests
	VIP       netip.Addr
	Every     time.Duration
}

const (
	arpFrame   = 42 // Ethernet header and ARP body
	opRequest  = 1  // RFC 826
	opReply    = 2
	ethTypeARP = 0x0806
)

// arpRequest builds "who has vip, tell self" as a broadcast frame.
func arpRequest(mac MAC, self, vip netip.Addr) []byte {
	f := append(bytes.Repeat([]byte{0xff}, 6), mac[:]...)
	f = binary.BigEndian.AppendUint16(f, ethTypeARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, opRequest) // Ethernet, IPv4, address lengths
	f = append(f, mac[:]...)
	f = append(f, self.AsSlice()...)
	f = append(f, make([]byte, 6)...)
	return append(f, vip.AsSlice()...)
}

// readARP classifies a received frame; ok is false if it does not claim the
// VIP. Claiming means having it as the sender's protocol address.
func readARP(f []byte, vip netip.Addr, own MAC) (rec ARP, ok bool) {
	if len(f) < arpFrame || binary.BigEndian.Uint16(f[12:]) != ethTypeARP {
		return rec, false
	}
	sender, target := netip.AddrFrom4([4]byte(f[28:32])), netip.AddrFrom4([4]byte(f[38:42]))
	rec.Op, rec.MAC = f[21], MAC(f[22:28])
	if sender != vip || rec.MAC == own {
		return rec, false
	}
	switch {
	case target == vip:
		rec.Kind = Gratuitous
	case rec.Op == opReply && MAC(f[0:6]) == own:
		rec.Kind = Answered
	default:
		rec.Kind = Claimed
	}
	return rec, true
}

// arpProber is the state of the one loop.
type arpProber struct {
	cfg   ARPConfig
	out   *os.File
	poll  *poller
	fd    int
	index int
	own   MAC
	seq   uint32
	buf   []byte
}

// RunARP probes until it is killed; records go to out.
func RunARP(cfg ARPConfig, out *os.File) error {
	link, err := net.InterfaceByName(cfg.Interface)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.Interface, err)
	}
	p := &arpProber{cfg: cfg, out: out, index: link.Index, own: ToMAC(link.HardwareAddr)}
	proto := binary.NativeEndian.Uint16([]byte{ethTypeARP >> 8, ethTypeARP & 0xff})
	if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto)); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Index}); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if p.poll, err = newPoller(cfg.Every); err != nil {
		return err
	}
	if err := p.poll.watch(p.fd, unix.EPOLLIN); err != nil {
		return err
	}
	return p.loop()
}

func (p *arpProber) loop() error {
	ask := arpRequest(p.own, p.cfg.Self, p.cfg.VIP)
	for {
		events, err := p.poll.wait()
		if err != nil {
			return err
		}
		for _, ev := range events {
			if int(ev.Fd) == p.poll.timer {
				err = p.tick(ask)
			} else {
				err = p.receive()
			}
			if err != nil {
				return err
			}
		}
	}
}

func (p *arpProber) tick(ask []byte) error {
	due, ok := p.poll.tick()
	if !ok {
		return nil
	}
	// What waits in the socket answers the requests before this one.
	if err := p.receive(); err != nil {
		return err
	}
	p.seq++
	now := Now()
	err := unix.Sendto(p.fd, ask, 0, &unix.SockaddrLinklayer{Ifindex: p.index})
	if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
		return fmt.Errorf("asking: %w", err)
	}
	return p.write(ARP{At: now, Kind: Asked, Seq: p.seq, Late: now.Sub(due)})
}

func (p *arpProber) receive() error {
	var frame [128]byte
	for {
		n, _, err := unix.Recvfrom(p.fd, frame[:], 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENETDOWN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("receiving: %w", err)
		}
		rec, ok := readARP(frame[:n], p.cfg.VIP, p.own)
		if !ok {
			continue
		}
		rec.At, rec.Seq = Now(), p.seq
		if err := p.write(rec); err != nil {
			return err
		}
	}
}

func (p *arpProber) write(rec ARP) error {
	p.buf = rec.append(p.buf[:0])
	_, err := p.out.Write(p.buf)
	return err
}

// RunStalls records how late its own ticks are, on that CPU or with a negative one
// on any, until it is killed.
func RunStalls(every time.Duration, cpu int, out *os.File) error {
	if cpu >= 0 {
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("run on CPU %d: %w", cpu, err)
		}
	}
	poll, err := newPoller(every)
	if err != nil {
		return err
	}
	p := &arpProber{out: out}
	for {
		if _, err := poll.wait(); err != nil {
			return err
		}
		due, ok := poll.tick()
		if !ok {
			continue
		}
		p.seq++
		now := Now()
		if err := p.write(ARP{At: now, Kind: Asked, Seq: p.seq, Late: now.Sub(due)}); err != nil {
			return err
		}
	}
}
