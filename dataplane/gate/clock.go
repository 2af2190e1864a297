package gate

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// BootNow reads CLOCK_BOOTTIME in nanoseconds: the clock of all deadlines, and
// a fence.Clock.
func BootNow() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Cannot happen on a kernel that runs Go (CLOCK_BOOTTIME: 2.6.39);
		// going on without a clock would be worse than stopping.
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err))
	}
	return ts.Nano()
}
