package handover

import "time"

// window is how a quality changed lately.
type window struct {
	samples []sample // changes, oldest first; the first may be older than the window
}

type sample struct {
	at time.Duration
	q  quality
}

// maxSamples bounds a window; of a quality that changes faster the oldest
// changes are joined, the worse one staying.
const maxSamples = 128

// add notes the quality at a time, and forgets what is out of a window of length.
func (w *window) add(now time.Duration, q quality, length time.Duration) {
	if n := len(w.samples); n == 0 || w.samples[n-1].q != q {
		w.samples = append(w.samples, sample{now, q})
	}
	for len(w.samples) > 1 && w.samples[1].at <= now-length {
		w.samples = w.samples[1:]
	}
	if len(w.samples) > maxSamples {
		w.samples[1].q = worse(w.samples[0].q, w.samples[1].q)
		w.samples = w.samples[1:]
	}
}

// worst is the worst quality during the whole window up to now; unknown if the
// window began before the first sample.
func (w *window) worst(now, length time.Duration) quality {
	if len(w.samples) == 0 || w.samples[0].at > now-length {
		return unknown
	}
	q := w.samples[0].q
	for _, s := range w.samples[1:] {
		q = worse(q, s.q)
	}
	return q
}

// best is the best quality in the window as add left it, as far as it is known.
func (w *window) best() quality {
	q := unknown
	for _, s := range w.samples {
		q = better(q, s.q)
	}
	return q
}
