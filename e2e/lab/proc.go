package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Proc is a program started on a host.
type Proc struct {
	Name string
	Log  string // the file that both its outputs go to

	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid after done
}

// Start starts a program on the host. Its output goes to a log that is kept;
// it is ended with the lab. name is for the log.
func (h *Host) Start(name string, argv ...string) *Proc {
	h.lab.t.Helper()
	return h.StartEnv(name, nil, argv...)
}

// StartEnv is Start with more environment variables.
func (h *Host) StartEnv(name string, env []string, argv ...string) *Proc {
	h.lab.t.Helper()
	p, err := h.start(name, env, argv, nil)
	if err != nil {
		h.lab.t.Fatalf("lab: starting %s on %s: %v", name, h.Name, err)
	}
	return p
}

// start starts a program; attr, if there is one, changes how.
func (h *Host) start(name string, env, argv []string, attr func(*syscall.SysProcAttr)) (*Proc, error) {
	h.lab.mu.Lock()
	key := h.Name + "-" + name
	n := h.lab.procs[key]
	h.lab.procs[key]++
	h.lab.mu.Unlock()
	p := &Proc{Name: name, Log: filepath.Join(h.lab.results, logName(h.Name, name, n)), done: make(chan struct{})}
	log, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if attr != nil {
		attr(p.cmd.SysProcAttr)
	}
	if err := h.do(p.cmd.Start); err != nil {
		return nil, err
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	return p, nil
}

// Pid is the process id.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process itself.
func (p *Proc) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// SignalAll sends a signal to the process and to those of its children that
// stayed in its process group.
func (p *Proc) SignalAll(sig syscall.Signal) error { return syscall.Kill(-p.Pid(), sig) }

// Wait waits until the process ends, and returns what exec's Wait does.
func (p *Proc) Wait() error {
	<-p.done
	return p.err
}

// Stop asks the process to end, waits up to 5 s, then kills it. A process that
// had to be killed is an error; its exit status is not.
func (p *Proc) Stop() error {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(5 * time.Second):
	}
	err := p.SignalAll(syscall.SIGKILL)
	<-p.done
	return errors.Join(fmt.Errorf("%s did not end on SIGTERM and was killed", p.Name), err)
}

// Output returns what the process has printed so far.
func (p *Proc) Output() string {
	b, _ := os.ReadFile(p.Log)
	return string(b)
}
