package lease

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Clocks are the two clocks of a member, in ns (R10). Go's time.Now is neither:
// its monotonic part has an origin of its own.
type Clocks struct {
	// Boot is CLOCK_BOOTTIME, the gate's clock: what the holder uses. It runs
	// through a suspend.
	Boot func() int64
	// Raw is CLOCK_MONOTONIC_RAW, which nobody slews: what the voter uses. It
	// stops in a suspend, and a promise only lasts longer then.
	Raw func() int64
}

// KernelClocks reads the kernel's.
func KernelClocks() Clocks {
	return Clocks{Boot: reader(unix.CLOCK_BOOTTIME), Raw: reader(unix.CLOCK_MONOTONIC_RAW)}
}

func reader(id int32) func() int64 {
	return func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(id, &ts); err != nil {
			panic(fmt.Sprintf("clock_gettime(%d): %v", id, err)) // the kernel has no such clock: no lease is safe
		}
		return ts.Nano()
	}
}
