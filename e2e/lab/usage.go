package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes need together.
type Usage struct {
	RSS float64       // MB, resident
	CPU time.Duration // of all cores
}

// UseOver watches processes for so long.
func UseOver(pids []int, d time.Duration) Usage {
	before := cpuOf(pids)
	time.Sleep(d)
	u := Usage{CPU: cpuOf(pids) - before}
	for _, pid := range pids {
		u.RSS += rssOf(pid)
	}
	return u
}

// cpuOf is the processor time that they have used: utime and stime of proc(5), in
// hundredths of a second.
func cpuOf(pids []int) (used time.Duration) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(after); len(f) > 12 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			used += time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return used
}

func rssOf(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.Atoi(f[1])
			return float64(kb) / 1024
		}
	}
	return 0
}

// KeepalivedPids are keepalived's processes on the host.
func (h *Host) KeepalivedPids() (pids []int) {
	for _, pid := range h.Pids() {
		if strings.HasPrefix(CommandOf(pid), "keepalived") {
			pids = append(pids, pid)
		}
	}
	return pids
}
