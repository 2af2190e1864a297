package gate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Ways to attach.
const (
	ModeTCX    = "tcx"
	ModeClsact = "clsact"
)

// found is a program of some gate (this process's or an earlier one's) on an
// interface.
type found struct {
	id    ebpf.ProgramID
	first bool // nothing runs before it in its hook
}

// hook is one way to put programs on interfaces.
type hook interface {
	// list returns the gates' programs on the interface, by name.
	list(ifindex int, d direction) ([]found, error)
	// place is where program id runs in its hook, from 0; -1: it is not there.
	// It is asked often, so it costs few system calls.
	place(ifindex int, d direction, id ebpf.ProgramID) (int, error)
	// attach puts p there, in place of an earlier gate's program in one step
	// where there is one.
	attach(ifindex int, d direction, p *ebpf.Program) error
	// detach takes every gate's program off the interface.
	detach(ifindex int, d direction) error
	// forget drops what is kept outside the interface for ones that are gone.
	forget(present map[int]bool) error
}

// tcx attaches by links pinned in dir: a pinned link outlives its process.
type tcx struct{ dir string }

func (t tcx) path(ifindex int, d direction) string {
	return filepath.Join(t.dir, linksDir, fmt.Sprintf("%d-%s", ifindex, d))
}

func (t tcx) query(ifindex int, d direction) ([]link.AttachedProgram, error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: d.attachType()})
	if err != nil {
		return nil, fmt.Errorf("query tcx %s of interface %d: %w", d, ifindex, err)
	}
	return r.Programs, nil
}

func (t tcx) list(ifindex int, d direction) ([]found, error) {
	progs, err := t.query(ifindex, d)
	if err != nil {
		return nil, err
	}
	var out []found
	for i, p := range progs {
		ours, err := isGate(p.ID, d)
		if err != nil {
			return nil, err
		}
		if ours {
			out = append(out, found{id: p.ID, first: i == 0})
		}
	}
	return out, nil
}

func (t tcx) place(ifindex int, d direction, id ebpf.ProgramID) (int, error) {
	progs, err := t.query(ifindex, d)
	return slices.IndexFunc(progs, func(p link.AttachedProgram) bool { return p.ID == id }), err
}

// isGate tells a gate's program by its name. A program that is gone is none.
func isGate(id ebpf.ProgramID, d direction) (bool, error) {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, explain(fmt.Errorf("open program %d: %w", id, err))
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return false, fmt.Errorf("inspect program %d: %w", id, err)
	}
	return info.Name == progName(d), nil
}

// attach swaps the program of the pinned link where it can. Otherwise the new
// link comes first and the old one goes after it, so that at no instant the
// interface is without a gate.
func (t tcx) attach(ifindex int, d direction, p *ebpf.Program) error {
	id, err := programID(p)
	if err != nil {
		return err
	}
	if done, err := t.update(ifindex, d, p, id); done || err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p, Attach: d.attachType(), Anchor: link.Head()})
	if err != nil {
		return explain(err)
	}
	defer l.Close()
	// Links that were not the first, or whose pin is gone with its bpffs; and
	// the pin of one that is dead (its interface went, somebody detached it).
	if err := t.remove(ifindex, d, id); err != nil {
		return err
	}
	if err := l.Pin(t.path(ifindex, d)); err != nil {
		return explain(fmt.Errorf("pin the link: %w", err))
	}
	return nil
}

// update swaps the program of the pinned link, if that is alive and first, or
// carries the program already.
func (t tcx) update(ifindex int, d direction, p *ebpf.Program, id ebpf.ProgramID) (bool, error) {
	l, err := link.LoadPinnedLink(t.path(ifindex, d), nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, explain(fmt.Errorf("open the pinned link: %w", err))
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil || info.TCX() == nil || int(info.TCX().Ifindex) != ifindex {
		return false, nil
	}
	here, err := t.list(ifindex, d)
	if err != nil || len(here) != 1 || !here[0].first && here[0].id != id {
		return false, err
	}
	return true, l.Update(p)
}

func (t tcx) detach(ifindex int, d direction) error { return t.remove(ifindex, d, 0) }

// remove detaches every gate's link but that of one program, then the pin. The
// order matters: a link that merely loses its last reference is taken off by
// the kernel some time later.
func (t tcx) remove(ifindex int, d direction, but ebpf.ProgramID) error {
	if err := t.detachLinks(ifindex, d, but); err != nil {
		return err
	}
	if err := os.Remove(t.path(ifindex, d)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin the link: %w", err)
	}
	return nil
}

// detachLinks detaches the links of all gates' programs but one.
func (t tcx) detachLinks(ifindex int, d direction, but ebpf.ProgramID) error {
	progs, err := t.query(ifindex, d)
	if err != nil {
		return err
	}
	for _, p := range progs {
		ours, err := isGate(p.ID, d)
		if err != nil {
			return err
		}
		id, ok := p.LinkID()
		if !ours || !ok || p.ID == but {
			continue
		}
		if err := detachLink(id); err != nil {
			return err
		}
	}
	return nil
}

func detachLink(id link.ID) error {
	l, err := link.NewFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain(fmt.Errorf("open link %d: %w", id, err))
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return fmt.Errorf("detach link %d: %w", id, err)
	}
	return nil
}

func (t tcx) forget(present map[int]bool) error {
	entries, err := os.ReadDir(filepath.Join(t.dir, linksDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list pinned links: %w", err)
	}
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "-")
		if i, err := strconv.Atoi(number); err == nil && present[i] {
			continue
		}
		if err := os.Remove(filepath.Join(t.dir, linksDir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("unpin the link of an interface that is gone: %w", err)
		}
	}
	return nil
}
