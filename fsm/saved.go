package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// SavedFormat is the form of snapshot files that this code writes; it reads all from 1.
const SavedFormat = 1

// Saved is a snapshot of what people decided, as a file: see lbcluster snapshot. Its
// checksum is over the text of the agreement without white space, so that a file may
// be indented, and over the line before it.
type Saved struct {
	Format    int             `json:"lbcluster_snapshot"`
	Cluster   string          `json:"cluster"`
	Revision  Revision        `json:"revision"`
	At        time.Time       `json:"at"`
	By        string          `json:"by"` // the program that wrote it: "lbcluster 1.2 on dir1"
	SHA256    string          `json:"sha256"`
	Agreement json.RawMessage `json:"agreement"`
}

// Save writes t's agreement. At and by are for people.
func (t *Table) Save(at time.Time, by string) ([]byte, error) {
	body, err := json.Marshal(t.Agreement())
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s := Saved{Format: SavedFormat, Cluster: t.Cluster, Revision: t.Revision, At: at.Round(0).UTC().Truncate(time.Second), By: clean(by, maxDetail), Agreement: body}
	s.SHA256 = s.sum(body)
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return append(b, '\n'), nil
}

func (s Saved) sum(compact []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %d %s %s\n", s.Format, s.Cluster, s.Revision, s.At.UTC().Format(time.RFC3339Nano), s.By)
	h.Write(compact)
	return hex.EncodeToString(h.Sum(nil))
}

// ReadSaved reads what Save wrote. A file that is none, that was changed or cut off, or
// that a newer program wrote, is refused: ErrInvalid, or ErrUnknownCommand.
func ReadSaved(b []byte) (Saved, Agreement, error) {
	var head struct {
		Format *int `json:"lbcluster_snapshot"`
	}
	err := json.Unmarshal(b, &head)
	switch {
	case err != nil:
		return Saved{}, Agreement{}, fmt.Errorf("%w: it is no snapshot, or it is cut off: %v", ErrInvalid, err)
	case head.Format == nil || *head.Format < 1:
		return Saved{}, Agreement{}, invalid("it is no snapshot of lbcluster: there is no lbcluster_snapshot in it")
	case *head.Format > SavedFormat:
		return Saved{}, Agreement{}, newerSaved(fmt.Sprintf("it has version %d, this program reads up to %d", *head.Format, SavedFormat))
	}
	var s Saved
	if err := strict(b, &s); err != nil {
		return Saved{}, Agreement{}, invalid("it is damaged: %v", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, s.Agreement); err != nil {
		return Saved{}, Agreement{}, invalid("it is damaged: %v", err)
	}
	if sum := s.sum(compact.Bytes()); sum != s.SHA256 {
		return Saved{}, Agreement{}, invalid("it is damaged or was edited: its SHA-256 is %.12s…, it says %.12s…", sum, s.SHA256)
	}
	var a Agreement
	if err := strict(compact.Bytes(), &a); err != nil {
		// What the checksum covers, and this program does not know, a newer one wrote.
		return Saved{}, Agreement{}, newerSaved(err.Error())
	}
	return s, a, nil
}

func newerSaved(what string) error {
	return fmt.Errorf("%w: a newer lbcluster wrote the snapshot (%s): use that one", ErrUnknownCommand, what)
}
