package guest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RootEnv names the image's folder to process 1 of a native lab.
const RootEnv = "LBCLUSTER_LAB_ROOT"

// IsInit says whether this process is a guest's process 1.
func IsInit() bool {
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(JobFile)
	return err == nil || os.Getenv(RootEnv) != ""
}

// enterRoot makes the image's folder the root of this mount namespace. A chroot
// would not do: entering a host's mount namespace leads back to the real root.
func enterRoot(root string) error {
	if root == "" {
		return nil
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("image folder: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("image folder: %w", err)
	}
	// The old root ends up over the new one, and is taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("image folder as root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("the machine's own root: %w", err)
	}
	return unix.Chdir("/")
}

// Init is process 1. It does not return in a virtual machine; natively it
// returns the exit status.
func Init() int {
	if err := enterRoot(os.Getenv(RootEnv)); err != nil {
		fmt.Fprintln(os.Stderr, "lab guest:", err)
		return 1
	}
	job, err := readJob()
	status := 1
	if err == nil {
		err = setUp(job)
	}
	if err == nil {
		status, err = runJob(job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab guest:", err)
	}
	exit := strconv.Itoa(status) + "\n"
	if err := os.WriteFile(Results+"/"+ExitFile, []byte(exit), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "lab guest:", err)
	}
	if job != nil && job.Native {
		return status
	}
	if err := writeResults("/dev/vda"); err != nil {
		fmt.Fprintln(os.Stderr, "lab guest: results:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	return status
}

func setUp(job *Job) error {
	if err := mountAll(job.Native); err != nil {
		return err
	}
	os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/root")
	os.Setenv("LBCLUSTER_LAB", "1")
	os.Setenv("LBCLUSTER_LAB_RESULTS", Results)
	os.Setenv("LBCLUSTER_LAB_BIN", ProgramBin)
	for _, kv := range job.Env {
		k, v, _ := strings.Cut(kv, "=")
		os.Setenv(k, v)
	}
	if job.Native {
		return nil
	}
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("3"), 0); err != nil {
		return fmt.Errorf("kernel log level: %w", err)
	}
	return loadModules()
}

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func mountAll(native bool) error {
	mounts := []mount{
		{"proc", "/proc", "proc", 0, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", 0, "mode=1777"},
		{"bpf", "/sys/fs/bpf", "bpf", 0, ""},
	}
	if !native {
		mounts = append(mounts, mount{"devtmpfs", "/dev", "devtmpfs", 0, ""},
			mount{"debugfs", "/sys/kernel/debug", "debugfs", 0, ""},
			mount{"tracefs", "/sys/kernel/tracing", "tracefs", 0, ""})
	}
	mounts = append(mounts, mount{"devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666,newinstance"},
		mount{"tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777"})
	for _, m := range mounts {
		_ = os.MkdirAll(m.target, 0o755)
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		_ = os.Symlink(target, link)
	}
	return nil
}

// loadModules inserts the modules in the order that the image's builder
// resolved; running modprobe for each would cost 45 ms a piece under emulation.
func loadModules() error {
	b, err := os.ReadFile("/etc/lab/modules")
	if err != nil {
		return fmt.Errorf("kernel modules: %w", err)
	}
	for _, file := range strings.Fields(string(b)) {
		if err := loadModule(file); err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("kernel module %s: %w", file, err)
		}
	}
	return nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if !strings.HasSuffix(file, ".ko") { // .ko.xz, .ko.zst
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	return unix.FinitModule(int(f.Fd()), "", flags)
}
