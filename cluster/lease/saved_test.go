package lease

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

var (
	thisBoot  = BootID{1}
	otherBoot = BootID{2}
	testOwner = stateOwner{thisBoot, clusterHash("c1"), "m1"}
)

// memoryDir is a directory on a file system in memory.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lease")
	if err != nil {
		t.Skip("no /dev/shm: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Type != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is not in memory")
	}
	return dir
}

// fill begins a state file and writes one of everything.
func fill(t testing.TB, path string) (*stateFile, saved) {
	t.Helper()
	sf, _, err := openState(path, testOwner)
	if !errors.Is(err, errNoState) {
		t.Fatalf("a new file: %v", err)
	}
	head := savedHead{stateOwner: testOwner, embargo: 77, identity: Nonce{9}, listen: netip.MustParseAddrPort("10.0.0.1:7000")}
	want := saved{
		seats: map[uint64]*seat{7: {
			to: identity{"m2", Nonce{2}}, seq: 5, until: 1e9, addrs: []claim{{vip1, 1e9}, {vip3, 2e9}},
			last: []lastRound{{identity{"m3", Nonce{3}}, 9}, {identity{"m2", Nonce{2}}, 5}}, reservedUntil: never,
		}},
		tenures: map[uint64]tenure{7: {7, []netip.Addr{vip1, vip3}, []fsm.MemberID{"m1", "m2"}}},
		peers:   []savedPeer{{"m2", []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::2]:7000")}}},
	}
	err = errors.Join(sf.begin(head), sf.reserve(1), sf.putSeat(7, want.seats[7]),
		sf.put(recordKey{kind: recTenure, id: 7}, want.tenures[7].append()),
		sf.put(recordKey{kind: recPeer, who: "m2"}, want.peers[0].append()))
	if err != nil {
		t.Fatal(err)
	}
	head.seq = 1 + seqStep
	want.savedHead = head
	return sf, want
}

func TestStateIsReadAsWritten(t *testing.T) {
	path := filepath.Join(memoryDir(t), "state")
	sf, want := fill(t, path)
	if _, _, err := openState(path, testOwner); !errors.Is(err, ErrStateBusy) {
		t.Errorf("a second process opens it: %v", err)
	}
	sf.close()
	sf, got, err := openState(path, testOwner)
	if err != nil {
		t.Fatal(err)
	}
	want.where = got.where
	if len(got.where) != 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("wrote %+v\nread  %+v", want, got)
	}
	// What is removed is gone, and its room is used again.
	if err := errors.Join(sf.putSeat(7, nil), sf.putSeat(7, nil), sf.putSeat(8, want.seats[7])); err != nil {
		t.Fatal(err)
	}
	sf.close()
	sf, got, err = openState(path, testOwner)
	if err != nil || got.seats[7] != nil || got.seats[8] == nil || len(got.where)+len(sf.free) != slotCount-1 {
		t.Errorf("%v: %+v, %d free", err, got, len(sf.free))
	}
	sf.close()
}

