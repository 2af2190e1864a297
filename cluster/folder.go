package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"lbcluster/fsm"
)

// Names of the files in a member's data folder.
const (
	fileIdentity = "identity.json" // who this member is; written last, so its presence means "enrolled"
	fileCA       = "ca.pem"
	fileCAKey    = "ca.key"
	fileCert     = "member.pem"
	fileKey      = "member.key"
	fileJoining  = "joining.json" // a join that was begun: its request and key
	fileTable    = "table.json"   // the newest table this member has seen, to start with
	dirRaft      = "raft"
	fileStore    = "raft.db"
	fileFloor    = "configurations.json"
)

// identityFile is identity.json.
type identityFile struct {
	ID        fsm.MemberID   `json:"id"`
	Cluster   string         `json:"cluster"`
	Name      string         `json:"name"`
	Role      fsm.Role       `json:"role"`
	Addr      netip.AddrPort `json:"addr"`
	Epoch     uint64         `json:"epoch"`
	LeaseKey  []byte         `json:"lease_key"`
	GossipKey []byte         `json:"gossip_key"`
	// Profile is set in the founder only: what its founding command says.
	Profile string        `json:"profile,omitempty"`
	Guard   time.Duration `json:"guard,omitempty"` // likewise
	// Members is where the others were when this member enrolled: enough to
	// find them until the first table arrives.
	Members []fsm.Member `json:"members,omitempty"`
}

func (f *identityFile) check() error {
	switch {
	case f.ID == "" || f.Cluster == "":
		return errors.New("it names no member or no cluster")
	case len(f.LeaseKey) != 32 || len(f.GossipKey) != 32:
		return errors.New("a key in it does not have 32 bytes")
	}
	return nil
}

// folder is a data folder on disk.
type folder string

func (f folder) path(name ...string) string {
	return filepath.Join(append([]string{string(f)}, name...)...)
}

// identity reads identity.json; nil without an error when there is none.
func (f folder) identity() (*identityFile, error) {
	path := f.path(fileIdentity)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %w", err)
	}
	var id identityFile
	if err := json.Unmarshal(b, &id); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): restore it from a backup, or move %s aside, remove this member on another one and join again", path, err, f)
	}
	if err := id.check(); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: restore it from a backup, or move %s aside, remove this member on another one and join again", path, err, f)
	}
	return &id, nil
}

// EnrolledAddr is the address under which the machine with this data folder is
// a member; false if it is none, or if [New] will say what is wrong. It does
// not change while the machine is a member, whatever other addresses, a VIP
// that an earlier process left behind for one, it has now.
func EnrolledAddr(dir string) (netip.AddrPort, bool) {
	id, err := folder(dir).identity()
	if err != nil || id == nil {
		return netip.AddrPort{}, false
	}
	return id.Addr, id.Addr.IsValid()
}

// EnrolledAs reads from the data folder of a machine, whose daemon may be dead,
// which member it is; false: it is none.
func EnrolledAs(dir string) (Identity, bool, error) {
	id, err := folder(dir).identity()
	if err != nil || id == nil {
		return Identity{}, false, err
	}
	return Identity{ID: id.ID, Cluster: id.Cluster, Name: id.Name, Role: id.Role, Addr: id.Addr, LeaseKey: id.LeaseKey}, true, nil
}

// writeEnrolment writes all files of a new identity, identity.json last, so
// that a crash half way leaves a folder that counts as un-enrolled.
func (f folder) writeEnrolment(id *identityFile, caPEM, caKeyPEM, certPEM, keyPEM []byte) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the identity: %w", err)
	}
	for _, w := range []struct {
		name string
		data []byte
	}{
		{fileCA, caPEM}, {fileCAKey, caKeyPEM}, {fileCert, certPEM}, {fileKey, keyPEM},
		{fileIdentity, append(b, '\n')},
	} {
		if err := writeFile(f.path(w.name), w.data); err != nil {
			return err
		}
	}
	return nil
}

// setAside moves everything of an identity into a folder of its own beside
// it, so that the node is un-enrolled and nothing is lost.
func (f folder) setAside(now time.Time) (string, error) {
	dir := f.path("left-" + now.UTC().Format("20060102T150405.000000000"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("setting the old identity aside: %w", err)
	}
	// The identity goes first: without it the rest means nothing.
	for _, name := range []string{fileIdentity, fileCA, fileCAKey, fileCert, fileKey, fileJoining, fileTable, dirRaft} {
		err := os.Rename(f.path(name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("setting the old identity aside: %w", err)
		}
	}
	return dir, syncDir(string(f))
}

// sweep removes what a crash left of unfinished writes.
func (f folder) sweep() {
	for _, dir := range []string{string(f), f.path(dirRaft)} {
		left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*"))
		for _, path := range left {
			os.Remove(path)
		}
	}
}

// writeFile replaces a file so that after a crash it is either the old or the
// new one, whole. Readable by its owner alone.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
