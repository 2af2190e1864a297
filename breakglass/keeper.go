package breakglass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// Names in the data folder.
const (
	dirFiles     = "breakglass"
	dirSnapshots = "snapshots"
)

// stamp is how a snapshot's file is called, so that names sort by time.
const stamp = "20060102T150405Z"

// Config is what a keeper needs.
type Config struct {
	Dir string // the daemon's data folder
	By  string // who writes: "lbcluster 1.2 on dir1"
	// Watch sends the table, at once and whenever it changed, until its context ends.
	Watch func(context.Context) <-chan *fsm.Table
	Log   *slog.Logger
}

// Keeper writes the files.
type Keeper struct {
	cfg Config
	// write is what a disk does; tests have one that hangs or is full.
	write func(t *fsm.Table, now time.Time) error
}

// New makes a keeper; Run starts it.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg}
	k.write = k.writeAll
	return k
}

const (
	// least is the pause between two writings: a burst of votes is written once.
	least = 5 * time.Second
	// again is the pause after an error, and how often snapshots are thought of.
	again = time.Minute
)

// Run writes until ctx ends. What hangs in a disk is left behind then.
func (k *Keeper) Run(ctx context.Context) error {
	tables := k.cfg.Watch(ctx)
	tick := time.NewTicker(again)
	defer tick.Stop()
	var newest *fsm.Table
	var failing bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case t, ok := <-tables:
			if !ok {
				return nil
			}
			newest = t
		case <-tick.C:
		}
		if newest == nil || newest.Cluster == "" {
			continue
		}
		done := make(chan error, 1)
		go func(t *fsm.Table) { done <- k.write(t, time.Now()) }(newest)
		select {
		case <-ctx.Done():
			return nil
		case err := <-done:
			if err != nil && !failing {
				k.cfg.Log.Warn("the break-glass files are not up to date; trying again", "err", err)
			}
			failing = err != nil
		}
		if !sleep(ctx, least) {
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (k *Keeper) writeAll(t *fsm.Table, now time.Time) error {
	return errors.Join(k.writeFiles(t, now), k.writeSnapshot(t, now))
}

// files are those of a revision, by name.
func (k *Keeper) files(t *fsm.Table, now time.Time) (map[string][]byte, error) {
	snapshot, err := t.Save(now, k.cfg.By)
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{"serve.sh": script(t), "cluster.snap": snapshot}
	for _, s := range t.Sets {
		text, err := conf.WriteYAML(t.Config(s.Name))
		if err != nil {
			return nil, fmt.Errorf("write set %s: %w", s.Name, err)
		}
		head := fmt.Sprintf("# Set %s of cluster %s at revision %d.\n# lbcluster apply -f FILE --set %s\n", s.Name, t.Cluster, t.Revision, s.Name)
		all["set-"+s.Name+".yaml"] = append([]byte(head), text...)
	}
	return all, nil
}

// writeFiles replaces the folder as a whole: the kernel exchanges the two in one step.
func (k *Keeper) writeFiles(t *fsm.Table, now time.Time) error {
	all, err := k.files(t, now)
	if err != nil {
		return err
	}
	to, tmp := filepath.Join(k.cfg.Dir, dirFiles), filepath.Join(k.cfg.Dir, dirFiles+".new")
	if old, err := os.ReadFile(filepath.Join(to, "serve.sh")); err == nil && string(old) == string(all["serve.sh"]) {
		return nil // this revision is there
	}
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("write break-glass files: %w", err)
	}
	for _, dir := range []string{tmp, to} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("write break-glass files: %w", err)
		}
	}
	for name, text := range all {
		if err := writeSynced(filepath.Join(tmp, name), text); err != nil {
			return fmt.Errorf("write break-glass files: %w", err)
		}
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("write break-glass files: put %s in place: %w", to, err)
	}
	return os.RemoveAll(tmp)
}

// writeSynced writes a new file, readable by its owner alone: passwords are in it.
func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// writeSnapshot writes one if the settings want one now and something was decided since
// the last, and removes those that are too many.
func (k *Keeper) writeSnapshot(t *fsm.Table, now time.Time) error {
	every, keep := t.Settings.Snapshots()
	if every == 0 {
		return nil
	}
	dir := filepath.Join(k.cfg.Dir, dirSnapshots)
	names, err := snapshots(dir)
	if err != nil {
		return fmt.Errorf("look for snapshots: %w", err)
	}
	if len(names) > 0 {
		last := names[len(names)-1]
		at, _ := time.Parse(stamp, strings.SplitN(last, "-", 2)[0])
		if age := now.Sub(at); age >= 0 && age < every || same(filepath.Join(dir, last), t) {
			return k.prune(dir, names, keep)
		}
	}
	b, err := t.Save(now, k.cfg.By)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	name := fmt.Sprintf("%s-r%d.snap", now.UTC().Format(stamp), t.Revision)
	tmp := filepath.Join(dir, ".new")
	_ = os.Remove(tmp) // of a crash
	if err := writeSynced(tmp, b); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return k.prune(dir, append(names, name), keep)
}

// snapshots are the names of the files, oldest first.
func snapshots(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		first, _, ok := strings.Cut(e.Name(), "-r")
		if _, err := time.Parse(stamp, first); ok && err == nil && strings.HasSuffix(e.Name(), ".snap") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// same reports whether a snapshot has what t has. One that cannot be read has not.
func same(path string, t *fsm.Table) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	_, was, err := fsm.ReadSaved(b)
	if err != nil {
		return false
	}
	old, err1 := json.Marshal(was)
	now, err2 := json.Marshal(t.Agreement())
	return err1 == nil && err2 == nil && string(old) == string(now)
}

func (k *Keeper) prune(dir string, names []string, keep int) error {
	var errs []error
	for len(names) > keep {
		errs = append(errs, os.Remove(filepath.Join(dir, names[0])))
		names = names[1:]
	}
	return errors.Join(errs...)
}
