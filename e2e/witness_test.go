package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// nobody is a user without any right.
const nobody = 65534

// A third vote that answers too late is none, and is told so with the numbers.
func witnessIsTooFar(t *testing.T, s *site.Site, witness *lab.Host, token string) {
	witness.Shape("delay", "60ms") // each way
	defer witness.Shape()
	out, status := s.Command(witness, "join", s.Dirs[0].Addr.String(), "--token", token, "--witness")
	t.Logf("exit status %d: %s", status, out)
	for _, want := range []string{"the slowest of 30 round trips to the cluster took ", `(median 12`, `the profile "default" bears 15ms`, "--force joins all the same"} {
		if status == 0 || !strings.Contains(out, want) {
			t.Errorf("a witness with round trips of 120 ms: exit status %d, without %q", status, want)
		}
	}
	s.Eventually(15*time.Second, "it is no member", func() error {
		if out, _ := s.Command(s.Dirs[0], "member", "list"); strings.Contains(out, "witness") {
			return errors.New(out)
		}
		return nil
	})
}

func witnessNeedsNoRights(t *testing.T, s *site.Site, witness *lab.Host) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Daemons[witness].Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the witness's process is not as wanted, %q:\n%s", want, text)
		}
	}
	if out := witness.MustRun("tc", "filter", "show", "dev", lab.Interface, "ingress"); strings.TrimSpace(out) != "" {
		t.Errorf("the witness has a gate: %s", out)
	}
}
