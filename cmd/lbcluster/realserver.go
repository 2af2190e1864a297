package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"lbcluster/cluster"
	"lbcluster/realserver"
)

// realServerEvery is how often a real server asks for its VIPs and looks at lo.
const realServerEvery = 2 * time.Second

// realServerConfig is what install wrote down. It survives a boot, and so do the
// VIPs that were known: they are on lo before any member answers.
type realServerConfig struct {
	VIPs   []netip.Addr            `json:"vips,omitempty"`   // fixed
	Reader *cluster.ReaderIdentity `json:"reader,omitempty"` // or read from the cluster
	Known  cluster.ReaderAnswer    `json:"known,omitzero"`
}

// want is what belongs on lo.
func (c realServerConfig) want() []netip.Addr {
	if c.Reader != nil {
		return c.Known.VIPs
	}
	return c.VIPs
}

// realServerDirs are where a real server keeps its files.
type realServerDirs struct{ state, run string }

func (d realServerDirs) config() string { return filepath.Join(d.state, "realserver.json") }
func (d realServerDirs) record() string { return filepath.Join(d.run, "record.json") }

// locked runs f while no other process changes these files or lo for them.
func (d realServerDirs) locked(f func() error) error {
	if err := errors.Join(os.MkdirAll(d.run, 0o755), os.MkdirAll(d.state, 0o700)); err != nil {
		return fmt.Errorf("make the real server's folders: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(d.run, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock the real server's files: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the real server's files: %w", err)
	}
	return f()
}

