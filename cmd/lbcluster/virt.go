package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// vmGuard is the guard of a cluster founded on a virtual machine: longer than
// the pause of an ordinary live migration or snapshot.
const vmGuard = 2 * time.Second

// virtual is what this machine runs on.
type virtual struct {
	VM        string // the hypervisor; empty: none is seen
	Container string // the container manager; empty: none is seen
	Seen      string // what gave it away
}

// detectVirtual looks at the machine that lbcluster runs on.
func detectVirtual() virtual { return readVirtual(os.DirFS("/")) }

// readVirtual finds what systemd-detect-virt would, from files alone: the
// processor's hypervisor bit (cpuid 1, ecx bit 31) where there is one decides,
// since bare-metal machines of cloud providers have a cloud's DMI strings; DMI,
// the device tree and /sys/hypervisor name it, and decide elsewhere.
func readVirtual(root fs.FS) virtual {
	v := virtual{Container: containerIn(root)}
	name, where := hypervisorName(root)
	bit, known := hypervisorBit(root)
	switch {
	case isDom0(root):
	case known && bit:
		v.VM, v.Seen = or(name, "an unknown hypervisor"), or(where, "the processor's hypervisor bit")
	case known:
	case name != "":
		v.VM, v.Seen = name, where
	}
	return v
}

// hypervisorBit reads the flag that a hypervisor sets; known is false on
// processors without such a flag.
func hypervisorBit(root fs.FS) (set, known bool) {
	info := content(root, "proc/cpuinfo")
	for line := range strings.Lines(info) {
		key, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		known = true
		for _, f := range strings.Fields(flags) {
			if f == "hypervisor" {
				return true, true
			}
		}
	}
	return false, known
}

// dmiNames are what the DMI strings of virtual machines begin with.
var dmiNames = []struct{ start, name string }{
	{"KVM", "KVM"}, {"OpenStack", "KVM"}, {"KubeVirt", "KVM"}, {"Amazon EC2", "Amazon EC2"}, {"QEMU", "QEMU"},
	{"VMware", "VMware"}, {"VMW", "VMware"}, {"innotek GmbH", "VirtualBox"}, {"VirtualBox", "VirtualBox"},
	{"Xen", "Xen"}, {"Bochs", "Bochs"}, {"Parallels", "Parallels"}, {"BHYVE", "bhyve"},
	{"Hyper-V", "Hyper-V"}, {"Virtual Machine", "Hyper-V"}, {"Apple Virtualization", "Apple Virtualization"},
	{"Google Compute Engine", "Google Compute Engine"}, {"Google", "Google Compute Engine"},
}

// hypervisorName is the hypervisor's name, and the file that says so.
func hypervisorName(root fs.FS) (name, where string) {
	for _, file := range []string{"product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"} {
		text := strings.TrimSpace(content(root, "sys/class/dmi/id/"+file))
		for _, d := range dmiNames {
			if strings.HasPrefix(text, d.start) {
				return d.name, fmt.Sprintf("/sys/class/dmi/id/%s says %q", file, text)
			}
		}
	}
	if text := strings.TrimSpace(content(root, "sys/hypervisor/type")); text != "" {
		return strings.ToUpper(text[:1]) + text[1:], "/sys/hypervisor/type"
	}
	if text := strings.Trim(content(root, "proc/device-tree/hypervisor/compatible"), "\x00\n"); text != "" {
		return text, "/proc/device-tree/hypervisor"
	}
	if strings.Contains(content(root, "proc/sysinfo"), "VM00 Control Program") {
		return "a mainframe's hypervisor", "/proc/sysinfo"
	}
	return "", ""
}

// isDom0 says that this is the machine that runs the others.
func isDom0(root fs.FS) bool {
	return strings.Contains(content(root, "proc/xen/capabilities"), "control_d")
}

// containerIn names the container manager.
func containerIn(root fs.FS) string {
	if text := strings.TrimSpace(content(root, "run/systemd/container")); text != "" {
		return text
	}
	for _, word := range bytes.Split([]byte(content(root, "proc/1/environ")), []byte{0}) {
		if name, ok := bytes.CutPrefix(word, []byte("container=")); ok && len(name) > 0 {
			return string(name)
		}
	}
	for file, name := range map[string]string{".dockerenv": "docker", "run/.containerenv": "podman"} {
		if _, err := fs.Stat(root, file); err == nil {
			return name
		}
	}
	return ""
}

// content is a file's text; empty if it cannot be read.
func content(root fs.FS, name string) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// guardFor chooses the guard of a cluster founded on this machine, unless the
// operator gave one, and says what was found, set and why.
func guardFor(v virtual, given *time.Duration) (time.Duration, string) {
	place := "This machine is no virtual machine, as far as can be seen"
	guard, why := time.Duration(0), "nothing pauses it unseen"
	if v.VM != "" {
		place = fmt.Sprintf("This machine is a virtual machine (%s: %s)", v.VM, v.Seen)
		guard = vmGuard
		why = fmt.Sprintf("a pause of up to %v by the hypervisor makes no second owner, and a failover takes %[1]v longer", vmGuard)
	}
	if v.Container != "" {
		place += fmt.Sprintf(", in a container (%s)", v.Container)
	}
	if given == nil {
		return guard, fmt.Sprintf("%s: guard %v, since %s.", place, guard, why)
	}
	text := fmt.Sprintf("%s: guard %v, as you said.", place, *given)
	if v.VM != "" && *given < vmGuard {
		text += fmt.Sprintf(" A pause longer than that can make two owners for its length; %v is usual.", vmGuard)
	}
	return *given, text
}
