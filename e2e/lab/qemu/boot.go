package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"lbcluster/e2e/lab/image"
)

// resultsSize is the size of the sparse disk that the results come back on.
const resultsSize = 512 << 20

// Machine is what to boot.
type Machine struct {
	Packages *image.Unpacked
	Initrd   []string // cpio archives, concatenated in this order
	Append   string   // added to the kernel's command line
	MemoryMB int      // 0: 4096

	Stdin  io.Reader // nil: no input
	Stdout io.Writer // the guest's serial console
}

// Boot runs the machine until it powers off, and unpacks its results into the
// folder results. The context's end kills it; that is an error.
func (m *Machine) Boot(ctx context.Context, results string) error {
	tmp, err := os.MkdirTemp("", "lbcluster-lab-")
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer os.RemoveAll(tmp)
	disk, initrd := filepath.Join(tmp, "results.img"), filepath.Join(tmp, "initrd")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		return fmt.Errorf("guest's disk: %w", err)
	}
	if err := os.Truncate(disk, resultsSize); err != nil {
		return fmt.Errorf("guest's disk: %w", err)
	}
	if err := concat(initrd, m.Initrd); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	if err := m.run(ctx, initrd, disk); err != nil {
		return err
	}
	return unpackResults(disk, results)
}

func (m *Machine) run(ctx context.Context, initrd, disk string) error {
	cmd := m.Packages.Command(ctx, "qemu-system-x86_64", "qemu-system-x86_64", m.args(initrd, disk)...)
	cmd.Env = append(os.Environ(),
		"QEMU_MODULE_DIR="+filepath.Join(m.Packages.Root, "usr/lib/x86_64-linux-gnu/qemu"))
	// A session of its own gives it an autogroup of its own: see raise.
	// QEMU dies with the thread that started it, which lives as long as this
	// call: not even a killed lab leaves a guest behind.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	// QEMU makes its output non-blocking. On a terminal that would be our input
	// too, so it gets a pipe whatever Stdout is.
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{m.Stdout}, os.Stderr
	cmd.WaitDelay = 2 * time.Second
	if m.Stdin != nil {
		// A pipe of our own: exec would wait for a read of the terminal that
		// never returns.
		in, err := cmd.StdinPipe()
		if err != nil {
			return fmt.Errorf("qemu: %w", err)
		}
		go func() { io.Copy(in, m.Stdin); in.Close() }()
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	raise(cmd.Process.Pid)
	err := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("guest stopped: %w", context.Cause(ctx))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("qemu failed: %w", exit)
	}
	return err
}

func (m *Machine) args(initrd, disk string) []string {
	mem := m.MemoryMB
	if mem == 0 {
		mem = 4096
	}
	return []string{
		"-L", filepath.Join(m.Packages.Root, "usr/share/qemu"),
		"-L", filepath.Join(m.Packages.Root, "usr/share/seabios"),
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-cpu", "Nehalem", "-smp", "2", "-m", strconv.Itoa(mem),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", filepath.Join(m.Packages.Root, "boot", "vmlinuz-"+m.Packages.Kernel),
		"-initrd", initrd,
		"-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off tsc=reliable net.ifnames=0 " + m.Append,
		"-drive", "file=" + disk + ",if=virtio,format=raw,cache=unsafe",
	}
}

// raise gives the guest a larger share of the machine than the builds beside
// it: a guest that is kept waiting misses its timers. nice does not work across
// sessions. Needs privileges; without them the guest runs as it is.
func raise(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte("-10"), 0)
}

func concat(to string, parts []string) error {
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, p := range parts {
		r, err := os.Open(p)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		r.Close()
		if err != nil {
			return err
		}
	}
	return w.Close()
}