func TestStateOfOthersIsRefused(t *testing.T) {
	path := filepath.Join(memoryDir(t), "state")
	sf, _ := fill(t, path)
	sf.close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) []byte { b := bytes.Clone(good); b[at] = to; return b }
	for _, c := range []struct {
		name  string
		owner stateOwner
		b     []byte
		want  error
	}{
		{"another boot", stateOwner{otherBoot, testOwner.cluster, "m1"}, good, errForeign},
		{"another member", stateOwner{thisBoot, testOwner.cluster, "m2"}, good, errForeign},
		{"another cluster", stateOwner{thisBoot, clusterHash("c2"), "m1"}, good, errForeign},
		{"empty", testOwner, nil, errNoState},
		{"zeroes", testOwner, make([]byte, stateSize), errNoState},
		{"cut", testOwner, good[:stateSize-1], errTorn},
		{"longer", testOwner, append(bytes.Clone(good), 0), errTorn},
		{"torn head", testOwner, change(slotHead+30, 0xff), errTorn},
		{"torn seat", testOwner, change(slotSize+slotHead+20, 0xff), errTorn},
		{"half-written seat", testOwner, change(slotSize, good[slotSize]+1), errTorn},
		{"length beyond the slot", testOwner, change(slotSize+8, 0xff), errTorn},
		{"a byte in an empty slot's head", testOwner, change(9*slotSize+3, 1), errTorn},
	} {
		if _, err := decodeState(c.b, c.owner); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestStateMustBeInMemory(t *testing.T) {
	var st unix.Statfs_t
	dir := t.TempDir()
	if err := unix.Statfs(dir, &st); err != nil || st.Type == unix.TMPFS_MAGIC {
		t.Skip("the temporary directory is in memory")
	}
	if sf, _, err := openState(filepath.Join(dir, "state"), testOwner); sf != nil || err == nil {
		t.Error("a file on a disk is taken")
	}
}

func TestFullStateRefuses(t *testing.T) {
	sf, want := fill(t, filepath.Join(memoryDir(t), "state"))
	defer sf.close()
	for id := uint64(100); len(sf.free) > 0; id++ {
		if err := sf.putSeat(id, want.seats[7]); err != nil {
			t.Fatal(err)
		}
	}
	if sf.putSeat(99, want.seats[7]) == nil {
		t.Error("a record too many is taken")
	}
	if err := sf.putSeat(7, want.seats[7]); err != nil {
		t.Errorf("a record that is there cannot be written again: %v", err)
	}
}

// The largest seat that a voter can have fits a slot.
func TestLargestSeatFits(t *testing.T) {
	long := fsm.MemberID(bytes.Repeat([]byte("x"), maxID))
	s := &seat{to: identity{long, Nonce{1}}, seq: 1 << 63, until: 1 << 61}
	for i := range maxAddrs {
		s.addrs = append(s.addrs, claim{netip.AddrFrom16([16]byte{byte(i)}), 1 << 61})
	}
	for range maxLast {
		s.last = append(s.last, lastRound{s.to, 1 << 63})
	}
	if _, err := sealSlot(appendSeat(1<<63, s)); err != nil {
		t.Error(err)
	}
}

// FuzzRecord: nothing panics, and what is read is written back as it was.
func FuzzRecord(f *testing.F) {
	s := &seat{to: identity{"m2", Nonce{2}}, seq: 5, until: 1e9, addrs: []claim{{vip1, 1e9}}, last: []lastRound{{identity{"m2", Nonce{2}}, 5}}}
	f.Add(appendSeat(7, s))
	f.Add(tenure{7, []netip.Addr{vip1, vip3}, []fsm.MemberID{"m1"}}.append())
	f.Add(savedPeer{"m2", []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:7")}}.append())
	f.Add(savedHead{stateOwner: testOwner, embargo: -1, seq: 9}.append())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if h, err := parseHead(b); err == nil && !bytes.Equal(h.append(), b) {
			t.Errorf("read %x, wrote %x", b, h.append())
		}
		got := saved{seats: map[uint64]*seat{}, tenures: map[uint64]tenure{}, where: map[recordKey]int{}}
		if got.add(1, b) != nil {
			return
		}
		for id, s := range got.seats {
			if again := appendSeat(id, s); !bytes.Equal(again, b) {
				t.Errorf("read %x, wrote %x", b, again)
			}
		}
		for _, x := range got.tenures {
			if again := x.append(); !bytes.Equal(again, b) {
				t.Errorf("read %x, wrote %x", b, again)
			}
		}
	})
}

// When may a voter grant that starts with this file and this memory of its last
// start (R2)? The kernel runs for 100 s, or for 1 s.
func TestEmbargoAtTheStart(t *testing.T) {
	p := profile(t, "default")
	p.Guard = ms(2000)
	whole := int64(p.Embargo())
	for _, c := range []struct {
		name   string
		now    int64
		err    error
		last   string
		embrgo int64
	}{
		{"the file was lost in this boot", 100e9, errNoState, thisBoot.String(), 100e9 + whole},
		{"it is not known when this member last started", 100e9, errNoState, "", 100e9 + whole},
		{"what is known of it is rubbish", 100e9, errNoState, "yesterday", 100e9 + whole},
		{"a reboot, long ago", 100e9, errNoState, otherBoot.String(), whole},
		{"a reboot a moment ago", 1e9, errNoState, otherBoot.String(), whole},
		{"a reboot, and the file of the boot before", 100e9, errForeign, otherBoot.String(), whole},
		{"a file of another boot in this boot", 100e9, errForeign, thisBoot.String(), 100e9 + whole},
		{"a torn file after a reboot", 100e9, errTorn, otherBoot.String(), 100e9 + whole},
	} {
		if got := embargoAt(c.now, p, c.err, c.last, thisBoot); got != c.embrgo {
			t.Errorf("%s: until %v, want %v", c.name, got, c.embrgo)
		}
	}
}

func TestBootID(t *testing.T) {
	id, err := ParseBootID("3b2ee0e0-7b1c-4f0e-9d5e-0123456789ab\n")
	if err != nil || id.String() != "3b2ee0e0-7b1c-4f0e-9d5e-0123456789ab" {
		t.Errorf("%v, %v", id, err)
	}
	for _, s := range []string{"", "x", "3b2e"} {
		if _, err := ParseBootID(s); err == nil {
			t.Errorf("%q is a boot id", s)
		}
	}
	if id, err := ReadBootID(); err != nil || id == (BootID{}) {
		t.Errorf("the kernel's: %v, %v", id, err)
	}
}
