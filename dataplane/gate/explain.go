package gate

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Errors of Open that tell why this machine cannot have a gate.
var (
	// ErrPermission: the process lacks a capability.
	ErrPermission = errors.New("the gate needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN (run as root)")
	// ErrKernel: the kernel lacks what the gate is made of.
	ErrKernel = errors.New("the gate needs Linux 5.8 or later with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS")
	// ErrTimeNamespace: the process and the kernel's programs see different
	// clocks, so no deadline would mean what it says.
	ErrTimeNamespace = errors.New("the gate cannot work in a time namespace that shifts CLOCK_BOOTTIME")
)

// explain adds the sentence that an operator needs to a raw kernel error.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: %w", err, ErrPermission)
	case errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: %w", err, ErrKernel)
	}
	return err
}

// probe checks what every mode needs.
func probe() error {
	if shifted, err := clockShifted("/proc/self/timens_offsets"); err != nil {
		return err
	} else if shifted {
		return ErrTimeNamespace
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return explain(fmt.Errorf("lift the memory lock limit for eBPF maps: %w", err))
	}
	if err := features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetBootNs); err != nil {
		return explain(fmt.Errorf("probe eBPF for a program that reads CLOCK_BOOTTIME: %w", err))
	}
	return nil
}

// clockShifted reads the offsets of the process's time namespace (time_namespaces(7)).
func clockShifted(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // a kernel without time namespaces
	}
	if err != nil {
		return false, fmt.Errorf("look for a time namespace: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "boottime" && (f[1] != "0" || f[2] != "0") {
			return true, nil
		}
	}
	return false, nil
}

// haveTCX reports whether the kernel (6.6 and later) has tcx.
func haveTCX() bool {
	_, err := link.QueryPrograms(link.QueryOptions{Target: loopback, Attach: ebpf.AttachTCXIngress})
	return err == nil
}

// loopback is the index of lo in every network namespace.
const loopback = 1
