package image

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

func sortStrings(s []string) { slices.Sort(s) }

// entry is one file, folder or symbolic link of a Tree.
type entry struct {
	mode fs.FileMode
	src  string // where a file's content is, unless text
	text []byte // a file's content, or a link's target
}

// Tree is the set of files of an image, by absolute path. Parent folders come
// by themselves. The zero value is not usable; see NewTree.
type Tree struct{ entries map[string]entry }

// NewTree returns an empty tree.
func NewTree() *Tree { return &Tree{entries: map[string]entry{}} }

func (t *Tree) put(name string, e entry) {
	name = path.Clean(name)
	for dir := path.Dir(name); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if _, ok := t.entries[dir]; !ok {
			t.entries[dir] = entry{mode: fs.ModeDir | 0o755}
		}
	}
	t.entries[name] = e
}

// Dir adds an empty folder.
func (t *Tree) Dir(name string, perm fs.FileMode) { t.put(name, entry{mode: fs.ModeDir | perm}) }

// File adds the file src of this machine under name. Links are followed.
func (t *Tree) File(name, src string, perm fs.FileMode) { t.put(name, entry{mode: perm, src: src}) }

// Text adds a file with the given content.
func (t *Tree) Text(name, content string, perm fs.FileMode) {
	t.put(name, entry{mode: perm, text: []byte(content)})
}

// Link adds a symbolic link.
func (t *Tree) Link(name, target string) {
	t.put(name, entry{mode: fs.ModeSymlink | 0o777, text: []byte(target)})
}

// Folder adds all files below the folder src under name; skip (may be nil) says
// which paths, relative to src, to leave out.
func (t *Tree) Folder(name, src string, skip func(rel string) bool) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		if rel != "." && skip != nil && skip(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		to := path.Join(name, rel)
		switch {
		case d.IsDir():
			t.Dir(to, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			t.Link(to, target)
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			t.File(to, p, info.Mode().Perm())
		}
		return nil
	})
}

// names returns the paths sorted, so that a folder comes before what is in it.
func (t *Tree) names() []string {
	names := make([]string, 0, len(t.entries))
	for n := range t.entries {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (e entry) open() (io.ReadCloser, int64, error) {
	if e.src == "" {
		return io.NopCloser(bytes.NewReader(e.text)), int64(len(e.text)), nil
	}
	f, err := os.Open(e.src)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// WriteDir writes the tree into a folder of this machine.
func (t *Tree) WriteDir(root string) error {
	for _, name := range t.names() {
		if err := t.entries[name].writeFile(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("image folder: %w", err)
		}
	}
	return nil
}

func (e entry) writeFile(to string) error {
	switch {
	case e.mode.IsDir():
		return os.MkdirAll(to, e.mode.Perm())
	case e.mode&fs.ModeSymlink != 0:
		os.Remove(to)
		return os.Symlink(string(e.text), to)
	}
	r, _, err := e.open()
	if err != nil {
		return err
	}
	defer r.Close()
	os.Remove(to)
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, e.mode.Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
