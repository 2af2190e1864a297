package image

import (
	"fmt"
	"path/filepath"
)

// tools are the programs of the guest. Busybox gives the small ones; its own
// ip and modprobe are never linked, because they would win over the real ones.
var tools = []string{
	"bash", "dash", "busybox", "kmod",
	"ip", "bridge", "tc", "ss", "ipvsadm", "keepalived", "tcpdump", "curl", "nginx",
	"nft", "ps", "pgrep", "sysctl", "bpftool", "dmsetup", "mke2fs", "strace", "ping", "arping", "nc.openbsd", "msmtpd",
	"dpkg", "dpkg-deb", "dpkg-query", "dpkg-split", "tar",
}

var busyboxApplets = []string{
	"awk", "basename", "blockdev", "cat", "chmod", "chown", "clear", "cmp", "cp", "cut", "date", "dd", "df",
	"diff", "dirname", "dmesg", "du", "echo", "env", "expr", "false", "find", "free", "grep", "head",
	"hexdump", "hostname", "id", "kill", "less", "ln", "losetup", "ls", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp",
	"more", "mount", "mv", "nohup", "nsenter", "od", "printf", "pwd", "readlink", "reset", "rm", "rmdir",
	"sed", "seq", "setsid", "sleep", "sort", "stat", "stty", "sync", "tail", "tee", "test", "time", "timeout",
	"top", "touch", "tr", "true", "tty", "umount", "uname", "uniq", "unshare", "uptime", "usleep", "vi", "watch",
	"wc", "which", "xargs", "yes",
}

// baseVersion is part of the base image's cache key: raise it when what Base
// makes changes although the packages do not.
const baseVersion = "9"

// BaseKey names the base image that Base would make.
func (u *Unpacked) BaseKey() string { return u.Key + "-" + baseVersion }

// Base returns the tree that every guest starts from: tools, their libraries,
// kernel modules and the few files of /etc that programs ask for.
func (u *Unpacked) Base() (*Tree, error) {
	t := NewTree()
	libs := map[string]bool{}
	for _, tool := range tools {
		rel, err := u.Program(tool)
		if err != nil {
			return nil, err
		}
		t.File("/"+rel, filepath.Join(u.Root, rel), 0o755)
		if tool == "busybox" { // static
			continue
		}
		if err := u.libraries(rel, libs); err != nil {
			return nil, err
		}
	}
	for lib := range libs {
		t.File("/"+lib, filepath.Join(u.Root, lib), 0o755)
	}
	t.File("/lib64/ld-linux-x86-64.so.2", filepath.Join(u.Root, "lib64/ld-linux-x86-64.so.2"), 0o755)
	addLinks(t)
	addEtc(t)
	if err := t.Folder("/usr/share/terminfo", filepath.Join(u.Root, "usr/share/terminfo"), nil); err != nil {
		if err := t.Folder("/lib/terminfo", filepath.Join(u.Root, "lib/terminfo"), nil); err != nil {
			return nil, fmt.Errorf("terminfo: %w", err)
		}
	}
	return t, u.addModules(t)
}

func addLinks(t *Tree) {
	for _, a := range busyboxApplets {
		t.Link("/usr/bin/"+a, "/bin/busybox")
	}
	t.Link("/bin/sh", "dash")
	t.Link("/usr/bin/nc", "/bin/nc.openbsd")
	for _, a := range []string{"modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"} {
		t.Link("/sbin/"+a, "/bin/kmod")
	}
}

func addEtc(t *Tree) {
	t.Text("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", 0o644)
	t.Text("/etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
	t.Text("/etc/hosts", "127.0.0.1 localhost\n", 0o644)
	t.Text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n", 0o644)
	t.Text("/etc/protocols", "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nvrrp 112 VRRP\n", 0o644)
	t.Text("/etc/services", "http 80/tcp\nhttps 443/tcp\n", 0o644)
	for _, d := range []string{"/dev", "/proc", "/sys", "/run", "/root", "/var/lib/lbcluster", "/var/log", "/var/run", "/usr/share/keepalived", "/results"} {
		t.Dir(d, 0o755)
	}
	t.Dir("/tmp", 0o1777)
}
