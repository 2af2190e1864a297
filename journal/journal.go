package journal

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lbcluster/fsm"
)

// Limits of a journal.
const (
	MaxFile   = 1 << 20 // bytes; there are two files
	queueSize = 1024    // entries that wait for the disk
	recent    = 512     // entries kept in memory
	repeated  = time.Second
	syncEvery = 5 * time.Second
	lastWords = time.Second // what the end of Run waits for the disk
)

// Config is what a journal is made of.
type Config struct {
	Dir  string // the folder of the files; it must be there
	Node fsm.MemberID
	// Boot reads CLOCK_BOOTTIME in nanoseconds.
	Boot func() int64
	Log  *slog.Logger
	// For tests; 0: MaxFile.
	MaxFile int64
}

// Journal is the record of this member. All methods may be called from
// anywhere; Note never waits.
type Journal struct {
	cfg     Config
	bootID  string
	queue   chan Entry
	dropped atomic.Uint64
	trouble atomic.Pointer[string]

	mu   sync.Mutex
	tail []Entry // the newest, oldest first
	runs map[key]*run
}

// key is what equal entries share but their text.
type key struct {
	unit  uint64
	kind  Kind
	cause Cause
}

// run is the last entry of a key.
type run struct {
	last  Entry
	times int // equal ones since, that were not noted
}

// New makes a journal. It opens and starts nothing.
func New(cfg Config) *Journal {
	if cfg.MaxFile == 0 {
		cfg.MaxFile = MaxFile
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Journal{cfg: cfg, bootID: BootID(), queue: make(chan Entry, queueSize), runs: map[key]*run{}}
}

// BootID names the present boot of this kernel; empty: it does not say.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Note records e, stamped with the time, boot and member that it lacks. It
// never waits: an entry that finds no room is dropped and counted, and one that
// only repeats the last of its kind within a second is counted in the next.
func (j *Journal) Note(e Entry) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if e.Boot == 0 && j.cfg.Boot != nil {
		e.Boot = j.cfg.Boot()
	}
	if e.BootID == "" {
		e.BootID = j.bootID
	}
	if e.Node == "" {
		e.Node = j.cfg.Node
	}
	e.At = e.At.Round(0)
	e = e.bounded()
	if !j.remember(&e) {
		return
	}
	select {
	case j.queue <- e:
	default:
		j.dropped.Add(1)
	}
}

// remember puts e into memory unless it is a repetition.
func (j *Journal) remember(e *Entry) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := key{e.Unit, e.Kind, e.Cause}
	r := j.runs[k]
	if r != nil && r.last.sameAs(*e) {
		if age := e.Boot - r.last.Boot; age >= 0 && age < int64(repeated) {
			r.times++
			return false
		}
		if r.times > 0 {
			e.Times = r.times + 1
		}
	}
	if r == nil && len(j.runs) >= recent {
		clear(j.runs)
	}
	j.runs[k] = &run{last: *e}
	if len(j.tail) >= recent {
		j.tail = append(j.tail[:0], j.tail[recent/4:]...)
	}
	j.tail = append(j.tail, *e)
	return true
}

// Dropped is how many entries found no room.
func (j *Journal) Dropped() uint64 { return j.dropped.Load() }

// Trouble says why the last entries are not in the files; empty: they are.
func (j *Journal) Trouble() string {
	if p := j.trouble.Load(); p != nil {
		return *p
	}
	return ""
}

// Run writes what is noted until ctx ends, and then what is left, for which it
// waits a second at most: a disk that hangs does not hold up the end.
func (j *Journal) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.write(ctx)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	limit := time.NewTimer(lastWords)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
	return nil
}

// write is the goroutine that touches the disk.
func (j *Journal) write(ctx context.Context) {
	f := &files{dir: j.cfg.Dir, max: j.cfg.MaxFile}
	defer f.close()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case e := <-j.queue:
			j.say(f.append(e))
		case <-tick.C:
			f.sync()
		case <-ctx.Done():
			for {
				select {
				case e := <-j.queue:
					j.say(f.append(e))
					continue
				default:
				}
				f.sync()
				return
			}
		}
	}
}

// say keeps the trouble, and logs it when it is new.
func (j *Journal) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
		j.dropped.Add(1)
	}
	if old := j.Trouble(); old != text {
		j.trouble.Store(&text)
		if err != nil {
			j.cfg.Log.Warn("the journal cannot be written; it is kept in memory alone", "err", err)
		}
	}
}
