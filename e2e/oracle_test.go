package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/oracle"
	"lbcluster/fsm/conf"
)

var oracleFull = flag.Bool("oracle.full", false, "ask keepalived about all files of the corpus")

// oracleSome are the files that a run which is not full asks about: at least
// one of each kind of thing that is compared.
var oracleSome = regexp.MustCompile(`^(pair-dr-tcp|dr-port-differs|dr-persistence|timers-inherited|check-tcp-elsewhere|ipv6-service|nat-web|vrrp-v3|vrrp-script|vrrp-sync|vrrp-notify|text-include|text-definitions|globals-template|globals-lvs-sync)$`)

// oracleHosts is how many keepalived are asked at once: each takes a while to
// end, and waits mostly.
const oracleHosts = 4

// TestOracle gives the files of the corpus to keepalived, and wants what it
// makes of them to be what was recorded, and equal to what lbcluster makes of
// them but for what is explained.
func TestOracle(t *testing.T) {
	lab.Need(t)
	l := lab.New(t)
	asked := askAll(t, l, corpusFiles(t))
	recorded, reasons := oracleRecord(t), oracleReasons(t)
	for file, theirs := range asked {
		for _, d := range oracle.Compare(file, theirs, recorded[file]) {
			t.Errorf("not as recorded: %s.conf: %v: %q, recorded %q", file, d.Fact, d.Theirs, d.Ours)
		}
		result, problems := conf.Reader{Open: os.ReadFile, Glob: filepath.Glob, ConfigID: oracle.HostName}.Read(corpusFile(file))
		if len(problems) > 0 {
			continue // which files are refused, and why, the page says
		}
		ours := oracle.FromConfig(result.Config)
		ours.AddRules(oracle.Rules(result.Config))
		for _, d := range oracle.Unexplained(reasons, oracle.Compare(file, theirs, ours)) {
			t.Errorf("not explained: %v", d)
		}
	}
	if t.Failed() {
		name := filepath.Join(l.Results(), "keepalived-2.2.7.txt")
		t.Logf("what was recorded now is in %s: if it is right, it belongs in e2e/testdata", filepath.Base(name))
		for file, facts := range asked {
			recorded[file] = facts
		}
		if err := os.WriteFile(name, oracle.WriteRecord(recorded), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func corpusFile(name string) string { return filepath.Join("testdata/corpus", name+".conf") }

// corpusFiles are the names of the files to ask about.
func corpusFiles(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(corpusFile("*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range all {
		if name := strings.TrimSuffix(filepath.Base(f), ".conf"); *oracleFull || oracleSome.MatchString(name) {
			names = append(names, name)
		}
	}
	if len(names) < 12 {
		t.Fatalf("only %v", names)
	}
	return names
}

func oracleRecord(t *testing.T) map[string]oracle.Facts {
	t.Helper()
	b, err := os.ReadFile("testdata/keepalived-2.2.7.txt")
	if err != nil {
		t.Fatal(err)
	}
	r, err := oracle.ReadRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func oracleReasons(t *testing.T) []oracle.Explained {
	t.Helper()
	b, err := os.ReadFile("testdata/oracle.txt")
	if err != nil {
		t.Fatal(err)
	}
	e, err := oracle.ReadExplained(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// askAll asks about every file, on several hosts that look alike.
func askAll(t *testing.T, l *lab.Lab, files []string) map[string]oracle.Facts {
	t.Helper()
	todo := make(chan string, len(files))
	for _, f := range files {
		todo <- f
	}
	close(todo)
	var mu sync.Mutex
	asked := map[string]oracle.Facts{}
	g, ctx := errgroup.WithContext(t.Context())
	for i := range oracleHosts {
		h := oracleHost(t, l, i)
		g.Go(func() error {
			for file := range todo {
				facts, err := ask(ctx, h, file)
				if err != nil {
					return fmt.Errorf("%s.conf: %w", file, err)
				}
				mu.Lock()
				asked[file] = facts
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return asked
}

// oracleHost adds a host with the programs that files of the corpus name.
func oracleHost(t *testing.T, l *lab.Lab, i int) *lab.Host {
	t.Helper()
	h := l.AddHost(fmt.Sprintf("%s%d", oracle.HostName, i), "172.25.88.11/24", "fd00:88::11/64")
	h.AddNIC("10.20.0.11/24")
	for _, name := range []string{"notify.sh", "check.sh"} {
		h.WriteFile("/etc/keepalived/"+name, "#!/bin/sh\nexit 0\n")
		if err := h.Do(func() error { return os.Chmod("/etc/keepalived/"+name, 0o755) }); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// ask runs keepalived's VRRP process and its checkers, each on its own so that
// their dumps don't mix, until they have written them.
func ask(ctx context.Context, h *lab.Host, file string) (oracle.Facts, error) {
	name, err := filepath.Abs(corpusFile(file))
	if err != nil {
		return nil, err
	}
	start := func(what string, more ...string) *lab.Proc {
		return h.Start(file+"-"+what, append([]string{"keepalived", "-n", "-l", "-d", "-i", oracle.HostName, "-f", name,
			"-p", "/run/" + what + ".pid"}, more...)...)
	}
	vrrp := start("vrrp", "-P", "-r", "/run/v.pid")
	checkers := start("checkers", "-C", "-c", "/run/c.pid")
	err = errors.Join(dumped(ctx, vrrp, "------< Interfaces >------"), dumped(ctx, checkers, "Activating BFD healthchecker"))
	var rules string
	if err == nil {
		rules, err = h.Run(ctx, "ipvsadm", "-Sn")
	}
	facts := oracle.ReadDump(vrrp.Output(), checkers.Output())
	facts.AddRules(rules)
	for _, p := range []*lab.Proc{vrrp, checkers} {
		_ = p.Signal(syscall.SIGTERM)
	}
	return facts, errors.Join(err, vrrp.Stop(), checkers.Stop())
}

// dumped waits until a process has written its dump, whose end the mark
// follows, or has said that there is nothing to dump.
func dumped(ctx context.Context, p *lab.Proc, mark string) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		out := p.Output()
		if strings.Contains(out, mark) || strings.Contains(out, "no configuration to run") || strings.Contains(out, "Stopped") {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(30 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("keepalived has not dumped its configuration:\n%s", out)
		}
	}
}
