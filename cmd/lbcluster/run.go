package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lbcluster/breakglass"
	"lbcluster/cluster"
	"lbcluster/cluster/lease"
	"lbcluster/dataplane/gate"
	"lbcluster/fsm"
	"lbcluster/journal"
	"lbcluster/metrics"
)

// theDaemon is everything that lives as long as the process. It is the API's
// backend: see backend.go.
type theDaemon struct {
	cfg     NodeConfig
	log     *slog.Logger
	started time.Time
	refused atomic.Pointer[string] // why the last reload was refused; nil: it was not
	node    *cluster.Node
	// part is what runs while this machine is a member; nil: it is in no
	// cluster, or its parts are just starting.
	part atomic.Pointer[member]
	// enrolling is held by the one Init or Join that is under way.
	enrolling sync.Mutex
	// vacate asks the running parts to let go and end: see backend.Leave.
	vacate chan departure
	// votedAs is the identity whose voter has run in this process; of runMember alone.
	votedAs string
	journal *journal.Journal
	// troubles are what cannot be served over TCP.
	troubles troubles
	probes   *metrics.Probes  // what this process's checks took
	hup      <-chan os.Signal // SIGHUP: see awaitReload
	lock     *daemonLock
}

// runDaemon builds the daemon and runs it until ctx ends.
//
// Nothing but a wrong configuration, a damaged data folder or a second daemon on
// this machine makes it fail: what goes wrong later is retried, counted and
// shown.
func runDaemon(ctx context.Context, cfg NodeConfig) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	lock, err := awaitLock(ctx, cfg.lockFile(), 2*fenceLimit)
	if err != nil {
		return err
	}
	defer lock.release()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: noTime()}))
	d := &theDaemon{cfg: cfg, log: log, started: time.Now(), vacate: make(chan departure), hup: hup, lock: lock, probes: metrics.NewProbes()}
	d.journal = journal.New(journal.Config{Dir: cfg.DataDir, Boot: gate.BootNow, Log: log.With("part", "journal")})
	node, err := cluster.New(cluster.Config{
		Dir: cfg.DataDir, Name: cfg.Name, Addr: cfg.Addr, Log: log.With("part", "cluster"),
		Answers: map[string]func(context.Context) ([]byte, error){
			askStatus:  func(context.Context) ([]byte, error) { return json.Marshal(d.Local()) },
			askJournal: d.answerJournal,
		},
		OnLeasePacket: func(_ fsm.MemberID, packet []byte) {
			if m := d.part.Load(); m != nil {
				m.lease.Deliver(packet) // who sent it is sealed inside
			}
		},
	})
	if err != nil {
		return err
	}
	d.node = node
	stayInMemory(log)
	serve, err := d.listen()
	if err != nil {
		return err
	}
	log.Info("lbcluster is running", "version", buildVersion(), "name", cfg.Name, "addr", cfg.Addr, "socket", cfg.Socket)
	reloaded, err := d.run(ctx, serve)
	if reloaded && ctx.Err() == nil {
		err = errors.Join(err, executeAgain(lock))
	}
	return err
}

// stayInMemory keeps pages that were used once in memory: the lease's thread
// must not wait for a disk because its code was paged out, or because another
// goroutine stopped at a page of the Raft log while garbage is collected (R12).
// Pages are locked as they are touched, so this costs no memory in advance.
func stayInMemory(log *slog.Logger) {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		log.Warn("memory is not locked: a stalled disk may delay the lease's renewals", "err", err)
	}
}

// run starts the parts and stops them in the order that clients feel least:
// first the member's parts (the lease gives its VIPs to another director),
// then the node (which hands Raft's leadership over, and which the lease's
// last words to the history still need), last the socket. For a reload, and
// then reloaded is true, it is the other way round: all that may take long ends
// while the lease is still renewed, and then the lease is kept.
func (d *theDaemon) run(ctx context.Context, serve func(context.Context) error) (reloaded bool, err error) {
	base := context.WithoutCancel(ctx)
	memberCtx, stopMember := context.WithCancelCause(ctx)
	nodeCtx, stopNode := context.WithCancel(base)
	restCtx, stopRest := context.WithCancel(base)
	defer stopMember(nil)
	defer stopNode()
	defer stopRest()

	d.noteStart(ctx)
	stopNoting := context.AfterFunc(ctx, func() { d.noteEnd(ctx) })
	defer stopNoting()
	var slow, g errgroup.Group
	slow.Go(func() error { return serve(restCtx) })
	slow.Go(func() error { return d.journal.Run(restCtx) })
	slow.Go(func() error { return d.watch(restCtx) })
	slow.Go(func() error { return d.keepForTheWorst(restCtx) })
	slow.Go(func() error {
		defer stopRest()
		return d.node.Run(nodeCtx)
	})
	g.Go(func() error {
		defer stopNode()
		defer stopMember(nil)
		return d.runMember(memberCtx)
	})
	g.Go(func() error {
		if reloaded = d.awaitReload(memberCtx); !reloaded {
			return nil
		}
		d.log.Info("executing itself again; the VIPs stay")
		tellSystemd(daemon.SdNotifyReloading)
		d.note(journal.Entry{Kind: journal.Reloaded})
		d.stretchLease(memberCtx)
		stopNode()
		err := slow.Wait()
		if m := d.part.Load(); m != nil && m.watch != nil {
			m.watch.pipes.StopReaders()
		}
		stopMember(lease.ErrKeep) // the gate stays open until its deadline, the VIPs stay where they are
		return err
	})
	tellSystemd(daemon.SdNotifyReady)
	context.AfterFunc(ctx, func() { tellSystemd(daemon.SdNotifyStopping) })
	err = g.Wait()
	return reloaded, errors.Join(err, slow.Wait())
}

