package lease

import (
	"os"
	"path/filepath"
	"testing"
)

// A container's own boot_id is a mount over the kernel's file.
func TestMountedOver(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{plain: false, "/proc": true, plain + ".missing": true} {
		if got := mountedOver(path); got != want {
			t.Errorf("mountedOver(%s) = %v, want %v", path, got, want)
		}
	}
}
