package qemu

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// disk writes what a guest would: an archive at the start of a larger, empty
// image.
func disk(t *testing.T, files map[string]string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(files) > 0 {
		w := tar.NewWriter(f)
		for n, text := range files {
			if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(text))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestUnpackResults(t *testing.T) {
	to := filepath.Join(t.TempDir(), "results")
	if err := unpackResults(disk(t, map[string]string{"exit": "3\n", "T/x/dir1.log": "line"}), to); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]string{"exit": "3\n", "T/x/dir1.log": "line"} {
		if b, err := os.ReadFile(filepath.Join(to, n)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", n, b, err)
		}
	}
}

func TestNoResults(t *testing.T) {
	if err := unpackResults(disk(t, nil), t.TempDir()); !errors.Is(err, ErrNoResults) {
		t.Errorf("an empty disk: %v, want ErrNoResults", err)
	}
}

func TestResultsStayInTheirFolder(t *testing.T) {
	dir := t.TempDir()
	err := unpackResults(disk(t, map[string]string{"../escaped": "x"}), filepath.Join(dir, "results"))
	if err == nil {
		t.Error("a name that leads outside must be an error")
	}
	if _, err := os.Stat(filepath.Join(dir, "escaped")); err == nil {
		t.Error("a file was written outside the results folder")
	}
}
