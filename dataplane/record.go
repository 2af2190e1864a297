package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// recorded is the record: what lbcluster put into this host's kernel.
type recorded struct {
	Cluster  string       `json:"cluster"`
	Revision fsm.Revision `json:"revision"` // of the table that was last applied whole
	// Services are ours: those of the table, and those that left it and are
	// not removed yet. Written before a service is made.
	Services []string `json:"services"` // as fsm.ServiceKey.String
	// Addresses are those we put on interfaces. Written before an address is added.
	Addresses []recordedAddress `json:"addresses"`
	// Loopback are the VIPs that we put on lo, where this director is a real
	// server. They stay when the daemon stops, as the server does. Written before.
	Loopback []netip.Prefix `json:"loopback,omitempty"`
	// VMACs are interfaces that we made for virtual routers with a MAC of their own.
	// They stay when the daemon stops. Written before.
	VMACs []recordedVMAC `json:"vmacs,omitempty"`
	// Marks: we have made rules that mark packets. Written before.
	Marks bool `json:"marks,omitempty"`
	// Shared are those of Services that others have had their hands on: they stood
	// before we took them over, or somebody removed them since; see [Plane.share].
	Shared []string `json:"shared,omitempty"`
	// Holds: we have made rules that hold packets back. Written before.
	Holds bool `json:"holds,omitempty"`
	// Sync are the synchronisation daemons that are ours, and SyncSince is when they
	// were started. They stay when the daemon stops. Written before.
	Sync      []ipvs.Role `json:"sync,omitempty"`
	SyncSince time.Time   `json:"sync_since,omitzero"`
	// Tuned are the settings of IPVS that we changed, by name. Written before.
	Tuned map[string]tuned `json:"tuned,omitempty"`
	// Sysctls are those we changed to be a real server, with what they were.
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

type recordedAddress struct {
	Dev    string       `json:"dev"`
	Prefix netip.Prefix `json:"prefix"`
}

// record keeps a recorded in a file. Changes are made to memory; run writes
// them, and save waits for it, so that a slow disk cannot hold up a failover
// for longer than the caller allows.
type record struct {
	path string

	mu      sync.Mutex
	now     recorded
	version uint64
	written uint64 // version that is in the file
	err     error  // of the last write; nil: it is in the file
	wrote   chan struct{}

	dirty chan struct{} // one slot
}

// openRecord reads the record; without a file, or with one that cannot be
// read, it begins empty: then nothing of an earlier process is removed, only
// reported. An empty path keeps the record in memory alone.
func openRecord(path string) (*record, error) {
	r := &record{path: path, wrote: make(chan struct{}), dirty: make(chan struct{}, 1)}
	if path == "" {
		return r, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r.now)
	}
	if err != nil {
		r.now = recorded{}
		return r, fmt.Errorf("read the record of what was put into the kernel: %s: %w", path, err)
	}
	return r, nil
}

// get returns the record as it is in memory.
func (r *record) get() recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.now
	c.Services, c.Addresses = slices.Clone(c.Services), slices.Clone(c.Addresses)
	return c
}

// hasAddress reports whether the record has the address.
func (r *record) hasAddress(a recordedAddress) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.now.Addresses, a)
}

// update changes the record, and asks for it to be written if it changed.
func (r *record) update(change func(*recorded)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, _ := json.Marshal(r.now)
	change(&r.now)
	if after, _ := json.Marshal(r.now); string(before) == string(after) {
		return
	}
	r.version++
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

// save waits until what update did so far is in the file, but no longer than
// limit.
func (r *record) save(limit time.Duration) error {
	if r.path == "" {
		return nil
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		current, err, wrote := r.written == r.version, r.err, r.wrote
		r.mu.Unlock()
		if current || err != nil {
			return err
		}
		select {
		case <-wrote:
		case <-timeout.C:
			return fmt.Errorf("%s: not written within %v", r.path, limit)
		}
	}
}

// run writes the record whenever it changes, until ctx ends; then once more.
func (r *record) run(ctx context.Context) error {
	if r.path == "" {
		<-ctx.Done()
		return nil
	}
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(r.write())
		case <-r.dirty:
		case <-retry.C:
		}
		if r.write() != nil {
			retry.Reset(time.Second)
		}
	}
}

// write puts the current version into the file, unless it is there. No fsync:
// the record matters only as long as the kernel does.
func (r *record) write() error {
	r.mu.Lock()
	version := r.version
	if version == r.written && r.err == nil {
		r.mu.Unlock()
		return nil
	}
	b, err := json.MarshalIndent(r.now, "", " ")
	r.mu.Unlock()
	if err == nil {
		err = replaceFile(r.path, append(b, '\n'))
	}
	if err != nil {
		err = fmt.Errorf("write the record of what is in the kernel: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err == nil {
		r.written = version
	}
	close(r.wrote)
	r.wrote = make(chan struct{})
	return err
}

func replaceFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// owns returns the services in the record.
func (c recorded) owns() Ownership {
	o := Ownership{}
	for _, s := range c.Services {
		if k, err := parseKey(s); err == nil {
			o[k] = true
		}
	}
	return o
}

// setServices makes the services of o those of the record, sorted.
func (c *recorded) setServices(o Ownership) {
	c.Services = nil
	for k := range o {
		c.Services = append(c.Services, k.String())
	}
	slices.Sort(c.Services)
}

// parseKey reads what ipvs.Key.String wrote of a service that we make.
func parseKey(s string) (ipvs.Key, error) {
	proto, rest, _ := strings.Cut(s, "/")
	if proto == "fwmark" || proto == "fwmark6" {
		n, err := strconv.ParseUint(rest, 10, 32)
		if err != nil || n == 0 {
			return ipvs.Key{}, fmt.Errorf("service %q: no mark", s)
		}
		return ipvs.Key{Mark: uint32(n), V6: proto == "fwmark6"}, nil
	}
	ap, err := netip.ParseAddrPort(rest)
	if err != nil {
		return ipvs.Key{}, fmt.Errorf("service %q: %w", s, err)
	}
	for _, p := range protocols {
		if p.String() == proto {
			return ipvs.Key{Addr: ap.Addr(), Port: ap.Port(), Protocol: p}, nil
		}
	}
	return ipvs.Key{}, fmt.Errorf("service %q: protocol %q", s, proto)
}
