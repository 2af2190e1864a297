package image

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binDirs and libDirs are where Debian's packages put programs and libraries,
// below the root of the unpacked tree.
var (
	binDirs = []string{"bin", "sbin", "usr/bin", "usr/sbin"}
	libDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib"}
)

// Program finds a program of the unpacked packages; the path is relative to
// the root.
func (u *Unpacked) Program(name string) (string, error) {
	return u.find(binDirs, name)
}

func (u *Unpacked) find(dirs []string, name string) (string, error) {
	for _, d := range dirs {
		rel := filepath.Join(d, name)
		if st, err := os.Stat(filepath.Join(u.Root, rel)); err == nil && !st.IsDir() {
			return rel, nil
		}
	}
	return "", fmt.Errorf("%s is in none of the unpacked packages", name)
}

// Command is exec.Command for an unpacked program: it runs with the libraries
// it was built for, whatever the machine has. argv0 matters to kmod.
func (u *Unpacked) Command(ctx context.Context, program, argv0 string, args ...string) *exec.Cmd {
	rel, err := u.Program(program)
	if err != nil {
		rel = program // the error then names the file
	}
	argv := []string{"--library-path", u.libPath(), "--argv0", argv0, filepath.Join(u.Root, rel)}
	return exec.CommandContext(ctx, filepath.Join(u.Root, "lib64/ld-linux-x86-64.so.2"), append(argv, args...)...)
}

func (u *Unpacked) libPath() string {
	var dirs []string
	for _, d := range libDirs {
		dirs = append(dirs, filepath.Join(u.Root, d))
	}
	return strings.Join(dirs, ":")
}

// libraries returns the shared libraries that the ELF file rel and those
// libraries need, as paths relative to the root; seen carries what is known.
func (u *Unpacked) libraries(rel string, seen map[string]bool) error {
	f, err := elf.Open(filepath.Join(u.Root, rel))
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", rel, err)
	}
	needed, err := f.ImportedLibraries()
	f.Close()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", rel, err)
	}
	for _, name := range needed {
		lib, err := u.find(libDirs, name)
		if err != nil {
			return fmt.Errorf("%s needs %w", rel, err)
		}
		if seen[lib] {
			continue
		}
		seen[lib] = true
		if err := u.libraries(lib, seen); err != nil {
			return err
		}
	}
	return nil
}
