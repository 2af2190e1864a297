package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Unit is what the lab takes from a systemd unit: there is no systemd in the
// guest.
type Unit struct {
	Start    []string   // ExecStart
	StopPost [][]string // ExecStopPost, in order
	Env      []string   // Environment, NAME=value
}

// unitFile is the shipped unit, as the guest has it.
const unitFile = "/src/deploy/lbcluster.service"

// Director is lbcluster running on a host, as its unit would run it.
type Director struct {
	*Proc
	host *Host
	unit Unit
}

// StartDirector runs lbcluster on the host with what the shipped unit says, and
// the arguments given in addition. The host's data folder outlives it, so that
// a Director started again on the same host finds its state.
func (h *Host) StartDirector(args ...string) *Director {
	h.lab.t.Helper()
	return h.startDirector(nil, nil, args)
}

// StartDirectorAs is StartDirector as a user without any right, whose folders
// the host's become.
func (h *Host) StartDirectorAs(user uint32, args ...string) *Director {
	h.lab.t.Helper()
	err := h.do(func() error {
		errs := []error{os.MkdirAll("/run/lbcluster", 0o755)}
		for _, dir := range []string{"/run/lbcluster", "/var/lib/lbcluster"} {
			errs = append(errs, os.Chown(dir, int(user), int(user)))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		h.lab.t.Fatalf("lab: %s: folders for user %d: %v", h.Name, user, err)
	}
	return h.startDirector(func(a *syscall.SysProcAttr) {
		a.Credential = &syscall.Credential{Uid: user, Gid: user}
	}, nil, args)
}

// StartDirectorApart is StartDirector with process ids of its own: it sees, as
// on a machine of its own, only processes that it or Beside started.
func (h *Host) StartDirectorApart(args ...string) *Director {
	h.lab.t.Helper()
	return h.startDirector(func(a *syscall.SysProcAttr) {
		a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}, []string{"sh", "-c", `mount -t proc proc /proc && exec "$@"`, "sh"}, args)
}

// Beside starts a program among the processes of a director that runs apart.
func (d *Director) Beside(name string, argv ...string) *Proc {
	d.host.lab.t.Helper()
	return d.host.Start(name, append([]string{"nsenter", "-t", strconv.Itoa(d.Pid()), "-p"}, argv...)...)
}

func (h *Host) startDirector(attr func(*syscall.SysProcAttr), under, args []string) *Director {
	h.lab.t.Helper()
	unit := Unit{Start: []string{"lbcluster", "run"}}
	text, err := os.ReadFile(unitFile)
	if err == nil {
		unit, err = ParseUnit(string(text))
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		h.lab.t.Fatalf("lab: %s: %v", unitFile, err)
	}
	// The unit names where the package installs it; the lab has it in PATH.
	argv := append([]string{filepath.Base(unit.Start[0])}, unit.Start[1:]...)
	if err := h.do(func() error { return os.MkdirAll("/run/lbcluster", 0o750) }); err != nil {
		h.lab.t.Fatalf("lab: %s: %v", h.Name, err)
	}
	p, err := h.start("lbcluster", unit.Env, slices.Concat(under, argv, args), attr)
	if err != nil {
		h.lab.t.Fatalf("lab: starting lbcluster on %s: %v", h.Name, err)
	}
	return &Director{Proc: p, host: h, unit: unit}
}

// Stop ends the director as systemd would: SIGTERM, then what the unit runs
// afterwards.
func (d *Director) Stop() error {
	return errors.Join(d.Proc.Stop(), d.stopPost())
}

// Kill ends it with SIGKILL. systemd would run ExecStopPost even then; a
// machine that is gone would not: see KillWithStopPost.
func (d *Director) Kill() {
	_ = d.SignalAll(syscall.SIGKILL)
	_ = d.Wait()
}

// KillWithStopPost ends it with SIGKILL and runs what the unit runs afterwards.
func (d *Director) KillWithStopPost() error {
	d.Kill()
	return d.stopPost()
}

// Reload asks the daemon to execute itself again, as the unit's ExecReload does.
func (d *Director) Reload() error { return d.Signal(syscall.SIGHUP) }

// Freeze stops the process as it stands (SIGSTOP); Thaw lets it go on.
func (d *Director) Freeze() error { return d.SignalAll(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (d *Director) Thaw() error { return d.SignalAll(syscall.SIGCONT) }

func (d *Director) stopPost() error {
	var errs []error
	for i, argv := range d.unit.StopPost {
		argv = append([]string{filepath.Base(argv[0])}, argv[1:]...)
		p, err := d.host.start(fmt.Sprintf("stop-post%d", i+1), d.unit.Env, argv, nil)
		if err == nil {
			err = p.Wait()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ParseUnit reads the keys of Unit from a systemd unit. Of the prefixes of
// commands only "-" and "+" are known, and taken off. Words are split at blanks;
// quotes are an error, so that a unit that needs them is noticed.
func ParseUnit(text string) (Unit, error) {
	var u Unit
	text = strings.ReplaceAll(text, "\\\n", " ")
	for n, line := range strings.Split(text, "\n") {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, ";") {
			continue
		}
		switch key {
		case "ExecStart", "ExecStopPost", "Environment":
		default:
			continue
		}
		if strings.ContainsAny(value, `"'`) {
			return u, fmt.Errorf("unit line %d: quotes are not understood here: %s", n+1, line)
		}
		words := strings.Fields(strings.TrimLeft(value, "-+"))
		if len(words) == 0 {
			continue
		}
		switch key {
		case "ExecStart":
			u.Start = words
		case "ExecStopPost":
			u.StopPost = append(u.StopPost, words)
		case "Environment":
			u.Env = append(u.Env, words...)
		}
	}
	if len(u.Start) == 0 {
		return u, errors.New("unit without ExecStart")
	}
	return u, nil
}
