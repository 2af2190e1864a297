package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/fsm"
	"lbcluster/journal"
)

// whyBack is how far back the last change is looked for at first.
const whyBack = 24 * time.Hour

func (a *app) whyCommand() *cobra.Command {
	var at string
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "why ROUTER|GROUP",
		Short: "Say why a virtual router changed its owner",
		Long: `Say why a virtual router changed its owner: the last change, or with --at the
one nearest to a time. All members are asked for what they recorded; their
records are laid over each other by the clocks of their kernels, so that wall
clocks that differ do no harm, and what happened around the change is shown.
With --since, show all that the records say of the router in that time.`,
		Example: `  lbcluster why VI_1
  lbcluster why VI_1 --at 12:00:03
  lbcluster why VI_1 --at '2026-11-22 12:00:03' -o json
  lbcluster why VI_1 --since 10m`,
		Args:    cobra.ExactArgs(1),
		GroupID: groupLook,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			when, err := readWhen(at, now)
			if err != nil {
				return err
			}
			w, err := a.why(cmd, args[0], when, since, now)
			if err != nil {
				return err
			}
			return a.print(w, func() string { return renderWhy(w) })
		}),
	}
	cmd.Flags().StringVar(&at, "at", "", "the change nearest to this `TIME`: 15:04[:05] today, 'YYYY-MM-DD 15:04:05' or RFC 3339")
	cmd.Flags().DurationVar(&since, "since", 0, "show all that is recorded of so long, such as 10m")
	return cmd
}

// readWhen reads a time as a person writes it, by this machine's clock; empty:
// zero. A time of day that is yet to come was yesterday's.
func readWhen(word string, now time.Time) (time.Time, error) {
	if word == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, word, now.Location()); err == nil {
			return at, nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, word, now.Location()); err == nil {
			at := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
			if at.After(now) {
				at = at.AddDate(0, 0, -1)
			}
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: --at %q is no time: write 15:04:05, '2006-01-02 15:04:05' or RFC 3339", fsm.ErrInvalid, word)
}

// whyReport is the answer of why.
type whyReport struct {
	Router string `json:"router"`          // as it was asked for, by its name
	Group  string `json:"group,omitempty"` // the sync group that it moves with
	Unit   uint64 `json:"unit"`            // whose lease it is: the group's, or the router's
	journal.Answer
	Events  []journal.Event `json:"events"`
	Members []whoseRecord   `json:"members"`
	names   map[fsm.MemberID]string
}

// whoseRecord says of each member what there is of it.
type whoseRecord struct {
	Name   string        `json:"name"`
	Error  string        `json:"error,omitempty"`
	Offset time.Duration `json:"offset,omitempty"` // its wall clock, ahead of this machine's
	Margin time.Duration `json:"margin,omitempty"`
	Holes  string        `json:"holes,omitempty"` // why something may be missing
}

// why asks everybody and explains. The far past is asked for only if the near
// past holds no change.
func (a *app) why(cmd *cobra.Command, word string, at time.Time, since time.Duration, now time.Time) (whyReport, error) {
	t, err := a.client().Table(cmd.Context(), 0)
	if err != nil {
		return whyReport{}, fmt.Errorf("ask for the table: %w", err)
	}
	unit, name, err := findUnit(t, word)
	if err != nil {
		return whyReport{}, err
	}
	router, group := memberOfGroup(t, word, unit, name)
	from := now.Add(-max(whyBack, since))
	if !at.IsZero() {
		from = time.Time{} // the tenure that ended then may have begun long ago
	}
	for {
		records, err := a.client().Journal(cmd.Context(), from, time.Time{})
		if err != nil {
			return whyReport{}, fmt.Errorf("ask for the records: %w", err)
		}
		w := explain(t, records, journal.Question{Unit: unit, Name: router, At: at, Now: now}, since)
		w.Group = group
		if from.IsZero() || w.Found && w.From != "" {
			return w, nil
		}
		from = time.Time{}
	}
}

// explain is pure: records in, answer out.
func explain(t *fsm.Table, records []journal.Record, q journal.Question, since time.Duration) whyReport {
	w := whyReport{Router: q.Name, Unit: q.Unit, names: map[fsm.MemberID]string{}}
	q.Names, q.Unreachable = w.names, map[fsm.MemberID]string{}
	for _, m := range t.Members {
		w.names[m.ID] = m.Name
	}
	for _, r := range records {
		who := whoseRecord{Name: or(r.Name, string(r.Node)), Error: r.Error, Offset: r.Offset, Margin: r.Margin, Holes: r.Trouble}
		if r.Dropped > 0 && who.Holes == "" {
			who.Holes = fmt.Sprintf("entries that found no room: %d", r.Dropped)
		}
		if r.Error != "" {
			q.Unreachable[r.Node] = r.Error
		}
		w.Members = append(w.Members, who)
	}
	all := journal.Merge(records)
	for i := range all {
		all[i].Time = all[i].Time.In(q.Now.Location())
	}
	w.Answer = journal.Explain(all, q)
	shown := journal.Around(all, w.At, journal.WindowBefore, journal.WindowAfter)
	if since > 0 {
		shown = journal.Around(all, q.Now, since, time.Hour)
	}
	w.Events = []journal.Event{}
	for _, e := range shown {
		if e.Unit == 0 || e.Unit == q.Unit {
			w.Events = append(w.Events, e)
		}
	}
	return w
}

