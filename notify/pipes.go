package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lbcluster/fsm"
	"lbcluster/script"
)

// Pipes are the FIFOs that lines are written into. A line that does not fit, because
// nobody has read for long, is lost and counted: nothing waits for a reader.
type Pipes struct {
	log *slog.Logger
	run func(context.Context, script.Job) (int, error)

	mu   sync.Mutex
	open map[string]*pipe
	wake chan struct{} // one slot: a reader may have to be started

	readers sync.WaitGroup
}

type pipe struct {
	fsm.FIFO
	fd     int  // -1: it is not open
	made   bool // by us: it is removed with us
	full   bool // the last line was lost
	lost   int
	failed string             // why it is not open, as it was logged
	stop   context.CancelFunc // of its reader; nil: none was started
}

// NewPipes opens nothing.
func NewPipes(log *slog.Logger) *Pipes {
	return &Pipes{log: log, run: script.Run, open: map[string]*pipe{}, wake: make(chan struct{}, 1)}
}

// Want makes and opens the pipes of the list and closes all others. One that could
// not be opened is tried again with the next call.
func (p *Pipes) Want(list []fsm.FIFO) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, o := range p.open {
		i := slices.IndexFunc(list, func(f fsm.FIFO) bool { return f.Path == path })
		if i < 0 || !sameReader(list[i], o.FIFO) {
			o.close(true)
			delete(p.open, path)
		}
	}
	for _, f := range list {
		o := p.open[f.Path]
		if o == nil {
			o = &pipe{FIFO: f, fd: -1}
			p.open[f.Path] = o
		}
		if o.fd >= 0 {
			continue
		}
		err := o.openIt()
		switch {
		case err == nil:
			o.failed = ""
			select {
			case p.wake <- struct{}{}:
			default:
			}
		case err.Error() != o.failed:
			o.failed = err.Error()
			p.log.Warn("a notify pipe cannot be opened", "path", f.Path, "err", err)
		}
	}
}

func sameReader(a, b fsm.FIFO) bool {
	return a.User == b.User && (a.Script == b.Script || a.Script != nil && b.Script != nil && *a.Script == *b.Script)
}

// openIt makes the pipe, as keepalived does (lib/notify.c, fifo_open), if it is not
// there, and opens it for both directions, so that lines wait for a reader.
func (o *pipe) openIt() error {
	err := unix.Mkfifo(o.Path, 0o644)
	switch {
	case err == nil:
		o.made = true
		cred, err := script.Credential(o.User)
		if err == nil && cred != nil {
			err = unix.Chown(o.Path, int(cred.Uid), int(cred.Gid))
		}
		if err != nil {
			return fmt.Errorf("its owner: %w", err)
		}
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("make it: %w", err)
	}
	fd, err := unix.Open(o.Path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return errors.New("it is no pipe")
	}
	o.fd = fd
	return nil
}

func (o *pipe) close(remove bool) {
	if o.stop != nil {
		o.stop()
	}
	if o.fd >= 0 {
		unix.Close(o.fd)
		o.fd = -1
	}
	if o.made && remove {
		_ = unix.Unlink(o.Path) // it may be gone
	}
}

// Write writes a line into each of the pipes that is open. It never waits.
func (p *Pipes) Write(paths []string, line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, path := range paths {
		o := p.open[path]
		if o == nil || o.fd < 0 {
			continue
		}
		_, err := unix.Write(o.fd, []byte(line)) // shorter than PIPE_BUF: whole or not at all
		if err == nil {
			if o.full {
				p.log.Warn("a notify pipe is read again", "path", path, "lines_lost", o.lost)
			}
			o.full = false
			continue
		}
		if o.lost++; !o.full {
			p.log.Warn("a line does not go into a notify pipe: is it read?", "path", path, "err", err)
		}
		o.full = true
	}
}

// readAgain is the pause before a reader that ended is started again.
const readAgain = time.Second

// Run runs the pipes' readers until ctx ends, and closes the pipes then; they are
// removed unless keep says that another process goes on with them.
func (p *Pipes) Run(ctx context.Context, keep func() bool) error {
	var g errgroup.Group
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-p.wake:
			p.read(ctx, &g)
		}
	}
	p.mu.Lock()
	for _, o := range p.open {
		o.close(!keep())
	}
	p.open = map[string]*pipe{}
	p.mu.Unlock()
	return g.Wait()
}

// StopReaders ends the readers for good, and returns when they have ended: the next
// image of this process starts its own.
func (p *Pipes) StopReaders() {
	p.mu.Lock()
	for _, o := range p.open {
		if o.stop == nil {
			o.stop = func() {}
		}
		o.stop()
	}
	p.mu.Unlock()
	p.readers.Wait()
}

// read starts the readers that do not run.
func (p *Pipes) read(ctx context.Context, g *errgroup.Group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.open {
		if o.Script == nil || o.stop != nil || o.fd < 0 {
			continue
		}
		reading, stop := context.WithCancel(ctx)
		o.stop = stop
		job := script.Job{Command: o.Script.Command, User: o.Script.User, Args: []string{o.Path}, Timeout: 100 * 365 * 24 * time.Hour}
		p.readers.Add(1)
		g.Go(func() error {
			defer p.readers.Done()
			defer stop()
			for reading.Err() == nil {
				_, err := p.run(reading, job)
				if reading.Err() == nil {
					p.log.Warn("the reader of a notify pipe ended and is started again", "path", job.Args[0], "command", job.Command, "err", err)
				}
				select {
				case <-reading.Done():
				case <-time.After(readAgain):
				}
			}
			return nil
		})
	}
}
