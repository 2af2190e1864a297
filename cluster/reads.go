package cluster

import (
	"context"
	"time"

	"lbcluster/fsm"
)

// sayFirst is the version of commands that first could say what a member reads. It
// is used for that whatever the others read: nobody writes more before all have said
// it, and members that read less never were released.
const sayFirst = 3

// sayWhatIsRead keeps the table's word on what this member reads true: see
// [fsm.Table.Speaks].
func (s *session) sayWhatIsRead(ctx context.Context) error {
	for ctx.Err() == nil {
		t, changed := s.n.board.latest()
		m, ok := findMember(t.Members, s.id.ID)
		if !ok || m.Reads == s.n.reads {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		_, err := s.n.Propose(ctx, fsm.Command{Version: sayFirst, Member: &fsm.SetMember{ID: s.id.ID, Reads: s.n.reads}})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("telling the others which commands this program reads", "error", err)
			sleep(ctx, s.n.t.Retry)
		}
		sleep(ctx, min(s.n.t.Poll, time.Second))
	}
	return nil
}
