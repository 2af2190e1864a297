package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// stateFile writes what a process of this member must not forget while the
// kernel runs. It is on a file system in memory, so no disk is waited for
// (R12), and all its pages are there from the start. nil: nothing is kept.
type stateFile struct {
	f     *os.File
	head  savedHead
	where map[recordKey]int
	free  []int
	err   error // the first that could not be written
}

// ErrStateBusy says that another process has the state file: this member's
// daemon, it seems, still runs.
var ErrStateBusy = errors.New("the lease's state file is in use by another process")

// seqStep is how many rounds and probes are reserved at once.
const seqStep = 1000

// openState opens the file, for this process alone, and reads what is in it.
// The saved state counts only if the error is nil; with any of errNoState,
// errForeign and errTorn the file can be used, but starts empty.
func openState(path string, owner stateOwner) (*stateFile, saved, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, saved{}, fmt.Errorf("open the lease's state file: %w", err)
	}
	sf := &stateFile{f: f, head: savedHead{stateOwner: owner}, where: map[recordKey]int{}}
	if err := sf.check(); err != nil {
		f.Close()
		return nil, saved{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, stateSize+1))
	if err != nil {
		f.Close()
		return nil, saved{}, fmt.Errorf("read the lease's state file: %w", err)
	}
	s, err := decodeState(b, owner)
	if err == nil {
		sf.head, sf.where = s.savedHead, s.where
	}
	for i := slotCount - 1; i > 0; i-- {
		if !slices.Contains(mapValues(sf.where), i) {
			sf.free = append(sf.free, i)
		}
	}
	return sf, s, err
}

func mapValues[K comparable, V any](m map[K]V) (out []V) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// check makes sure that the file is in memory and nobody else's.
func (sf *stateFile) check() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(sf.f.Fd()), &st); err != nil {
		return fmt.Errorf("look at the lease's state file: %w", err)
	}
	if st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC {
		return fmt.Errorf("%s is not on a file system in memory (tmpfs): writing it may wait for a disk", sf.f.Name())
	}
	if err := unix.Flock(int(sf.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrStateBusy
		}
		return fmt.Errorf("lock the lease's state file: %w", err)
	}
	return nil
}

// begin makes the file an empty one with this head. A crash in the middle
// leaves a file that does not check.
func (sf *stateFile) begin(h savedHead) error {
	err := sf.f.Truncate(0)
	if err == nil {
		err = unix.Fallocate(int(sf.f.Fd()), 0, 0, stateSize) // no write finds the memory full
	}
	if err != nil {
		return fmt.Errorf("make room for the lease's state: %w", err)
	}
	sf.where, sf.free = map[recordKey]int{}, nil
	for i := slotCount - 1; i > 0; i-- {
		sf.free = append(sf.free, i)
	}
	return sf.setHead(h)
}

func (sf *stateFile) setHead(h savedHead) error {
	if err := sf.write(0, h.append()); err != nil {
		return err
	}
	sf.head = h
	return nil
}

// write puts a payload into a slot; nil empties it.
func (sf *stateFile) write(slot int, payload []byte) error {
	b := make([]byte, slotHead)
	if payload != nil {
		var err error
		if b, err = sealSlot(payload); err != nil {
			return err
		}
	}
	if _, err := sf.f.WriteAt(b, int64(slot)*slotSize); err != nil {
		err = fmt.Errorf("write the lease's state: %w", err)
		if sf.err == nil {
			sf.err = err
		}
		return err
	}
	return nil
}

// put writes a record; nil removes it.
func (sf *stateFile) put(key recordKey, payload []byte) error {
	if sf == nil {
		return nil
	}
	slot, ok := sf.where[key]
	switch {
	case payload == nil && !ok:
		return nil
	case payload == nil:
		if err := sf.write(slot, nil); err != nil {
			return err
		}
		delete(sf.where, key)
		sf.free = append(sf.free, slot)
		return nil
	case !ok && len(sf.free) == 0:
		return errors.New("the lease's state file is full")
	case !ok:
		slot = sf.free[len(sf.free)-1]
	}
	if err := sf.write(slot, payload); err != nil {
		return err
	}
	if !ok {
		sf.free = sf.free[:len(sf.free)-1]
		sf.where[key] = slot
	}
	return nil
}

// putSeat writes what the voter knows of a router now; nil: nothing.
func (sf *stateFile) putSeat(router uint64, s *seat) error {
	if sf == nil {
		return nil
	}
	if s == nil {
		return sf.put(recordKey{kind: recSeat, id: router}, nil)
	}
	return sf.put(recordKey{kind: recSeat, id: router}, appendSeat(router, s))
}

// reserve makes sure that seq may be used: after a crash the next process goes
// on above what is reserved.
func (sf *stateFile) reserve(seq uint64) error {
	if sf == nil || seq <= sf.head.seq {
		return nil
	}
	h := sf.head
	h.seq = seq + seqStep
	return sf.setHead(h)
}

func (sf *stateFile) close() {
	if sf != nil {
		sf.f.Close() // the lock goes with it
	}
}

// clusterHash is how packets and the state file name a cluster.
func clusterHash(cluster string) [8]byte {
	sum := sha256.Sum256([]byte(cluster))
	return [8]byte(sum[:8])
}

// bootIDFile is where the kernel tells its boot_id.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// mountedOver reports whether something is mounted at path itself, or this
// cannot be known (before Linux 5.8). Container managers (systemd-nspawn, LXC)
// mount a boot_id of the container's own over the kernel's: it changes with each
// start of the container, while the kernel and its clocks go on.
func mountedOver(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st)
	return err != nil || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// ReadBootID reads the kernel's boot_id.
func ReadBootID() (BootID, error) {
	b, err := os.ReadFile(bootIDFile)
	if err != nil {
		return BootID{}, fmt.Errorf("read the kernel's boot id: %w", err)
	}
	id, err := ParseBootID(string(b))
	if err != nil {
		return BootID{}, fmt.Errorf("read the kernel's boot id: %w", err)
	}
	return id, nil
}

// ParseBootID reads the text of a boot id, as the kernel writes it.
func ParseBootID(s string) (BootID, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(BootID{}) {
		return BootID{}, fmt.Errorf("%q is no boot id", s)
	}
	return BootID(b), nil
}

// String is the text as the kernel writes it.
func (b BootID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
