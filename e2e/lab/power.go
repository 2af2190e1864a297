package lab

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// PowerOff takes the power from the host: its cable is dead and all its
// processes, probers and servers included, are gone at once.
func (d *Director) PowerOff() {
	d.host.lab.t.Helper()
	d.host.CutLink()
	_ = d.SignalAll(syscall.SIGKILL)
	_ = d.Wait()
}

// Boot gives the host its power back with what a machine has after a boot: no
// VIP, no IPVS table, no gate, an empty /run; the disk is as it was. The boot id
// is the guest's and stays: a member must take that for a restart without its
// memory. The daemon has to be started by the caller.
func (h *Host) Boot(vips ...string) {
	h.lab.t.Helper()
	for _, vip := range vips {
		for _, dev := range []string{Interface, "lo"} {
			_ = h.do(func() error { _, err := command("ip", "addr", "del", vip+"/32", "dev", dev); return err })
		}
	}
	err := h.do(func() error {
		_, err := command("ipvsadm", "-C")
		_, _ = command("tc", "qdisc", "del", "dev", Interface, "clsact")
		return errors.Join(err, empty("/run/lbcluster"), os.RemoveAll("/sys/fs/bpf/lbcluster"))
	})
	if err != nil {
		h.lab.t.Fatalf("lab: booting %s: %v", h.Name, err)
	}
	h.RestoreLink()
}

func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
