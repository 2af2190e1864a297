package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/lab/image"
)

// overlay builds this project's programs and returns the tree that is laid over
// the base image.
func (h *host) overlay(ctx context.Context) (*image.Tree, error) {
	h.progress("building lab and lbcluster")
	t := image.NewTree()
	bin, err := h.build(ctx, "lab", "./e2e/cmd/lab")
	if err != nil {
		return nil, err
	}
	t.File(guest.ProgramBin, bin, 0o755)
	t.Link("/init", guest.ProgramBin)
	t.Link("/usr/bin/on", guest.ProgramBin)
	if err := h.addDirector(ctx, t); err != nil {
		return nil, err
	}
	return t, t.Folder(guest.SourceDir, h.repo, notSource)
}

// addDirector adds the product itself. What does not compile is told and left
// out: the tests of a package beside it can run.
func (h *host) addDirector(ctx context.Context, t *image.Tree) error {
	files, err := filepath.Glob(filepath.Join(h.repo, "cmd/lbcluster/*.go"))
	if err != nil || len(files) == 0 {
		h.progress("no cmd/lbcluster yet: the guest goes without it")
		return err
	}
	bin, err := h.build(ctx, "lbcluster", "./cmd/lbcluster")
	if err != nil && ctx.Err() == nil {
		h.progress("cmd/lbcluster does not build, the guest goes without it: %v", err)
		return nil
	}
	t.File(guest.Director, bin, 0o755)
	t.Link("/usr/bin/lbcluster", guest.Director)
	return err
}

// notSource keeps the repository's folder in the guest small: tests there read
// test data and shipped files, not Go code.
func notSource(rel string) bool {
	first, _, inside := strings.Cut(rel, string(filepath.Separator))
	if first == "dist" && inside { // of what make packages built, the guest installs its own
		return !strings.HasSuffix(rel, "_amd64.deb")
	}
	return strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, ".test") || first == ".git" || first == ".lab" || first == "bin"
}

func (h *host) build(ctx context.Context, name, pkg string) (string, error) {
	out := filepath.Join(h.dir, "bin", name)
	_, err := h.goTool(ctx, "build", "-ldflags=-s -w", "-o", out, pkg)
	return out, err
}

// goTool runs go in the repository's root; goToolIn in another folder of it.
func (h *host) goTool(ctx context.Context, args ...string) (string, error) {
	return h.goToolIn(ctx, h.repo, args...)
}

func (h *host) goToolIn(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("go is not in PATH: install Go 1.26 or later")
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// buildTests makes one test binary for each package that has tests.
func (h *host) buildTests(ctx context.Context, patterns, args []string, t *image.Tree) ([]guest.Test, error) {
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}`
	out, err := h.goToolIn(ctx, h.wd, append([]string{"list", "-f", format}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var tests []guest.Test
	for line := range strings.Lines(out) {
		pkg, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		rel, err := filepath.Rel(h.repo, dir)
		if err != nil {
			return nil, err
		}
		h.progress("building the tests of %s", pkg)
		name := strings.ReplaceAll(rel, "/", "_") + ".test"
		bin := filepath.Join(h.dir, "bin", name)
		if _, err := h.goTool(ctx, "test", "-c", "-ldflags=-s -w", "-o", bin, pkg); err != nil {
			return nil, err
		}
		test := guest.Test{Package: pkg, Binary: filepath.Join(guest.TestDir, name), Dir: filepath.Join(guest.SourceDir, rel), Args: args}
		t.File(test.Binary, bin, 0o755)
		t.Dir(test.Dir, 0o755)
		tests = append(tests, test)
	}
	return tests, nil
}
