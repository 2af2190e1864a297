package main

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// machineOf is a root file system with these files.
func machineOf(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

const (
	cpuMetal = "processor\t: 0\nflags\t\t: fpu vme de pse\n"
	cpuVM    = "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\n"
	cpuARM   = "processor\t: 0\nFeatures\t: fp asimd\n"
)

func TestReadVirtual(t *testing.T) {
	for name, c := range map[string]struct {
		files         map[string]string
		vm, container string
	}{
		"metal":            {map[string]string{"proc/cpuinfo": cpuMetal, "sys/class/dmi/id/sys_vendor": "Dell Inc.\n"}, "", ""},
		"nothing readable": {nil, "", ""},
		"kvm":              {map[string]string{"proc/cpuinfo": cpuVM, "sys/class/dmi/id/product_name": "KVM\n"}, "KVM", ""},
		"qemu":             {map[string]string{"proc/cpuinfo": cpuVM, "sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "Standard PC (i440FX + PIIX, 1996)\n"}, "QEMU", ""},
		"vmware":           {map[string]string{"proc/cpuinfo": cpuVM, "sys/class/dmi/id/sys_vendor": "VMware, Inc.\n"}, "VMware", ""},
		"hyper-v":          {map[string]string{"proc/cpuinfo": cpuVM, "sys/class/dmi/id/product_name": "Virtual Machine\n"}, "Hyper-V", ""},
		"no dmi":           {map[string]string{"proc/cpuinfo": cpuVM}, "an unknown hypervisor", ""},
		"metal of a cloud": {map[string]string{"proc/cpuinfo": cpuMetal, "sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}, "", ""},
		"xen guest":        {map[string]string{"proc/cpuinfo": cpuVM, "sys/hypervisor/type": "xen\n"}, "Xen", ""},
		"xen host":         {map[string]string{"proc/cpuinfo": cpuVM, "sys/hypervisor/type": "xen\n", "proc/xen/capabilities": "control_d\n"}, "", ""},
		"arm guest":        {map[string]string{"proc/cpuinfo": cpuARM, "proc/device-tree/hypervisor/compatible": "linux,kvm\x00"}, "linux,kvm", ""},
		"arm dmi":          {map[string]string{"proc/cpuinfo": cpuARM, "sys/class/dmi/id/product_name": "KVM Virtual Machine\n"}, "KVM", ""},
		"arm metal":        {map[string]string{"proc/cpuinfo": cpuARM}, "", ""},
		"docker in a vm":   {map[string]string{"proc/cpuinfo": cpuVM, "sys/class/dmi/id/product_name": "KVM", ".dockerenv": ""}, "KVM", "docker"},
		"nspawn":           {map[string]string{"proc/cpuinfo": cpuMetal, "run/systemd/container": "systemd-nspawn\n"}, "", "systemd-nspawn"},
		"lxc":              {map[string]string{"proc/cpuinfo": cpuMetal, "proc/1/environ": "PATH=/bin\x00container=lxc\x00"}, "", "lxc"},
	} {
		v := readVirtual(machineOf(c.files))
		if v.VM != c.vm || v.Container != c.container || (v.VM != "") != (v.Seen != "") {
			t.Errorf("%s: %+v, want %q in %q", name, v, c.vm, c.container)
		}
	}
}

func TestGuardFor(t *testing.T) {
	zero, five := time.Duration(0), 5*time.Second
	for _, c := range []struct {
		v     virtual
		given *time.Duration
		want  time.Duration
		says  string
	}{
		{virtual{}, nil, 0, "no virtual machine"},
		{virtual{VM: "KVM", Seen: "x"}, nil, vmGuard, "virtual machine (KVM: x): guard 2s, since a pause of up to 2s"},
		{virtual{VM: "KVM", Seen: "x"}, &zero, 0, "as you said. A pause longer than that can make two owners"},
		{virtual{}, &five, five, "guard 5s, as you said."},
		{virtual{Container: "docker"}, nil, 0, "in a container (docker)"},
	} {
		got, text := guardFor(c.v, c.given)
		if got != c.want || !strings.Contains(text, c.says) || strings.Contains(text, "%!") {
			t.Errorf("%+v: %v, %q", c, got, text)
		}
	}
}