// keepForTheWorst writes the break-glass files and snapshots on a director.
func (d *theDaemon) keepForTheWorst(ctx context.Context) error {
	return breakglass.New(breakglass.Config{
		Dir: d.cfg.DataDir, By: fmt.Sprintf("lbcluster %s on %s", buildVersion(), d.cfg.Name), Log: d.log.With("part", "breakglass"),
		Watch: d.node.Watch,
	}).Run(ctx)
}

// tellSystemd tells systemd, if it started us.
func tellSystemd(state string) { _, _ = daemon.SdNotify(false, state) }

// noTime leaves the time out of log lines where the journal adds its own.
func noTime() func([]string, slog.Attr) slog.Attr {
	if os.Getenv("JOURNAL_STREAM") == "" {
		return nil
	}
	return func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
}

// stateFile is where the data plane keeps what it put into the kernel: in the
// run folder, which lives as long as the kernel does.
func (c NodeConfig) stateFile() string {
	return filepath.Join(filepath.Dir(c.Socket), "dataplane.json")
}

// leaseFile is where the lease keeps what it must not forget while the kernel
// runs.
func (c NodeConfig) leaseFile() string { return filepath.Join(filepath.Dir(c.Socket), "lease.state") }

// bootIDs returns the boot of this kernel at this member's last start, as the
// data folder remembers it (empty: not known), and durably writes down the
// present one for the next start.
func (c NodeConfig) bootIDs() (last string, err error) {
	path := filepath.Join(c.DataDir, "boot_id")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the last boot: %w", err)
	}
	last = strings.TrimSpace(string(b))
	if now := journal.BootID(); now != last {
		if err := writeDurably(path, now+"\n"); err != nil {
			return "", fmt.Errorf("write the present boot: %w", err)
		}
	}
	return last, nil
}

// writeDurably replaces a small file, whole or not at all.
func writeDurably(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// runMember runs the parts of a member whenever this machine is one.
func (d *theDaemon) runMember(ctx context.Context) error {
	for {
		id, settings, ok := d.awaitMembership(ctx)
		if !ok {
			return nil
		}
		leaves, err := d.serveAs(ctx, id, settings)
		switch {
		case leaves != nil:
			d.depart(*leaves)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, gate.ErrSuperseded):
			return err // two daemons on one machine: the later one has the gate
		case err != nil:
			d.log.Error("this member's parts ended; starting them again", "err", err)
			pause(ctx, partRetry)
		}
	}
}

// serveAs builds this member's parts and runs them until they fail, ctx ends,
// or the machine is about to leave the cluster.
func (d *theDaemon) serveAs(ctx context.Context, id cluster.Identity, settings fsm.Settings) (leaves *departure, err error) {
	m, err := newMember(d, id, settings)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.part.Store(m)
	defer d.part.Store(nil)
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx) }()
	select {
	case err = <-ended:
	case dep := <-d.vacate:
		stop()
		leaves, err = &dep, <-ended
	}
	return leaves, err
}

// partRetry is the pause before a member's parts are started again.
const partRetry = 2 * time.Second

// awaitMembership waits until this machine is in a cluster and has a table;
// false: ctx ended. A member that never got a table may leave: nothing runs
// that would have to let go.
func (d *theDaemon) awaitMembership(ctx context.Context) (cluster.Identity, fsm.Settings, bool) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	tables := d.node.Watch(watching)
	for {
		select {
		case t := <-tables:
			if ctx.Err() != nil {
				return cluster.Identity{}, fsm.Settings{}, false
			}
			if id, ok := d.node.Identity(); ok && t.Cluster != "" {
				return id, t.Settings, true
			}
		case dep := <-d.vacate:
			d.depart(dep)
		case <-ctx.Done():
			return cluster.Identity{}, fsm.Settings{}, false
		}
	}
}

// pause waits for d; false: ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// errMember wraps what went wrong with one part of a member.
func errMember(part string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", part, err)
}
