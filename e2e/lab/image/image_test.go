package image

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoadOrder(t *testing.T) {
	deps := moduleDeps{
		"k/net/ip_vs.ko":    {"k/net/nf_conntrack.ko", "k/net/defrag.ko", "k/lib/crc.ko"},
		"k/net/nf_conn.ko":  {},
		"k/net/ip_vs_rr.ko": {"k/net/ip_vs.ko", "k/net/nf_conntrack.ko", "k/net/defrag.ko", "k/lib/crc.ko"},
		"k/net/ip_vs-wrr.ko.xz": {
			"k/net/ip_vs.ko", "k/net/nf_conntrack.ko", "k/net/defrag.ko", "k/lib/crc.ko"},
		"k/drivers/virtio_blk.ko": {}, "k/drivers/veth.ko": {}, "k/net/bridge.ko": {},
	}
	got, err := deps.loadOrder([]string{"virtio_blk", "ip_vs_*", "ip_vs", "not_there"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"k/drivers/virtio_blk.ko", "k/lib/crc.ko", "k/net/defrag.ko", "k/net/nf_conntrack.ko",
		"k/net/ip_vs.ko", "k/net/ip_vs-wrr.ko.xz", "k/net/ip_vs_rr.ko"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("load order:\n got %v\nwant %v", got, want)
	}
	if _, err := (moduleDeps{}).loadOrder([]string{"ip_vs"}); err == nil {
		t.Error("a kernel without ip_vs must be an error")
	}
}

func TestReadModuleDeps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "modules.dep")
	text := "kernel/a.ko:\nkernel/b-c.ko: kernel/a.ko kernel/d.ko\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readModuleDeps(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got["kernel/a.ko"]) != 0 || strings.Join(got["kernel/b-c.ko"], " ") != "kernel/a.ko kernel/d.ko" {
		t.Errorf("got %v", got)
	}
}

func TestDependsOn(t *testing.T) {
	out := "linux-image-cloud-amd64\n  Depends: linux-base\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Depends: linux-image-9\n"
	if got := dependsOn([]byte(out), "linux-image-"); got != "linux-image-6.1.0-56-cloud-amd64" {
		t.Errorf("got %q", got)
	}
	if got := dependsOn([]byte("x\n  Suggests: linux-image-1\n"), "linux-image-"); got != "" {
		t.Errorf("a suggestion is no dependency, got %q", got)
	}
}

func TestIsDebian(t *testing.T) {
	for text, want := range map[string]bool{
		"NAME=x\nID=debian\n": true, "ID=\"debian\"\n": true,
		"ID=ubuntu\nID_LIKE=debian\n": false, "VERSION_ID=debian\n": false, "": false,
	} {
		if got := isDebian(text); got != want {
			t.Errorf("isDebian(%q) = %v", text, got)
		}
	}
}

// sample has a file of a length that needs padding, a link, and a folder nobody
// named.
func sample(t *testing.T) *Tree {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := NewTree()
	tree.Text("/etc/a", "12345", 0o640)
	tree.File("/usr/bin/prog", src, 0o755)
	tree.Link("/bin/sh", "dash")
	tree.Dir("/tmp", 0o777)
	return tree
}

func TestWriteCPIO(t *testing.T) {
	var b bytes.Buffer
	if err := sample(t).WriteCPIO(&b); err != nil {
		t.Fatal(err)
	}
	if b.Len()%512 != 0 {
		t.Errorf("archives are concatenated, so each must end on a block: %d bytes", b.Len())
	}
	if out := unpack(t, b.Bytes()); out != "" {
		checkSample(t, out)
	}
}

// unpack lets a cpio that is not ours read the archive: busybox's or the real
// one, whichever is there.
func unpack(t *testing.T, archive []byte) string {
	t.Helper()
	cpio, err := exec.LookPath("cpio")
	args := []string{"-idm", "--quiet"}
	if err != nil {
		if cpio, err = exec.LookPath("busybox"); err != nil {
			t.Log("neither cpio nor busybox is here; the guest's boot is the proof")
			return ""
		}
		args = []string{"cpio", "-idm"}
	}
	dir := t.TempDir()
	cmd := exec.Command(cpio, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	return dir
}

func TestWriteDir(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // writing over an older image is fine
		if err := sample(t).WriteDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	checkSample(t, dir)
}

func checkSample(t *testing.T, dir string) {
	t.Helper()
	for name, want := range map[string]string{"etc/a": "12345", "usr/bin/prog": "from a file"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if l, err := os.Readlink(filepath.Join(dir, "bin/sh")); err != nil || l != "dash" {
		t.Errorf("bin/sh: %q, %v", l, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "usr/bin/prog")); err != nil || st.Mode().Perm()&0o111 == 0 {
		t.Errorf("usr/bin/prog is not executable: %v, %v", st, err)
	}
}

// The header is read by the kernel at fixed columns.
func TestCPIOHeader(t *testing.T) {
	tree := NewTree()
	tree.Text("/x", "abc", 0o644)
	var b bytes.Buffer
	if err := tree.WriteCPIO(&b); err != nil {
		t.Fatal(err)
	}
	want := "070701" + "00000001" + "000081a4" + "00000000" + "00000000" + "00000001" + "00000000" + "00000003" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000002" + "00000000" + "x\x00"
	head := make([]byte, len(want))
	if _, err := io.ReadFull(&b, head); err != nil || string(head) != want {
		t.Errorf("header\n got %q\nwant %q", head, want)
	}
}

func TestMissingSourceIsAnError(t *testing.T) {
	tree := NewTree()
	tree.File("/x", filepath.Join(t.TempDir(), "gone"), 0o644)
	if err := tree.WriteCPIO(io.Discard); err == nil {
		t.Error("a file that is not there must not become an empty one")
	}
	if err := tree.WriteDir(t.TempDir()); err == nil {
		t.Error("a file that is not there must not become an empty one")
	}
}

func TestBusyboxNeverShadowsTheRealTools(t *testing.T) {
	for _, a := range busyboxApplets {
		switch a {
		case "ip", "modprobe", "insmod", "ps", "sysctl", "ping", "arping", "nc", "sh", "bash":
			t.Errorf("busybox's %s would win over the real one", a)
		}
	}
}

func TestFolderSkipsAndKeepsLinks(t *testing.T) {
	src := t.TempDir()
	for _, f := range []string{"keep", "drop.go", "sub/in"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(src, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("keep", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	tree := NewTree()
	if err := tree.Folder("/src", src, func(rel string) bool { return strings.HasSuffix(rel, ".go") }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tree.names(), " "); got != "/src /src/keep /src/link /src/sub /src/sub/in" {
		t.Errorf("got %s", got)
	}
}
