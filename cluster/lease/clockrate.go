package lease

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// RateClocks are the clocks whose rates are compared, in ns. The holder's
// CLOCK_BOOTTIME runs as CLOCK_MONOTONIC does, which time daemons slew; nobody
// slews CLOCK_MONOTONIC_RAW.
type RateClocks struct {
	Mono, Raw, Boot func() int64
}

// KernelRateClocks reads the kernel's.
func KernelRateClocks() RateClocks {
	return RateClocks{reader(unix.CLOCK_MONOTONIC), reader(unix.CLOCK_MONOTONIC_RAW), reader(unix.CLOCK_BOOTTIME)}
}

// reading is all clocks at about one moment.
type reading struct {
	mono, raw, boot int64
	spread          int64 // how long the reading took: the clocks may be so far apart
}

// maxSpread is the longest a reading may take to be used; maxReads how often it
// is tried when the thread is interrupted in the middle.
const (
	maxSpread = int64(100 * time.Microsecond)
	maxReads  = 5
)

// read reads the clocks as close together as it can: the raw clock on both
// sides of the others, which are taken to be in the middle.
func (c RateClocks) read() (best reading) {
	for i := range maxReads {
		before := c.Raw()
		mono, boot := c.Mono(), c.Boot()
		after := c.Raw()
		r := reading{mono, before + (after-before)/2, boot, after - before}
		if i == 0 || r.spread < best.spread {
			best = r
		}
		if best.spread <= maxSpread {
			break
		}
	}
	return best
}

// ClockStatus says at which rate this machine's clock runs.
type ClockStatus struct {
	// Rate is how much faster CLOCK_MONOTONIC runs than the hardware's clock, as
	// a part of 1; Worst is the one furthest from 0 since this process started.
	Rate, Worst float64
	Measured    uint64 // how often
	// Eps is the part of the TTL that is kept back for clock rates now.
	Eps float64
	// Suspended is how long the machine was suspended since this process started.
	Suspended time.Duration
	Alarm     string // a sentence; empty: all is well
}

// rateMonitor estimates the rate from readings, about one a second, and says
// what follows. It is a pure machine.
//
// A lease is used for ttl(1-eps) of the holder's clock, and promised for ttl of
// the voters'. A holder's clock that is slow by more than eps makes the lease
// outlast the promise: see minEps. A fast one is only early.
type rateMonitor struct {
	eps       float64 // configured
	wide      bool    // the alarm was raised: wideEps from then on
	stopped   bool    // nothing may be renewed
	last      reading
	began     bool
	sleptFrom int64
	status    ClockStatus
}

const (
	// wideEps is what is kept back once a clock was seen to run far off. It covers
	// more than the kernel lets anybody slew (10 % and 500 ppm).
	wideEps = 0.20
	// voterRate is how much faster a voter's raw clock may run: crystals.
	voterRate = 0.0005
	// Readings closer together than minGap tell too little; further apart than
	// maxGap, the process was frozen, and they still tell an average.
	minGap = int64(200 * time.Millisecond)
)

// verdict is what follows from a reading.
type verdict uint8

const (
	clockSame  verdict = iota
	clockWiden         // alarm: keep back more from now on
	clockStop          // the rate is not covered: hold nothing
	clockGo            // it is covered again
)

func newRateMonitor(eps float64) *rateMonitor {
	return &rateMonitor{eps: eps, status: ClockStatus{Eps: eps}}
}

// covered is the slowest rate that eps covers: eps >= 1-(1-rho_h)/(1+rho_v).
func covered(eps float64) float64 { return 1 - (1-eps)*(1+voterRate) }

// add takes a reading.
func (m *rateMonitor) add(r reading) verdict {
	if r.spread > maxSpread {
		return clockSame // interrupted in the middle: it says nothing
	}
	if !m.began {
		m.began, m.last, m.sleptFrom = true, r, r.boot-r.mono
		return clockSame
	}
	gap := r.raw - m.last.raw
	if gap < minGap {
		return clockSame
	}
	rate := float64(r.mono-m.last.mono)/float64(gap) - 1
	m.last = r
	st := &m.status
	st.Measured++
	st.Rate, st.Suspended = rate, time.Duration(r.boot-r.mono-m.sleptFrom)
	if math.Abs(rate) > math.Abs(st.Worst) {
		st.Worst = rate
	}
	return m.judge(rate)
}

func (m *rateMonitor) judge(rate float64) verdict {
	st := &m.status
	switch slow := -rate; {
	case slow > covered(max(m.eps, wideEps)):
		m.widen()
		st.Alarm = fmt.Sprintf("this machine's clock runs %.1f %% slow, more than the lease allows for: nothing is held here", 100*slow)
		if m.stopped {
			return clockSame
		}
		m.stopped = true
		return clockStop
	case m.stopped:
		m.stopped = false
		st.Alarm = fmt.Sprintf("this machine's clock ran %.1f %% slow", -100*st.Worst)
		return clockGo
	case math.Abs(rate) > m.eps/2:
		first := !m.wide
		m.widen()
		word := "fast"
		if rate < 0 {
			word = "slow"
		}
		st.Alarm = fmt.Sprintf("this machine's clock runs %.1f %% %s: what sets it should be looked at; %.0f %% of each lease are kept back for it",
			100*math.Abs(rate), word, 100*st.Eps)
		if first {
			return clockWiden
		}
	case m.wide:
		st.Alarm = fmt.Sprintf("this machine's clock was %.1f %% off, and is not now; %.0f %% of each lease stay kept back until the daemon starts again",
			100*math.Abs(st.Worst), 100*st.Eps)
	}
	return clockSame
}

func (m *rateMonitor) widen() {
	m.wide = true
	m.status.Eps = max(m.eps, wideEps)
}

// SetEps changes the part of the TTL that is kept back, from the next round
// that is won. A deadline that is set already stays.
func (h *Holder) SetEps(eps float64) { h.p.Eps = eps }

// clockEvery is how often the clocks are compared.
const clockEvery = time.Second

// watchClock compares the clocks when it is time.
func (l *loop) watchClock(now int64) {
	if l.d.rates == nil || now < l.clockAt {
		return
	}
	l.clockAt = now + int64(clockEvery)
	v := l.rate.add(l.d.rates.read())
	if v == clockSame {
		return
	}
	st := l.rate.status
	l.holder.SetEps(st.Eps)
	l.log(slog.LevelError, st.Alarm, "rate", st.Rate)
	l.journal(Entry{Kind: EntryClock, Cause: [...]string{"", "far off", "not covered", "covered again"}[v], Text: st.Alarm})
	if v != clockWiden {
		l.tellFit()
	}
}

// tellFit tells the holder whether this member is fit: as it was told, and by
// its clock.
func (l *loop) tellFit() {
	f := l.fit
	if f.OK && l.rate.stopped {
		f = Fit{Reason: l.rate.status.Alarm}
	}
	l.heirs()
	l.queue = append(l.queue, f)
}
