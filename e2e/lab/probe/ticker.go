package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for a periodic tick and for sockets, in one thread.
type poller struct {
	ep, timer int
	period    time.Duration
	next      Time // when the next tick is due
	events    [64]unix.EpollEvent
}

func newPoller(period time.Duration) (*poller, error) {
	p := &poller{period: period}
	var err error
	if p.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	p.next = Now().Add(period)
	spec := &unix.ItimerSpec{
		Interval: unix.NsecToTimespec(int64(period)),
		Value:    unix.NsecToTimespec(int64(p.next)),
	}
	if err := unix.TimerfdSettime(p.timer, unix.TFD_TIMER_ABSTIME, spec, nil); err != nil {
		return nil, fmt.Errorf("timerfd: %w", err)
	}
	return p, p.watch(p.timer, unix.EPOLLIN)
}

func (p *poller) watch(fd int, events uint32) error {
	err := unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (p *poller) rewatch(fd int, events uint32) error {
	return unix.EpollCtl(p.ep, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait returns the file descriptors with events; the timer's among them.
func (p *poller) wait() ([]unix.EpollEvent, error) {
	for {
		n, err := unix.EpollWait(p.ep, p.events[:], -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
		return p.events[:n], nil
	}
}

// tick is called when the timer fired, and returns when that was due. Ticks
// that were missed meanwhile are left out, not made up for: a burst would be
// another load than the one asked for.
func (p *poller) tick() (due Time, ok bool) {
	var b [8]byte
	if _, err := unix.Read(p.timer, b[:]); err != nil {
		return 0, false
	}
	n := binary.NativeEndian.Uint64(b[:])
	due = p.next
	p.next = p.next.Add(time.Duration(n) * p.period)
	return due, n > 0
}
