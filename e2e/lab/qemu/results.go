package qemu

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ErrNoResults says that the guest ended without writing its results: it
// crashed, ran out of memory, or never got as far.
var ErrNoResults = errors.New("the guest wrote no results (did it crash? see its console above)")

// unpackResults reads the tar archive at the start of the disk into a folder.
func unpackResults(disk, to string) error {
	f, err := os.Open(disk)
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	defer f.Close()
	root, err := openRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	n := 0
	for r := tar.NewReader(f); ; n++ {
		h, err := r.Next()
		if err == io.EOF && n > 0 {
			return nil
		}
		if err == io.EOF {
			return ErrNoResults
		}
		if err != nil {
			return fmt.Errorf("results after %d files: %w", n, err)
		}
		if err := unpackOne(root, h, r); err != nil {
			return fmt.Errorf("results: %w", err)
		}
	}
}

func openRoot(dir string) (*os.Root, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	return os.OpenRoot(dir)
}

func unpackOne(root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.Clean(h.Name)
	if name == "." || h.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o755)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	w, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
