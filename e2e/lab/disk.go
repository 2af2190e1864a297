package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// DataDir is where a host's daemon keeps what must survive a restart.
const DataDir = "/var/lib/lbcluster"

// Disk is a block device of the host's own under its data folder: an ext4 file
// system on device mapper on a file.
type Disk struct {
	host *Host
	name string
	loop string
}

// OwnDisk gives the host's data folder a disk of its own; it must not be in use
// yet. The disk goes with the lab.
func (h *Host) OwnDisk(megabytes int) *Disk {
	h.lab.t.Helper()
	d := &Disk{host: h, name: "lab-" + h.Name}
	file := filepath.Join("/run/lab", h.Name+".disk")
	if err := d.make(file, megabytes); err != nil {
		h.lab.t.Fatalf("lab: disk of %s: %v", h.Name, err)
	}
	h.lab.mu.Lock()
	h.lab.disks = append(h.lab.disks, d)
	h.lab.mu.Unlock()
	return d
}

func (d *Disk) make(file string, megabytes int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(int64(megabytes)<<20), f.Close())
	if err != nil {
		return err
	}
	if d.loop, err = command("losetup", "-f"); err != nil {
		return err
	}
	if _, err := command("losetup", d.loop, file); err != nil {
		return err
	}
	sectors := megabytes << 11
	if _, err := command("dmsetup", "create", d.name, "--noudevsync", "--noudevrules", "--table", fmt.Sprintf("0 %d linear %s 0", sectors, d.loop)); err != nil {
		return err
	}
	if _, err := command("dmsetup", "mknodes"); err != nil {
		return err
	}
	// Small and without lazy work: nothing is written but what the daemon writes.
	if _, err := command("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.dev()); err != nil {
		return err
	}
	return d.host.do(func() error {
		_, err := command("mount", "-t", "ext4", d.dev(), DataDir)
		return err
	})
}

func (d *Disk) dev() string { return "/dev/mapper/" + d.name }

// Stall makes every read and write wait, for good: until Resume.
func (d *Disk) Stall() {
	d.host.lab.t.Helper()
	if _, err := command("dmsetup", "suspend", "--nolockfs", "--noflush", "--noudevsync", d.name); err != nil {
		d.host.lab.t.Fatalf("lab: stalling the disk of %s: %v", d.host.Name, err)
	}
}

// Resume undoes Stall.
func (d *Disk) Resume() {
	d.host.lab.t.Helper()
	if _, err := command("dmsetup", "resume", "--noudevsync", d.name); err != nil {
		d.host.lab.t.Errorf("lab: resuming the disk of %s: %v", d.host.Name, err)
	}
}

// DropCaches makes the kernel forget every clean page that no process has
// locked: the next touch reads the disk.
func (l *Lab) DropCaches() {
	l.t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		l.t.Fatalf("lab: dropping caches: %v", err)
	}
}

// close removes the disk; its file system goes with the host's mounts.
func (d *Disk) close() error {
	_, err1 := command("dmsetup", "remove", "--retry", "--noudevsync", d.name)
	_, err2 := command("losetup", "-d", d.loop)
	return errors.Join(err1, err2, os.Remove(filepath.Join("/run/lab", d.host.Name+".disk")))
}

// command runs a program of the guest, outside of all hosts.
func command(argv ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), argv[0], argv[1:]...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text)
	}
	return text, nil
}
