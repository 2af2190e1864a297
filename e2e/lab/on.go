package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// On is the command "on HOST PROGRAM ARG...": it runs the program in that host,
// a shell if none is named. It returns only on an error.
func On(args []string) int {
	if len(args) == 0 {
		names, _ := filepath.Glob(spaceDir + "/*")
		fmt.Fprintln(os.Stderr, "usage: on HOST [PROGRAM ARG...]; hosts:")
		for _, n := range names {
			fmt.Fprintln(os.Stderr, "  "+filepath.Base(n))
		}
		return 2
	}
	if err := enterAndExec(args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "on:", err)
	}
	return 127
}

func enterAndExec(host string, argv []string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	var fds []int
	for _, k := range kinds { // open all before the first changes what is seen
		fd, err := unix.Open(filepath.Join(spaceDir, host, k.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("no host %s: %w", host, err)
		}
		fds = append(fds, fd)
	}
	for i, k := range kinds {
		if err := unix.Setns(fds[i], k.flag); err != nil {
			return err
		}
	}
	env := os.Environ()
	if len(argv) == 0 {
		argv, env = []string{"bash"}, append(env, "PS1="+host+" \\w # ")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, env)
}