// readJSON reads a file into v; one that is not there leaves v as it is and false.
func readJSON(path string, v any) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = writeDurably(path, string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (d realServerDirs) install(c realServerConfig) error {
	return d.locked(func() error { return writeJSON(d.config(), c) })
}

// apply brings lo to want; to be called with the files locked.
func (d realServerDirs) apply(want []netip.Addr) ([]realserver.Op, error) {
	var rec realserver.Record
	if _, err := readJSON(d.record(), &rec); err != nil {
		return nil, err
	}
	done, _, err := realserver.Apply(realserver.Host{}, want, rec, func(r realserver.Record) error { return writeJSON(d.record(), r) })
	return done, err
}

// uninstall takes everything back and forgets.
func (d realServerDirs) uninstall() (done []realserver.Op, err error) {
	err = d.locked(func() error {
		if done, err = d.apply(nil); err != nil {
			return err
		}
		for _, path := range []string{d.config(), d.record()} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	return done, err
}

// realServer keeps lo as it should be.
type realServer struct {
	dirs   realServerDirs
	log    *slog.Logger
	reader *cluster.Reader
	cert   string // of reader
	said   string // the last error that was logged
}

func newRealServer(dirs realServerDirs, log *slog.Logger) *realServer {
	return &realServer{dirs: dirs, log: log}
}

// errUninstalled: there is nothing to do any more.
var errUninstalled = errors.New("this machine is not installed as a real server")

// run keeps lo as it should be until ctx ends or the machine is uninstalled.
func (r *realServer) run(ctx context.Context) error {
	lock, err := takeLock(filepath.Join(r.dirs.run, "daemon.lock"))
	if err != nil {
		return err
	}
	defer lock.release()
	for first := true; ; first = false {
		err := r.round(ctx)
		if errors.Is(err, errUninstalled) {
			if first {
				return &hinted{err, "lbcluster realserver install"}
			}
			r.log.Info("uninstalled; nothing is left to do")
			return nil
		}
		r.tell(err)
		if first {
			tellSystemd(daemon.SdNotifyReady)
		}
		if !pause(ctx, realServerEvery) {
			return nil
		}
	}
}

// tell logs what went wrong once, and once that it is well again.
func (r *realServer) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == r.said:
	case err != nil:
		r.log.Error("what is on lo stays as it is where something failed; trying again", "err", err)
	default:
		r.log.Info("all is well again")
	}
	r.said = text
}

// round asks the cluster, where it follows one, and brings lo to what is known.
// That no member answers keeps nothing from being repaired.
func (r *realServer) round(ctx context.Context) error {
	var c realServerConfig
	if there, err := readJSON(r.dirs.config(), &c); err != nil || !there {
		return errors.Join(err, missing(there, err))
	}
	var answer *cluster.ReaderAnswer
	var asked error
	if c.Reader != nil {
		answer, asked = r.ask(ctx, c)
	}
	err := r.dirs.locked(func() error {
		var now realServerConfig
		if there, err := readJSON(r.dirs.config(), &now); err != nil || !there {
			return errors.Join(err, missing(there, err))
		}
		if now.Reader == nil || c.Reader == nil || string(now.Reader.Cert) != string(c.Reader.Cert) {
			answer = nil // it was installed anew meanwhile
		}
		if answer != nil && (!slices.Equal(answer.VIPs, now.Known.VIPs) || !slices.Equal(answer.Members, now.Known.Members)) {
			now.Known = *answer
			if err := writeJSON(r.dirs.config(), now); err != nil {
				return err
			}
		}
		done, err := r.dirs.apply(now.want())
		for _, op := range done {
			r.log.Info("changed", "what", op.String())
		}
		return err
	})
	return errors.Join(asked, err)
}

func missing(there bool, err error) error {
	if there || err != nil {
		return nil
	}
	return errUninstalled
}

func (r *realServer) ask(ctx context.Context, c realServerConfig) (*cluster.ReaderAnswer, error) {
	seen, err := realserver.Host{}.See()
	if err != nil {
		return nil, err
	}
	if r.reader == nil || r.cert != string(c.Reader.Cert) {
		if r.reader, err = cluster.NewReader(*c.Reader, c.Known); err != nil {
			return nil, err
		}
		r.cert = string(c.Reader.Cert)
	}
	a, err := r.reader.VIPs(ctx, seen.Own())
	if err != nil {
		return nil, fmt.Errorf("no member says which VIPs belong here: %w", err)
	}
	return &a, nil
}

// realServerReport is what status shows.
type realServerReport struct {
	Installed bool         `json:"installed"`
	Cluster   string       `json:"cluster,omitempty"` // empty: fixed VIPs
	Own       []netip.Addr `json:"own"`
	VIPs      []vipReport  `json:"vips"`
	Problems  []string     `json:"problems"`
}

type vipReport struct {
	VIP        netip.Addr `json:"vip"`
	OnLoopback bool       `json:"on_lo"`
	Ours       bool       `json:"ours"`
}

// notRunning is the problem that nobody keeps lo as it should be.
const notRunning = "lbcluster realserver run does not run: nothing follows the table, and nothing is put back after a boot: systemctl start lbcluster-realserver"

// report looks, asks the members, and changes nothing.
func (d realServerDirs) report(ctx context.Context) (realServerReport, error) {
	out := realServerReport{VIPs: []vipReport{}, Problems: []string{}}
	var c realServerConfig
	var err error
	if out.Installed, err = readJSON(d.config(), &c); err != nil {
		return out, err
	}
	var rec realserver.Record
	if _, err := readJSON(d.record(), &rec); err != nil {
		return out, err
	}
	seen, err := realserver.Host{}.See()
	if err != nil {
		return out, err
	}
	out.Own = seen.Own()
	want := c.want()
	if c.Reader != nil {
		out.Cluster = c.Reader.Cluster
		answer, err := newRealServer(d, slog.New(slog.DiscardHandler)).ask(ctx, c)
		if err == nil {
			want = answer.VIPs
		} else {
			out.Problems = append(out.Problems, fmt.Sprintf("%v; what was known last stays on lo", err))
		}
	}
	for _, vip := range want {
		out.VIPs = append(out.VIPs, vipReport{VIP: vip, OnLoopback: seen.OnLoopback(vip), Ours: slices.Contains(rec.Addresses, vip)})
	}
	out.Problems = append(out.Problems, realserver.Problems(want, seen)...)
	for _, vip := range rec.Addresses {
		if !slices.Contains(want, vip) {
			out.Problems = append(out.Problems, fmt.Sprintf("%s does not belong on lo any more; lbcluster put it there", vip))
		}
	}
	if out.Installed && !d.running() {
		out.Problems = append(out.Problems, notRunning)
	}
	return out, nil
}

// running reports whether lbcluster realserver run has its lock.
func (d realServerDirs) running() bool {
	lock, err := takeLock(filepath.Join(d.run, "daemon.lock"))
	if err != nil {
		return errors.Is(err, errAlive)
	}
	lock.release()
	return false
}
