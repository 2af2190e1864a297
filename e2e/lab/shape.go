package lab

import (
	"context"
	"os/exec"
	"strings"
)

// Shape makes the host's cable bad, in both directions: args are those of tc's
// netem ("loss", "20%", "delay", "50ms", "10ms"). What was said before is
// replaced; none makes it good again.
func (h *Host) Shape(args ...string) {
	h.lab.t.Helper()
	h.ShapeIn(args...)
	h.ShapeOut(args...)
}

// ShapeIn is Shape for frames to the host alone.
func (h *Host) ShapeIn(args ...string) {
	h.lab.t.Helper()
	h.netem(h.lab.sw, h.Port(), args)
}

// ShapeOut is Shape for frames from the host alone.
func (h *Host) ShapeOut(args ...string) {
	h.lab.t.Helper()
	h.netem(h.space, Interface, args)
}

func (h *Host) netem(s *space, dev string, args []string) {
	h.lab.t.Helper()
	argv := []string{"qdisc", "del", "dev", dev, "root"}
	if len(args) > 0 {
		argv = append([]string{"qdisc", "replace", "dev", dev, "root", "netem"}, args...)
	}
	err := s.do(func() error {
		out, err := exec.CommandContext(context.Background(), "tc", argv...).CombinedOutput()
		if err != nil && len(args) > 0 {
			h.lab.t.Logf("tc %s: %s", strings.Join(argv, " "), out)
			return err
		}
		return nil // nothing to make good is good
	})
	if err != nil {
		h.lab.t.Fatalf("lab: shaping %s: %v", h.Name, err)
	}
}
