package cluster

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the package if anything that a node started outlives it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
