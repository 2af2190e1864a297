package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "List the configurations that were applied",
		Long: `List what was applied: when, by whom, to which set, and what it changed. Each has
the revision by which diff and rollback know it; where a restored snapshot changed
several sets at once, write 17/SET. All members have the same
history; the last ` + strconv.Itoa(fsm.HistoryKept) + ` are kept, fewer if they are very large.`,
		Example: `  lbcluster history
  lbcluster history -o json`,
		Args:    cobra.NoArgs,
		GroupID: groupConfig,
		RunE: a.verb(func(cmd *cobra.Command, _ []string) error {
			h, err := a.client().History(cmd.Context())
			if err != nil {
				return fmt.Errorf("ask for the history: %w", err)
			}
			return a.print(h, func() string { return renderHistory(h) })
		}),
	}
}

// renderHistory has the newest at the end, where the terminal is; * marks what
// a set is now.
func renderHistory(h api.HistoryReply) string {
	if len(h.Entries) == 0 {
		return "Nothing was applied yet.\n"
	}
	t := newTable("REVISION", "SET", "WHEN", "WHO", "WHAT")
	for _, e := range h.Entries {
		mark := ""
		if e.Current {
			mark = "*"
		}
		t.row(fmt.Sprint(e.Revision)+mark, e.Set, e.At.Local().Format(time.DateTime), e.By, or(e.Why, "apply")+": "+e.Text)
	}
	return t.String() + renderPending(h.Pending)
}

func renderPending(p *api.Pending) string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf("Revision %d waits for lbcluster confirm; at about %s it is undone.\n", p.Revision, p.Until.Local().Format(time.TimeOnly))
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff [REV [REV]]",
		Short: "Show what changed between configurations that were applied",
		Long: `Show what changed from one revision of a set to another; with one, from that to
what the set is now; without any, what the last apply changed. lbcluster history
lists the revisions.`,
		Example: `  lbcluster diff
  lbcluster diff 12
  lbcluster diff 12 17`,
		Args:    cobra.MaximumNArgs(2),
		GroupID: groupConfig,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			d, err := a.diff(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.print(d, func() string { return d.text() })
		}),
	}
}

// difference is the answer of diff.
type difference struct {
	Set     string       `json:"set"`
	From    fsm.Revision `json:"from"` // 0: nothing was there, or is kept
	To      fsm.Revision `json:"to"`   // likewise
	Changes []fsm.Change `json:"changes"`
}

func (d difference) text() string {
	var b strings.Builder
	if len(d.Changes) == 0 {
		return fmt.Sprintf("Set %q is the same at revisions %d and %d.\n", d.Set, d.From, d.To)
	}
	fmt.Fprintf(&b, "Set %q, from %s to %s:\n", d.Set, revisionText(d.From), revisionText(d.To))
	for _, c := range d.Changes {
		b.WriteString(renderChange(c))
	}
	return b.String()
}

func revisionText(r fsm.Revision) string {
	if r == 0 {
		return "nothing"
	}
	return fmt.Sprintf("revision %d", r)
}

// diff compares what two words name: see diffCommand.
func (a *app) diff(ctx context.Context, words []string) (difference, error) {
	h, err := a.client().History(ctx)
	if err != nil {
		return difference{}, fmt.Errorf("ask for the history: %w", err)
	}
	if len(h.Entries) == 0 {
		return difference{}, fmt.Errorf("%w: nothing was applied yet", fsm.ErrNotFound)
	}
	if len(words) == 0 {
		newest := h.Entries[len(h.Entries)-1]
		last, err := a.revision(ctx, fmt.Sprintf("%d/%s", newest.Revision, newest.Set))
		if err != nil {
			return difference{}, err
		}
		var former fsm.Applied
		if last.Former != nil {
			former = *last.Former
		}
		return differenceOf(former, last.Applied), nil
	}
	from, err := a.revision(ctx, words[0])
	if err != nil {
		return difference{}, err
	}
	word := ""
	for _, e := range h.Entries {
		if e.Set == from.Set && e.Current {
			word = fmt.Sprintf("%d/%s", e.Revision, e.Set)
		}
	}
	if len(words) == 2 {
		word = words[1]
	}
	to, err := a.revision(ctx, word)
	if err != nil {
		return difference{}, err
	}
	if from.Set != to.Set {
		return difference{}, &hinted{
			fmt.Errorf("%w: revision %d is of set %s, %d of set %s", fsm.ErrInvalid, from.Revision, from.Set, to.Revision, to.Set),
			"two revisions of one set can be compared; lbcluster history lists them",
		}
	}
	return differenceOf(from.Applied, to.Applied), nil
}

func differenceOf(from, to fsm.Applied) difference {
	d := difference{Set: to.Set, From: from.Revision, To: to.Revision, Changes: fsm.DiffConfigs(from.Config, to.Config)}
	if d.Changes == nil {
		d.Changes = []fsm.Change{}
	}
	return d
}

// revision asks for what a word on the command line names.
func (a *app) revision(ctx context.Context, word string) (api.RevisionReply, error) {
	number, set, _ := strings.Cut(word, "/")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return api.RevisionReply{}, &hinted{fmt.Errorf("%w: %q is no revision", fsm.ErrInvalid, word), "lbcluster history lists the revisions"}
	}
	r, err := a.client().Revision(ctx, fsm.Revision(n), set)
	if err != nil {
		return r, fmt.Errorf("ask for revision %d: %w", n, err)
	}
	return r, nil
}
