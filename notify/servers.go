package notify

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
	"lbcluster/script"
)

// Servers tells changes of real servers and pools: it writes their lines into the
// set's pipes (keepalived: check/ipwrapper.c, notify_fifo_rs and notify_fifo_vs) and
// runs their programs, those of one virtual server one after the other.
type Servers struct {
	Pipes *Pipes
	Log   *slog.Logger
	run   func(context.Context, script.Job) (int, error) // nil: script.Run
}

// Tell returns when all programs of the notices have ended, or ctx has.
func (s Servers) Tell(ctx context.Context, t *fsm.Table, list []fsm.Notice) {
	jobs := map[fsm.ServiceKey][]script.Job{}
	for _, n := range list {
		if line := serverLine(n); line != "" {
			s.Pipes.Write(t.Globals(n.Set).FIFOs.Paths(false), line)
		}
		if p := program(t, n); p != nil {
			jobs[n.Service] = append(jobs[n.Service], script.Job{Command: p.Command, User: p.User, Timeout: Limit})
		}
	}
	run := s.run
	if run == nil {
		run = script.Run
	}
	var g errgroup.Group
	g.SetLimit(abreast)
	for key, all := range jobs {
		g.Go(func() error {
			for _, j := range all {
				if _, err := run(ctx, j); err != nil {
					s.Log.Warn("a notify script failed", "virtual_server", key, "command", j.Command, "err", err)
				}
			}
			return nil
		})
	}
	_ = g.Wait() // none returns an error
}

// abreast bounds the programs that run at a time.
const abreast = 16

// serverLine is keepalived's, empty for what is neither.
func serverLine(n fsm.Notice) string {
	switch n.Kind {
	case fsm.NoticeServer:
		return fmt.Sprintf("RS %s %s %s\n", n.Service.ServerText(n.Server), n.Service.Text(), n.State)
	case fsm.NoticePool:
		return fmt.Sprintf("VS %s %s\n", n.Service.Text(), n.State)
	}
	return ""
}

// program is what runs for a notice, as the table has it now; nil: nothing.
func program(t *fsm.Table, n fsm.Notice) *fsm.Script {
	v, ok := t.Service(n.Service)
	if !ok {
		return nil
	}
	if n.Kind == fsm.NoticePool {
		return v.Notify.Of(n.State)
	}
	for _, r := range v.RealServers {
		if n.Kind == fsm.NoticeServer && r.AddrPort() == n.Server {
			return r.Notify.Of(n.State)
		}
	}
	return nil
}
