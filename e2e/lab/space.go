package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// spaceDir has a folder for each space, with its namespaces bound to files, so
// that other processes (the "on" command) can enter them.
const spaceDir = "/run/lab"

// kinds are the namespaces a space has, in the order to enter them: the mount
// namespace last, since the files are found through the caller's.
var kinds = []struct {
	name string
	flag int
}{
	{"uts", unix.CLONE_NEWUTS},
	{"net", unix.CLONE_NEWNET},
	{"mnt", unix.CLONE_NEWNS},
}

// init keeps the main goroutine on the main thread: a thread that ends inside a
// namespace lets it go, but the main thread never ends, so no goroutine that
// enters one may run on it.
func init() {
	if Inside() {
		runtime.LockOSThread()
	}
}

// space is a set of namespaces of its own: network, mounts, host name.
type space struct {
	name string
	fds  []int // in the order of kinds
	netn uint64
}

// newSpace makes one on a thread of its own and keeps it alive by file
// descriptors and bind mounts.
func newSpace(name string) (*space, error) {
	s := &space{name: name}
	dir := filepath.Join(spaceDir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	type result struct{ err error }
	tid, hold, done := make(chan int, 1), make(chan struct{}), make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := s.create()
		done <- result{err}
		tid <- unix.Gettid()
		<-hold
	}()
	defer close(hold)
	if r := <-done; r.err != nil {
		return nil, errors.Join(r.err, os.RemoveAll(dir))
	}
	id := <-tid
	for _, k := range kinds {
		src, dst := fmt.Sprintf("/proc/self/task/%d/ns/%s", id, k.name), filepath.Join(dir, k.name)
		if err := os.WriteFile(dst, nil, 0o600); err != nil {
			return nil, err
		}
		if err := unix.Mount(src, dst, "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("keeping the %s namespace: %w", k.name, err)
		}
		fd, err := unix.Open(dst, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		s.fds = append(s.fds, fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(s.fd("net"), &st); err != nil {
		return nil, err
	}
	s.netn = st.Ino
	return s, nil
}

func (s *space) fd(kind string) int {
	for i, k := range kinds {
		if k.name == kind {
			return s.fds[i]
		}
	}
	return -1
}

// create runs on the thread that becomes the space.
func (s *space) create() error {
	// The bind mounts made for later spaces must not show up in this one, else
	// they would keep each other alive.
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	if err := unix.Sethostname([]byte(s.name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	return privateMounts(s.name)
}

// privateMounts gives the calling thread's mount namespace its own /etc, /run,
// data folder, sysfs of its network namespace, and bpffs.
func privateMounts(name string) error {
	etc, err := readEtc("/etc")
	if err != nil {
		return err
	}
	for _, m := range []struct{ target, fstype, data string }{
		{"/", "", ""},
		{"/sys", "sysfs", ""},
		{"/sys/fs/bpf", "bpf", ""},
		{"/run", "tmpfs", "mode=755"},
		{"/etc", "tmpfs", "mode=755"},
		{"/var/lib/lbcluster", "tmpfs", "mode=755,size=256m"},
		{"/var/log", "tmpfs", "mode=755"},
	} {
		flags := uintptr(0)
		if m.fstype == "" {
			flags = unix.MS_REC | unix.MS_PRIVATE
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	etc["hostname"] = []byte(name + "\n")
	for f, b := range etc {
		if err := os.MkdirAll(filepath.Dir(filepath.Join("/etc", f)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("/etc", f), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// readEtc reads the few files of the image's /etc.
func readEtc(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// enter moves the calling thread, which must be locked and never unlocked, into
// the space.
func (s *space) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("entering %s: %w", s.name, err)
	}
	for i, k := range kinds {
		if err := unix.Setns(s.fds[i], k.flag); err != nil {
			return fmt.Errorf("entering %s's %s namespace: %w", s.name, k.name, err)
		}
	}
	return nil
}

// do runs f on a thread inside the space and waits for it.
func (s *space) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := s.enter()
		defer func() { done <- err }() // also when f ends the goroutine
		if err == nil {
			err = f()
		}
	}()
	return <-done
}

// close lets the space go.
func (s *space) close() error {
	var errs []error
	dir := filepath.Join(spaceDir, s.name)
	for i, k := range kinds {
		errs = append(errs, unix.Close(s.fds[i]))
		if err := unix.Unmount(filepath.Join(dir, k.name), unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("%s namespace: %w", k.name, err))
		}
	}
	s.fds = nil
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}
