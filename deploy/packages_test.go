package deploy

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// run runs a program and returns what it printed.
func run(t *testing.T, dir string, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// build makes the packages of a copy of the sources, at a path of its own.
func build(t *testing.T) (dist string) {
	t.Helper()
	src := t.TempDir()
	files := run(t, "..", nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list := filepath.Join(t.TempDir(), "files")
	if err := os.WriteFile(list, []byte(files), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "..", nil, "sh", "-c", `tar --null -cf - -T "$1" | tar -C "$2" -xf -`, "sh", list, src)
	run(t, src, []string{"VERSION=1.2.3", "SOURCE_DATE_EPOCH=1700000000", "ARCHES=amd64"}, "deploy/packages/build.sh")
	return filepath.Join(src, "dist")
}

// The packages have what they should, and the same sources make the same bytes.
func TestPackages(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is needed: it says which files are sources")
	}
	dist := build(t)
	sums := func(dist string) string {
		b, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	names := []string{"lbcluster-1.2.3-1.x86_64.rpm", "lbcluster-1.2.3-linux-amd64.tar.gz", "lbcluster_1.2.3-1_amd64.deb"}
	for _, name := range names {
		if !strings.Contains(sums(dist), " "+name+"\n") {
			t.Errorf("%s is missing:\n%s", name, sums(dist))
		}
	}
	if again := sums(build(t)); again != sums(dist) {
		t.Errorf("built again, somewhere else:\n%sfirst:\n%s", again, sums(dist))
	}

	root := t.TempDir()
	deb := filepath.Join(dist, names[2])
	if _, err := exec.LookPath("dpkg-deb"); err == nil {
		run(t, ".", nil, "dpkg-deb", "-x", deb, root)
		if conf := run(t, ".", nil, "dpkg-deb", "-I", deb, "conffiles"); conf != "/etc/lbcluster/lbcluster.yaml\n" {
			t.Errorf("configuration files: %q", conf)
		}
		wantInstalled(t, root)
	}
	unpacked := t.TempDir()
	run(t, ".", nil, "tar", "-C", unpacked, "-xzf", filepath.Join(dist, names[1]))
	wantStatic(t, filepath.Join(unpacked, "lbcluster-1.2.3", "lbcluster"))
	// What rpm itself thinks of its package is not asked: see docs/install.md.
	if b, err := os.ReadFile(filepath.Join(dist, names[0])); err != nil || !bytes.HasPrefix(b, []byte{0xed, 0xab, 0xee, 0xdb}) {
		t.Errorf("the rpm does not begin like one: %v", err)
	}
}

// wantInstalled looks at the files as the package puts them.
func wantInstalled(t *testing.T, root string) {
	t.Helper()
	for path, want := range map[string]string{
		"usr/lib/systemd/system/lbcluster.service":             Unit,
		"usr/lib/systemd/system/lbcluster-realserver.service":  RealServerUnit,
		"etc/lbcluster/lbcluster.yaml":                         NodeConfig,
		"usr/share/doc/lbcluster/keepalived-pair.conf":         Sample,
		"usr/share/bash-completion/completions/lbcluster":      "",
		"usr/share/zsh/vendor-completions/_lbcluster":          "",
		"usr/share/man/man1/lbcluster.1.gz":                    "",
		"usr/share/man/man1/lbcluster-realserver-install.1.gz": "",
		"usr/share/doc/lbcluster/docs/realserver.md":           "",
	} {
		b, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || len(b) == 0 || want != "" && string(b) != want {
			t.Errorf("%s is not what it should be: %v", path, err)
		}
	}
	page := run(t, root, nil, "gzip", "-dc", "usr/share/man/man1/lbcluster-realserver-install.1.gz")
	if !strings.Contains(page, `.TH "LBCLUSTER" "1" "Nov 2023" "lbcluster"`) || !strings.Contains(page, "token-file") {
		t.Errorf("the manual page:\n%.500s", page)
	}
	program := filepath.Join(root, "usr/sbin/lbcluster")
	wantStatic(t, program)
	if out := run(t, ".", nil, program, "version", "--socket", "/nowhere"); !strings.HasPrefix(out, "lbcluster 1.2.3\n") {
		t.Errorf("the program says %q", out)
	}
	if help := run(t, ".", nil, program, "help"); strings.Contains(help, "\n  docs") {
		t.Error("the program has the verb that only the build needs")
	}
}

// wantStatic: no other file is needed to run it, and nothing of this machine is in it.
func wantStatic(t *testing.T, program string) {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("%s is not static", program)
	}
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(program); err != nil || bytes.Contains(b, []byte(here+"/cmd")) {
		t.Errorf("%s has a path of this machine in it, or cannot be read: %v", program, err)
	}
}
