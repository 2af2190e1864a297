package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/lab/image"
	"lbcluster/e2e/lab/qemu"
)

// host is this machine's side of one lab run.
type host struct {
	repo, dir string // the repository, the lab's folder
	wd        string // where the command was started: patterns are relative to it
	start     time.Time
	unlock    func()
}

// openHost finds the folders and waits until no other lab runs on the machine:
// two guests at once would spoil each other's timing.
func openHost(ctx context.Context) (*host, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil, errors.New("the lab runs on Linux, amd64")
	}
	h := &host{start: time.Now()}
	var err error
	if h.wd, err = os.Getwd(); err != nil {
		return nil, err
	}
	if h.repo, err = repoRoot(h.wd); err != nil {
		return nil, err
	}
	h.dir = os.Getenv("LBCLUSTER_LAB_DIR")
	if h.dir == "" {
		h.dir = filepath.Join(h.repo, ".lab")
	}
	if h.dir, err = filepath.Abs(h.dir); err != nil {
		return nil, err
	}
	for _, d := range []string{"bin", "results"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("lab folder: %w", err)
		}
	}
	h.unlock, err = h.lock(ctx)
	return h, err
}

func repoRoot(dir string) (string, error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no go.mod in %s or above: run the lab inside the repository", dir)
		}
	}
}

// lock takes the machine-wide lock, waiting for it.
func (h *host) lock(ctx context.Context) (func(), error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "lbcluster-lab.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("the lab's lock: %w", err)
	}
	for told := false; ; told = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("the lab's lock: %w", err)
		}
		if !told {
			h.progress("another lab runs on this machine; waiting for it to end")
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (h *host) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lab: %5.1fs  %s\n", time.Since(h.start).Seconds(), fmt.Sprintf(format, args...))
}

// base returns the unpacked packages and the base image made from them, both
// kept from earlier runs.
func (h *host) base(ctx context.Context) (*image.Unpacked, *image.Tree, string, error) {
	u, err := image.Fetch(ctx, h.dir, h.progress)
	if err != nil {
		return nil, nil, "", err
	}
	tree, err := u.Base()
	if err != nil {
		return nil, nil, "", err
	}
	file := filepath.Join(h.dir, "base-"+u.BaseKey()+".cpio")
	if _, err := os.Stat(file); err == nil {
		return u, tree, file, nil
	}
	h.progress("making the guest's base image")
	old, _ := filepath.Glob(filepath.Join(h.dir, "base-*.cpio"))
	for _, f := range old {
		os.Remove(f)
	}
	return u, tree, file, writeCPIO(tree, file)
}

// writeCPIO writes beside the file and renames, so that an interrupted run
// leaves no half image behind.
func writeCPIO(t *image.Tree, file string) error {
	w, err := os.CreateTemp(filepath.Dir(file), ".cpio-")
	if err != nil {
		return err
	}
	defer os.Remove(w.Name())
	err = t.WriteCPIO(w)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return os.Rename(w.Name(), file)
}

// run does the job in a guest and returns its exit status and the folder its
// results are in.
func (h *host) run(ctx context.Context, job *guest.Job, overlay *image.Tree, c console) (int, string, error) {
	u, baseTree, base, err := h.base(ctx)
	if err != nil {
		return 1, "", err
	}
	results := filepath.Join(h.dir, "results", time.Now().UTC().Format("20060102-150405.000"))
	h.prune()
	job.Native = native()
	text, err := job.Marshal()
	if err != nil {
		return 1, "", err
	}
	overlay.Text(guest.JobFile, text, 0o644)
	if job.Native {
		h.progress("running natively: this kernel has IPVS")
		err = runNative(ctx, baseTree, overlay, results, c)
	} else {
		err = h.boot(ctx, u, base, overlay, results, c)
	}
	if err != nil {
		return 1, results, err
	}
	status, err := exitFile(results)
	return status, results, err
}

func (h *host) boot(ctx context.Context, u *image.Unpacked, base string, overlay *image.Tree, results string, c console) error {
	over := filepath.Join(h.dir, "overlay.cpio")
	if err := writeCPIO(overlay, over); err != nil {
		return err
	}
	defer os.Remove(over)
	h.progress("booting Linux %s in QEMU", u.Kernel)
	m := qemu.Machine{Packages: u, Initrd: []string{base, over}, Stdin: c.in, Stdout: c.out}
	return m.Boot(ctx, results)
}

func exitFile(results string) (int, error) {
	b, err := os.ReadFile(filepath.Join(results, guest.ExitFile))
	if err != nil {
		return 1, fmt.Errorf("the guest told no exit status: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// keepResults is how many runs' results are kept.
const keepResults = 20

func (h *host) prune() {
	runs, _ := filepath.Glob(filepath.Join(h.dir, "results", "*"))
	slices.Sort(runs)
	for ; len(runs) >= keepResults; runs = runs[1:] {
		os.RemoveAll(runs[0])
	}
}
