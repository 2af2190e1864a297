package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lbcluster/e2e/lab/guest"
)

// recordFile is the record of a run, in the folder of the lab's results.
const recordFile = "events.json"

// Entry is what was measured of one event with one system.
type Entry struct {
	Event  string `json:"event"`
	System string `json:"system"`
	Trials int    `json:"trials"` // all of them
	Marked int    `json:"marked"` // of them: the machine stood still
	// Values are the figures of each quantity; those of marked trials are in only
	// where the quantity counts in them, and a quantity without a trial is not
	// there.
	Values map[string]Figures `json:"values"`
}

// Figures are those of the trials that count.
type Figures struct {
	Best   float64 `json:"best"`
	Median float64 `json:"median"`
	Worst  float64 `json:"worst"`
}

// record is all that was measured, in the order of events and stages.
func (r results) record() []Entry {
	out := []Entry{}
	for i := range events {
		for _, st := range stages {
			if trials := r[events[i].name][st.system]; len(trials) > 0 {
				out = append(out, events[i].entry(st.system, trials))
			}
		}
	}
	return out
}

func (e *event) entry(s system, trials []trial) Entry {
	en := Entry{Event: e.name, System: string(s), Trials: len(trials), Values: map[string]Figures{}}
	for _, t := range trials {
		if t.marked() {
			en.Marked++
		}
	}
	for _, q := range e.counted {
		if sum := summarise(trials, q); sum.n > 0 {
			en.Values[string(q)] = Figures{sum.best, sum.mid, sum.worst}
		}
	}
	return en
}

// writeRecord keeps the record among the results.
func writeRecord(entries []Entry) error {
	text, err := MarshalRecord(entries)
	if err == nil {
		err = os.WriteFile(filepath.Join(guest.Results, recordFile), text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keeping the record: %w", err)
	}
	return nil
}

// MarshalRecord writes entries as [ReadRecord] reads them.
func MarshalRecord(entries []Entry) ([]byte, error) {
	text, err := json.MarshalIndent(entries, "", " ")
	return append(text, '\n'), err
}

// ReadRecord reads a record.
func ReadRecord(text []byte) ([]Entry, error) {
	var entries []Entry
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("reading a record of the benchmark: %w", err)
	}
	return entries, nil
}

// Merge puts a newer run's entries in the place of the older ones. What was
// measured of one event stays together: an event that the newer run has is taken
// from it with all its systems, so that nothing of two runs stands side by side.
func Merge(older, newer []Entry) []Entry {
	var out []Entry
	for i := range events {
		from := older
		if slices.ContainsFunc(newer, func(e Entry) bool { return e.Event == events[i].name }) {
			from = newer
		}
		for _, e := range from {
			if e.Event == events[i].name {
				out = append(out, e)
			}
		}
	}
	return out
}
