package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tool finds a program that a test on this machine needs: in PATH, or else in its
// Debian package, which is downloaded and unpacked below dir once and not installed.
// With deps the packages that it depends on are unpacked as well. The command's
// environment lets it find their libraries.
//
// Unlike [Fetch] it takes the machine's own libc: run it on Debian 12 or later.
func Tool(ctx context.Context, dir, pkg, program string, deps bool) (func(args ...string) *exec.Cmd, error) {
	if path, err := exec.LookPath(program); err == nil {
		return func(args ...string) *exec.Cmd { return exec.CommandContext(ctx, path, args...) }, nil
	}
	dir, err := filepath.Abs(filepath.Join(dir, "tools", pkg))
	if err != nil {
		return nil, err
	}
	u := &Unpacked{Root: filepath.Join(dir, "root")}
	// A program below /usr/lib comes first: what is in /usr/bin then is a script that
	// names it by where it would be installed.
	dirs := append([]string{filepath.Join("usr/lib", pkg)}, binDirs...)
	rel, err := u.find(dirs, program)
	if err != nil {
		if err := fetchTool(ctx, dir, u.Root, pkg, deps); err != nil {
			return nil, fmt.Errorf("%s is not installed, and its package cannot be had: %w", program, err)
		}
		if rel, err = u.find(dirs, program); err != nil {
			return nil, err
		}
	}
	return func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(u.Root, rel), args...)
		if deps {
			cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+u.libPath())
		}
		return cmd
	}, nil
}

func fetchTool(ctx context.Context, dir, root, pkg string, deps bool) error {
	if err := checkHost(); err != nil {
		return err
	}
	a := &apt{dir: filepath.Join(dir, "apt")}
	if err := a.prepare(); err != nil {
		return err
	}
	updateErr := a.run(ctx, "update")
	get := a.install
	if !deps {
		get = a.download
	}
	if err := get(ctx, pkg); err != nil {
		return errors.Join(err, updateErr)
	}
	next := root + ".new"
	if _, err := a.unpack(ctx, next, func(string, ...any) {}); err != nil {
		return err
	}
	if err := os.Rename(next, root); err != nil {
		return err
	}
	return os.RemoveAll(a.dir)
}

// install downloads a package with all that it depends on into the archives.
func (a *apt) install(ctx context.Context, pkg string) error {
	return a.run(ctx, "-y", "--download-only", "install", pkg)
}

// download downloads a package alone into the archives.
func (a *apt) download(ctx context.Context, pkg string) error {
	cmd := exec.CommandContext(ctx, "apt-get", "-c", a.conf(), "-q", "download", pkg)
	cmd.Dir = filepath.Join(a.dir, "archives")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w\n%s", pkg, err, strings.TrimSpace(string(out)))
	}
	return nil
}
