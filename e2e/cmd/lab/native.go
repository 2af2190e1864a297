package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/lab/image"
)

// native says whether tests can run on this machine's own kernel: as root, with
// IPVS there or loadable. LBCLUSTER_LAB_NATIVE=0 or 1 overrides it.
func native() bool {
	switch os.Getenv("LBCLUSTER_LAB_NATIVE") {
	case "0":
		return false
	case "1":
		return true
	}
	if os.Geteuid() != 0 {
		return false
	}
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		_ = exec.Command("modprobe", "ip_vs").Run()
		_, err = os.Stat("/proc/net/ip_vs")
		return err == nil
	}
	return true
}

// runNative unpacks the image into a folder and runs its init there, as process
// 1 of new PID, mount, network and UTS namespaces: what the job starts or mounts
// ends with it.
func runNative(ctx context.Context, base, overlay *image.Tree, results string, c console) error {
	root, err := os.MkdirTemp("", "lbcluster-lab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	if err := errors.Join(base.WriteDir(root), overlay.WriteDir(root)); err != nil {
		return err
	}
	if err := devices(root); err != nil {
		return err
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, filepath.Join(root, guest.ProgramBin))
	cmd.Dir = "/"
	cmd.Env = []string{"TERM=" + os.Getenv("TERM"), guest.RootEnv + "=" + root}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, c.out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// Unshared by Go, which then makes all mounts private: ours must not
		// show up on the machine.
		Unshareflags: unix.CLONE_NEWNS,
		Cloneflags:   unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("lab stopped: %w", context.Cause(ctx))
	}
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return fmt.Errorf("native lab: %w", err)
	}
	return os.CopyFS(results, os.DirFS(filepath.Join(root, guest.Results)))
}

// devices makes the few device nodes programs need.
func devices(root string) error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		p := filepath.Join(root, "dev", name)
		if err := unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
		if err := os.Chmod(p, 0o666); err != nil {
			return err
		}
	}
	return nil
}
