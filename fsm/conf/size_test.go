package conf

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lbcluster/fsm"
)

// large is a file of about a megabyte with 100 virtual servers of 100 real
// servers each, laid out as people do.
func large() string {
	var b strings.Builder
	b.WriteString("$TIMEOUT=3\n")
	for v := range 100 {
		fmt.Fprintf(&b, "virtual_server 10.1.0.%d 80 {   # service %d\n\tdelay_loop 6\n\tlb_algo wlc\n\tlb_kind DR\n\tprotocol TCP\n\n", v+1, v)
		for s := range 100 {
			fmt.Fprintf(&b, "\treal_server 10.2.%d.%d 80 {\n\t\tweight %d\n\t\tTCP_CHECK {\n\t\t\tconnect_timeout $TIMEOUT\n\t\t\tretry 2\n\t\t}\n\t}\n", v, s+1, s+1)
		}
		b.WriteString("}\n\n")
	}
	return b.String()
}

// table is one that has the configuration as the set "default".
func table(cfg fsm.Config) *fsm.Table {
	t := &fsm.Table{Revision: 1}
	for _, s := range cfg.Services {
		s.Set = "default"
		s.RealServers = slices.Clone(s.RealServers)
		t.Services = append(t.Services, s)
	}
	return t
}

// spent is the processor time that this process has used so far: the machine may
// be busy with other things.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLargeFile: 10 000 real servers are read, checked and compared in well
// under a second.
func TestLargeFile(t *testing.T) {
	text := large()
	if len(text) < 900_000 || len(text) > 1_500_000 {
		t.Fatalf("the file has %d bytes", len(text))
	}
	best := time.Hour
	for range 3 {
		began := spent(t)
		r, problems := read(text)
		if len(problems) > 0 {
			t.Fatal(lines(problems))
		}
		was := table(r.Config)
		was.Services[50].RealServers[50].Weight = 9999
		was.Services[99].RealServers = was.Services[99].RealServers[:99]
		changes := was.Diff("default", r.Config)
		best = min(best, spent(t)-began)
		if len(changes) != 2 || len(r.Config.Services) != 100 || len(r.Config.Services[99].RealServers) != 100 {
			t.Fatalf("%d changes: %+v", len(changes), changes)
		}
		if best < time.Second/2 {
			break
		}
	}
	if best > time.Second {
		t.Errorf("took %v at best", best)
	}
}

func BenchmarkLargeFile(b *testing.B) {
	text := large()
	r, _ := read(text)
	was := table(r.Config)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		r, _ := read(text)
		if len(was.Diff("default", r.Config)) > 0 {
			b.Fatal("not the same")
		}
	}
}
