package e2e

import (
	"testing"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/scale"
)

// A table of a thousand real servers goes to all directors' kernels, whole; changes of
// one reach them all; what somebody removes comes back; and a restarted daemon finds
// its table. How long it takes is told; make bench measures it.
func TestTableAtSize(t *testing.T) {
	lab.Need(t)
	figures := map[string]float64{}
	scale.Quick(t, scale.Size{Services: 20, Servers: 50}, func(what string, value float64, unit string) {
		t.Logf("%s: %.1f %s", what, value, unit)
		figures[what] = value
	})
	if len(figures) < 14 {
		t.Errorf("only %d figures", len(figures))
	}
}
