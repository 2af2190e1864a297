package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Packages are the Debian packages the lab is made of. The kernel's own package
// is found through kernelMeta, since its name carries the version.
var Packages = []string{
	"qemu-system-x86", "kmod",
	"bash", "dash", "busybox-static", "ncurses-base",
	"iproute2", "ipvsadm", "keepalived", "tcpdump", "curl", "nginx-light",
	"nftables", "procps", "bpftool", "dmsetup", "e2fsprogs", "strace", "iputils-ping", "iputils-arping",
	"netcat-openbsd", "msmtp-mta", "dpkg",
}

const kernelMeta = "linux-image-cloud-amd64"

// aptConf keeps apt off the machine's own state. The hooks are cleared because
// they would act on the machine (rebuild its caches, clean its archives).
const aptConf = `Dir::State "%[1]s";
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::State::extended_states "%[1]s/extended_states";
Dir::Cache "%[1]s";
Dir::Cache::archives "%[1]s/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "%[1]s";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
pkgCacheGen::Essential "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
`

// Unpacked is a tree of unpacked packages.
type Unpacked struct {
	Root   string // the folder they were unpacked into
	Kernel string // the kernel's version, as uname -r will print it
	Key    string // changes when any package changes
}

// Fetch downloads and unpacks the packages into dir, unless that was done
// before for the same list of packages. progress gets a line for each step.
func Fetch(ctx context.Context, dir string, progress func(format string, args ...any)) (*Unpacked, error) {
	u := &Unpacked{Root: filepath.Join(dir, "root")}
	stamp := filepath.Join(dir, "root.stamp")
	want := listKey()
	if b, err := os.ReadFile(stamp); err == nil {
		if f := strings.Fields(string(b)); len(f) == 3 && f[0] == want {
			u.Kernel, u.Key = f[1], f[2]
			return u, nil
		}
	}
	if err := checkHost(); err != nil {
		return nil, err
	}
	a := &apt{dir: filepath.Join(dir, "apt")}
	if err := a.prepare(); err != nil {
		return nil, err
	}
	progress("fetching package lists")
	updateErr := a.run(ctx, "update")
	kernel, err := a.kernelPackage(ctx)
	if err != nil {
		return nil, errors.Join(err, updateErr)
	}
	progress("downloading %d packages with all they depend on (about 100 MB)", len(Packages)+1)
	args := append([]string{"-y", "--download-only", "install", kernel}, Packages...)
	if err := a.run(ctx, args...); err != nil {
		return nil, errors.Join(err, updateErr)
	}
	if u.Key, err = a.unpack(ctx, u.Root, progress); err != nil {
		return nil, err
	}
	u.Kernel = strings.TrimPrefix(kernel, "linux-image-")
	progress("indexing the modules of Linux %s", u.Kernel)
	if out, err := u.Command(ctx, "kmod", "depmod", "-b", u.Root, u.Kernel).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("depmod: %w: %s", err, tail(out))
	}
	line := fmt.Sprintf("%s %s %s\n", want, u.Kernel, u.Key)
	return u, os.WriteFile(stamp, []byte(line), 0o644)
}

func listKey() string {
	sum := sha256.Sum256([]byte(strings.Join(Packages, " ") + aptConf))
	return hex.EncodeToString(sum[:8])
}

// checkHost says what is missing in words, before apt says it in its own.
func checkHost() error {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("the lab is made from Debian packages and needs %s: run it on Debian 12 or later, amd64", tool)
		}
	}
	b, err := os.ReadFile("/etc/os-release")
	if err != nil || !isDebian(string(b)) {
		return errors.New("the lab is made from Debian's own packages: run it on Debian 12 or later, amd64 (see /etc/os-release)")
	}
	return nil
}

func isDebian(osRelease string) bool {
	for line := range strings.Lines(osRelease) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		if k == "ID" {
			return strings.Trim(v, `"'`) == "debian"
		}
	}
	return false
}

type apt struct{ dir string }

func (a *apt) conf() string { return filepath.Join(a.dir, "apt.conf") }

func (a *apt) prepare() error {
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return fmt.Errorf("lab folder: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644); err != nil {
		return fmt.Errorf("lab folder: %w", err)
	}
	return os.WriteFile(a.conf(), fmt.Appendf(nil, aptConf, a.dir), 0o644)
}

func (a *apt) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-c", a.conf(), "-q"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s (is the network there, and a Debian mirror in the machine's apt sources?): %w\n%s", args[0], err, tail(out))
	}
	return nil
}

// kernelPackage resolves the meta package to the image package of this day.
func (a *apt) kernelPackage(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "-c", a.conf(), "depends", kernelMeta).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends %s: %w", kernelMeta, err)
	}
	if p := dependsOn(out, "linux-image-"); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("package %s not found in the machine's apt sources", kernelMeta)
}

// dependsOn finds the first dependency with the prefix in what apt-cache
// depends printed.
func dependsOn(out []byte, prefix string) string {
	for line := range bytes.Lines(out) {
		name, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("Depends: "))
		if ok && bytes.HasPrefix(name, []byte(prefix)) {
			return string(name)
		}
	}
	return ""
}

// unpack replaces root by what the downloaded archives hold, and returns a key
// made of their names, which carry the versions.
func (a *apt) unpack(ctx context.Context, root string, progress func(string, ...any)) (string, error) {
	debs, err := filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
	if err != nil || len(debs) == 0 {
		return "", fmt.Errorf("no packages were downloaded to %s", a.dir)
	}
	progress("unpacking %d packages", len(debs))
	if err := os.RemoveAll(root); err != nil {
		return "", fmt.Errorf("old packages: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("lab folder: %w", err)
	}
	key := sha256.New()
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			return "", fmt.Errorf("unpacking %s: %w: %s", filepath.Base(deb), err, tail(out))
		}
		fmt.Fprintln(key, filepath.Base(deb))
	}
	return hex.EncodeToString(key.Sum(nil)[:8]), nil
}

// tail keeps the last lines of a tool's output, where the reason is.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) > 12 {
		lines = lines[len(lines)-12:]
	}
	return strings.Join(lines, "\n")
}
