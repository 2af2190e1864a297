package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Encode writes c as one JSON object. It fails for what Decode could not read
// back (an invalid netip.Prefix, for one), since such an entry in the log would
// stop every member.
func (c Command) Encode() ([]byte, error) {
	c, err := c.normal()
	if err == nil {
		err = c.readable()
	}
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	if _, err := Decode(b); err != nil {
		return nil, fmt.Errorf("encode command: %w: it can't be read back: %s", ErrInvalid, err)
	}
	return b, nil
}

// Decode reads what Encode wrote. Whatever it can't read to the last field is
// an ErrUnknownCommand: to apply a command in part would part this member's
// table from the others'.
func Decode(b []byte) (Command, error) {
	var c Command
	if err := strict(b, &c); err != nil {
		return Command{}, unreadable(b, err)
	}
	if err := c.readable(); err != nil {
		return Command{}, err
	}
	c, err := c.normal()
	if err != nil {
		return Command{}, fmt.Errorf("%w: %s", ErrUnknownCommand, err)
	}
	return c, nil
}

// unreadable says why b was not read. The version first: of a newer one, unknown
// fields are no surprise.
func unreadable(b []byte, err error) error {
	var head struct {
		Version int `json:"v"`
	}
	if bad := json.Unmarshal(b, &head); bad != nil {
		return fmt.Errorf("%w: %w", ErrUnknownCommand, bad)
	}
	if head.Version < 1 || head.Version > CommandVersion {
		return Command{Version: head.Version}.readable()
	}
	return fmt.Errorf("%w: %w", ErrUnknownCommand, err)
}

// strict reads one JSON value with no unknown field in it and nothing after it.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the end")
	}
	return nil
}

// snapshotVersion is the form of snapshots that this code writes; it reads all
// from 1. Version 1 had none of the things that commands of version 2 brought; a
// table from it has no places until such a command makes them, as on a member
// that read the whole log, and uses what they would be until then. Likewise a
// table from version 2 has no history until a command of version 3 begins it.
// Version 3 also brought the services of commands of version 3. A later one is
// written only when the table has used commands of that version: a member that does
// not read them yet can then still be brought up to date by a newer one.
const snapshotVersion = 3

type snapshot struct {
	Version int    `json:"v"`
	Table   *Table `json:"table"`
}

// Snapshot writes t; equal tables give equal bytes.
func (t *Table) Snapshot() ([]byte, error) {
	b, err := json.Marshal(snapshot{max(snapshotVersion, t.Used), t})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return b, nil
}

// Restore reads what Snapshot wrote and refuses a table that breaks an
// invariant.
func Restore(b []byte) (*Table, error) {
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if head.Version < 1 || head.Version > snapshotVersion {
		return nil, fmt.Errorf("restore: %w: the snapshot has version %d, this program reads up to %d", ErrUnknownCommand, head.Version, snapshotVersion)
	}
	var s snapshot
	if err := strict(b, &s); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if s.Table == nil {
		return nil, errors.New("restore: there is no table in it")
	}
	s.Table.complete()
	if err := s.Table.Check(); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	s.Table.indexUnits()
	return s.Table, nil
}
