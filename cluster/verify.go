package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// verifyStore reads everything that Raft keeps once, before Raft and bbolt,
// which trust it, do: a truncated file would otherwise end the process with
// SIGBUS, and an empty one would be taken for a new one.
func verifyStore(f folder) error {
	path := f.path(dirRaft, fileStore)
	if err := verifyPages(path); err != nil {
		return lostStore(f, path, err)
	}
	snapshot := newestSnapshot(f)
	first, last, err := verifyLog(path, snapshot)
	if errors.Is(err, bbolt.ErrTimeout) {
		return fmt.Errorf("opening %s: another process uses it", path)
	}
	if err != nil {
		return lostStore(f, path, err)
	}
	if first > 1 && snapshot+1 < first {
		return lostStore(f, f.path(dirRaft, "snapshots"),
			fmt.Errorf("the log has entries %d to %d, and no readable snapshot holds what was before", first, last))
	}
	return nil
}

// bbolt's file format: two meta pages at the start, in the machine's byte
// order, each with a checksum over its fields.
const (
	boltMagic      = 0xED0CDAED
	boltPageHeader = 16
	boltMetaSize   = 64 // without the page header
)

// verifyPages checks that the file is as long as its newest valid meta page says.
func verifyPages(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	var need, txid uint64
	valid := false
	pageSize := int64(os.Getpagesize())
	for _, at := range []int64{0, pageSize} {
		var b [boltMetaSize]byte
		if _, err := file.ReadAt(b[:], at+boltPageHeader); err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("it is truncated: %d bytes", info.Size())
			}
			return err
		}
		order := binary.NativeEndian
		sum := fnv.New64a()
		sum.Write(b[:56])
		if order.Uint32(b[0:]) != boltMagic || order.Uint64(b[56:]) != sum.Sum64() {
			continue
		}
		if id := order.Uint64(b[48:]); !valid || id > txid {
			valid, txid = true, id
			need = order.Uint64(b[40:]) * uint64(order.Uint32(b[8:]))
		}
	}
	switch {
	case !valid:
		return errors.New("it has no valid header")
	case uint64(info.Size()) < need:
		return fmt.Errorf("it is truncated: %d bytes of %d", info.Size(), need)
	}
	return nil
}

// verifyLog reads every entry. Gaps are right only below a snapshot.
func verifyLog(path string, snapshot uint64) (first, last uint64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reading it failed: %v", r)
		}
	}()
	raw, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout: time.Second, ReadOnly: true, PreLoadFreelist: true,
	}})
	if err != nil {
		return 0, 0, err
	}
	defer raw.Close()
	if first, err = raw.FirstIndex(); err != nil {
		return 0, 0, err
	}
	if last, err = raw.LastIndex(); err != nil {
		return 0, 0, err
	}
	if first == 0 {
		return 0, 0, nil
	}
	for i := first; i <= last; i++ {
		var l raft.Log
		err := raw.GetLog(i, &l)
		switch {
		case errors.Is(err, raft.ErrLogNotFound) && i <= snapshot:
		case err != nil:
			return 0, 0, fmt.Errorf("entry %d: %w", i, err)
		case l.Index != i:
			return 0, 0, fmt.Errorf("entry %d says that it is %d", i, l.Index)
		case l.Type == raft.LogConfiguration:
			raft.DecodeConfiguration(l.Data) // panics if it cannot
		}
	}
	return first, last, nil
}

// newestSnapshot returns the index of the newest snapshot that can be read; 0: none.
func newestSnapshot(f folder) uint64 {
	if _, err := os.Stat(f.path(dirRaft, "snapshots")); err != nil {
		return 0
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(f.path(dirRaft), 2, hclog.NewNullLogger())
	if err != nil {
		return 0
	}
	list, err := snaps.List()
	if err != nil {
		return 0
	}
	for _, meta := range list {
		_, r, err := snaps.Open(meta.ID) // checks the CRC
		if err != nil {
			continue
		}
		_, _, err = readSnapshot(r)
		r.Close()
		if err == nil {
			return meta.Index
		}
	}
	return 0
}