// memberOfGroup names what was asked for: a router within a sync group by its
// own name, beside the group's.
func memberOfGroup(t *fsm.Table, word string, unit uint64, name string) (router, group string) {
	if r, ok := t.RouterByName(word); ok && r.ID != unit && r.Name != name {
		return r.Name, name
	}
	return name, ""
}

// findUnit finds what a name or id of a virtual router means: the lease that it
// is under.
func findUnit(t *fsm.Table, word string) (unit uint64, name string, err error) {
	if u, ok := t.UnitByName(word); ok {
		return u.ID, u.Name, nil
	}
	for _, u := range t.Units() {
		if fmt.Sprint(u.ID) == word {
			return u.ID, u.Name, nil
		}
	}
	return 0, "", &hinted{fmt.Errorf("%w: no virtual router has the name or id %q", fsm.ErrNotFound, word), "lbcluster router list"}
}

func renderWhy(w whyReport) string {
	var b strings.Builder
	b.WriteString(w.Sentence + "\n")
	if w.Group != "" {
		fmt.Fprintf(&b, "It moves with the sync group %s, all of which has one owner.\n", w.Group)
	}
	if len(w.Events) > 0 {
		t := newTable("WHEN", "WHERE", "WHAT")
		for _, e := range w.Events {
			t.row(e.Time.Format("15:04:05.000"), e.Name, eventText(e, w.names))
		}
		b.WriteString("\n" + t.String())
	}
	for _, m := range w.Members {
		switch {
		case m.Error != "":
			fmt.Fprintf(&b, "\nNo record of %s: %s.", m.Name, m.Error)
		case m.Offset.Abs() > m.Margin && m.Offset.Abs() > 10*time.Millisecond:
			fmt.Fprintf(&b, "\nThe wall clock of %s is %s; its entries were put right.", m.Name, ahead(m.Offset))
		}
		if m.Holes != "" {
			fmt.Fprintf(&b, "\nThe record of %s may have holes: %s.", m.Name, m.Holes)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func ahead(d time.Duration) string {
	if d < 0 {
		return journal.Seconds(-d) + " behind"
	}
	return journal.Seconds(d) + " ahead"
}

// eventText is an entry for a person.
func eventText(e journal.Event, names map[fsm.MemberID]string) string {
	var peers []string
	for _, id := range e.Peers {
		peers = append(peers, or(names[id], string(id)))
	}
	who := strings.Join(peers, ", ")
	text := eventWords(e, who)
	if e.For > 0 {
		text += " for " + journal.Seconds(e.For)
	}
	if e.Times > 1 {
		text += fmt.Sprintf(" (%d times)", e.Times)
	}
	return text
}

// eventWords says what a kind means; who are the entry's peers.
func eventWords(e journal.Event, who string) string {
	why := e.Text
	if why == "" {
		why = string(e.Cause)
	}
	with := func(text string) string {
		if why == "" {
			return text
		}
		return text + ": " + why
	}
	switch e.Kind {
	case journal.Acquired:
		if e.Cause == journal.Adopted {
			return "goes on owning it: adopted from the process before"
		}
		return "OWNS IT"
	case journal.Lost:
		return with("lost it")
	case journal.Handover:
		why = handoverWords(e)
		return with("hands it to " + who)
	case journal.RoundLost:
		return "renewal got no answer from " + who
	case journal.Denied:
		return with("refused by " + who)
	case journal.Started:
		return with("the daemon started, " + startWords[e.Cause])
	case journal.Stopped:
		return "the daemon is told to stop"
	case journal.Reloaded:
		return "the daemon executes itself again and keeps what it owns"
	case journal.Paused:
		return "stood still"
	case journal.Fenced:
		return with("lbcluster fence")
	case journal.Unfit:
		return with("unfit")
	case journal.Fit:
		return "fit"
	case journal.GateClosed:
		if late := time.Duration(e.Boot - e.Deadline); e.Deadline > 0 && late > 0 {
			return fmt.Sprintf("the gate had closed by itself at %s: %s", e.Time.Add(-late).Format("15:04:05.000"), why)
		}
	case journal.Link:
		return fmt.Sprintf("link %s: %s", e.Cause, e.Text)
	case journal.PathDead:
		return fmt.Sprintf("hears nothing from %s by %s", who, e.Text)
	case journal.PathBack:
		return fmt.Sprintf("hears %s again by %s", who, e.Text)
	}
	return with(strings.ReplaceAll(string(e.Kind), "-", " "))
}

// handoverWords says why a handover began; of what an operator ordered the entry
// has his name.
func handoverWords(e journal.Event) string {
	by := ""
	if e.Text != "" {
		by = " by " + e.Text
	}
	switch e.Cause {
	case journal.ByMove:
		return "moved" + by
	case journal.ByDrain:
		return "drained" + by
	case journal.ByStop:
		return or(e.Text, "the daemon stops")
	}
	return or(e.Text, handoverCauseWords[e.Cause])
}

var handoverCauseWords = map[journal.Cause]string{
	journal.GoHome: "it goes home", journal.ToFitter: "it is fitter", journal.ByCutOff: "this director is cut off there",
}

var startWords = map[journal.Cause]string{
	journal.FirstStart:  "for the first time",
	journal.AfterStop:   "after an orderly stop",
	journal.AfterCrash:  "after the one before was killed or failed",
	journal.AfterBoot:   "after a boot of the machine",
	journal.AfterReload: "executed again",
}
