package checks

import (
	"fmt"
	"time"
)

// Flaps is what a director remembers of how often a target went down. The zero Flaps
// remember nothing.
//
// A target that goes down for the fourth time, without having been up for ten minutes in between,
// is held down for 30 s, whatever its checks say then; the next time for a minute, and
// so on up to five minutes. So a server that comes and goes leaves the tables for most
// of the time, and an hour of it writes some forty entries into the log instead of
// thousands. What its checks say while it is held is not counted: a hold ends when it
// was said to end.
type Flaps struct {
	Downs int       `json:"downs,omitempty"` // since the last rest
	Until time.Time `json:"until,omitzero"`  // it is held down until then
}

const (
	freely   = 3 // times down that cost nothing
	holdMin  = 30 * time.Second
	holdMax  = 5 * time.Minute
	flapRest = 10 * time.Minute // up for as long, and all is forgotten
)

// Down counts that a target that was up since a time goes down.
func (f Flaps) Down(since, now time.Time) Flaps {
	if now.Sub(since) >= flapRest {
		f = Flaps{}
	}
	if f.Downs++; f.Downs <= freely {
		return f
	}
	hold := holdMin
	for n := freely + 1; n < f.Downs && hold < holdMax; n++ {
		hold *= 2
	}
	f.Until = now.Add(min(hold, holdMax))
	return f
}

// Holds reports whether a target that is down may not come up yet.
func (f Flaps) Holds(now time.Time) bool { return now.Before(f.Until) }

// String is "flapping: down 5 times, held down until 12:01:00 UTC".
func (f Flaps) String() string {
	return fmt.Sprintf("flapping: down %d times, held down until %s UTC", f.Downs, f.Until.UTC().Format(time.TimeOnly))
}
