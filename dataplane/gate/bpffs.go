package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// DefaultPinDir is where a host's one gate pins its maps and links.
	DefaultPinDir = "/sys/fs/bpf/lbcluster"

	systemBPFFS = "/sys/fs/bpf"
	linksDir    = "links"
)

// ErrSuperseded means that a later process has opened the gate: this one's
// deadlines are read by nobody any more, and it must stop.
var ErrSuperseded = errors.New("another process has taken over the gate")

// prepare makes dir, on a bpffs: the one that holds it or, where there is none,
// one mounted at /sys/fs/bpf (for a dir below it) or on dir itself. It reports
// whether it had to mount.
func prepare(dir string) (mounted bool, err error) {
	on, err := onBPFFS(dir)
	if err != nil {
		return false, err
	}
	if !on {
		at := dir
		if strings.HasPrefix(dir, systemBPFFS+"/") {
			at = systemBPFFS
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			return false, fmt.Errorf("make a place for bpffs: %w", err)
		}
		if err := unix.Mount("bpffs", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return false, explain(fmt.Errorf("no bpffs holds %s, and mounting one at %s failed: %w", dir, at, err))
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, linksDir), 0o700); err != nil {
		return false, fmt.Errorf("make the gate's folder: %w", err)
	}
	return !on, nil
}

// onBPFFS reports whether dir, or the nearest folder above that exists, is on a
// bpffs.
func onBPFFS(dir string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC, nil
		}
		if up := filepath.Dir(dir); errors.Is(err, unix.ENOENT) && up != dir {
			dir = up
			continue
		}
		return false, fmt.Errorf("look for bpffs at %s: %w", dir, err)
	}
}

// lock makes one process at a time the one that attaches. It is held briefly;
// a holder that is killed lets go, and a frozen one makes this fail.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock the gate: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock the gate: another process has held %s for long (is it stopped? kill it): %w", dir, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	f.Close()
	return nil, fmt.Errorf("lock the gate: %w", err)
}

// owned reports whether the maps pinned in dir are ours. ErrNotExist: none are.
func (m *mapSet) owned(dir string) (bool, error) {
	p, err := ebpf.LoadPinnedMap(filepath.Join(dir, deadlinesName), nil)
	if err != nil {
		return false, err
	}
	defer p.Close()
	theirs, err := p.Info()
	if err != nil {
		return false, err
	}
	ours, err := m.deadlines.Info()
	if err != nil {
		return false, err
	}
	a, _ := theirs.ID()
	b, _ := ours.ID()
	return a == b, nil
}
