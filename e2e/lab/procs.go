package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pidsIn returns the processes whose network namespace is the one with that
// inode number, whoever started them: daemons fork, and their children outlive
// them.
func pidsIn(netns uint64) []int {
	var pids []int
	procs, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range procs {
		if nsInode(link) != netns {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nsInode reads the number in "net:[4026531840]"; 0 if the process is gone.
func nsInode(link string) uint64 {
	s, err := os.Readlink(link)
	if err != nil {
		return 0
	}
	_, s, _ = strings.Cut(s, "[")
	n, _ := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64)
	return n
}

// killAll ends every process in the space: politely, so that daemons may write
// their last lines, then not.
func (s *space) killAll() {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		for range 100 {
			pids := pidsIn(s.netn)
			if len(pids) == 0 {
				return
			}
			for _, pid := range pids {
				_ = unix.Kill(pid, sig)
				_ = unix.Kill(pid, unix.SIGCONT) // a stopped process ignores SIGTERM
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// namespaces is the set of network namespaces that processes or threads are in.
func namespaces() map[uint64]bool {
	set := map[uint64]bool{}
	links, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	for _, l := range links {
		if n := nsInode(l); n != 0 {
			set[n] = true
		}
	}
	return set
}

// leaks names what was not there before: threads or processes in other network
// namespaces, and bound namespaces. It waits a moment for what is just ending.
func leaks(before map[uint64]bool) []string {
	var left []string
	for range 50 {
		left = left[:0]
		for n := range namespaces() {
			if !before[n] {
				left = append(left, fmt.Sprintf("network namespace %d with processes %s", n, describe(pidsIn(n))))
			}
		}
		dirs, _ := filepath.Glob(spaceDir + "/*")
		for _, d := range dirs {
			left = append(left, "namespaces bound in "+d)
		}
		if len(left) == 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return left
}

func describe(pids []int) string {
	var s []string
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		s = append(s, fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))))
	}
	return strings.Join(s, ", ")
}
