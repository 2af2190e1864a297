package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

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
		var disk *fs.PathError
		if errors.As(err, &disk) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading the Raft store: %w", err)
		}
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

// newestSnapshot returns the index of the newest snapshot that can be read; 0:
// none. It only reads: Raft's own store of snapshots fails on a disk that takes
// no writes, and such a disk has lost nothing.
func newestSnapshot(f folder) uint64 {
	metas, err := filepath.Glob(f.path(dirRaft, "snapshots", "*", "meta.json"))
	if err != nil {
		return 0
	}
	var newest uint64
	for _, path := range metas {
		dir := filepath.Dir(path)
		if strings.HasSuffix(dir, ".tmp") {
			continue // was never finished
		}
		if index, err := verifySnapshot(path, filepath.Join(dir, "state.bin")); err == nil {
			newest = max(newest, index)
		}
	}
	return newest
}

// verifySnapshot reads a snapshot as Raft writes it, and returns its index.
func verifySnapshot(metaPath, statePath string) (uint64, error) {
	b, err := os.ReadFile(metaPath)
	if err != nil {
		return 0, err
	}
	var meta struct {
		raft.SnapshotMeta
		CRC []byte // CRC-64 (ECMA) of the state
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return 0, err
	}
	state, err := os.ReadFile(statePath)
	if err != nil {
		return 0, err
	}
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	sum.Write(state)
	if !bytes.Equal(sum.Sum(nil), meta.CRC) {
		return 0, errors.New("its checksum is wrong")
	}
	_, _, err = readSnapshot(bytes.NewReader(state))
	return meta.Index, err
}
