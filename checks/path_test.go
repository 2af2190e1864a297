package checks

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"lbcluster/fsm"
)

type fakePaths struct{ ok bool }

func (p fakePaths) Path(netip.Addr, netip.AddrPort) (uint32, netip.Addr, bool) {
	return 7, netip.MustParseAddr("172.25.88.11"), p.ok
}

// What a check through the VIP says follows from the way there and from the server.
func TestCheckThroughVIP(t *testing.T) {
	timeout := errors.New("no answer within 3s")
	refused := error(syscall.ECONNREFUSED)
	for name, c := range map[string]struct {
		none            bool
		through, direct error
		want            string
	}{
		"passes":             {},
		"no path":            {none: true, want: "no result"},
		"no VIP":             {through: timeout, want: "answers, but the VIP is not on its loopback"},
		"dead":               {through: timeout, direct: timeout, want: "no answer within 3s"},
		"ill":                {through: errors.New("HTTP status 503"), direct: errors.New("HTTP status 503"), want: "HTTP status 503"},
		"listens elsewhere":  {through: refused, want: "answers, but not as 172.25.88.100:80: connection refused"},
		"no route from here": {through: syscall.ENETUNREACH, want: "no result"},
	} {
		vip := netip.MustParseAddrPort("172.25.88.100:80")
		r := New(Config{Paths: fakePaths{!c.none}, Check: func(_ context.Context, asked fsm.Check) (fsm.Weighing, error) {
			switch {
			case asked.Dest == vip && asked.Mark == 7 && asked.Bind.IsValid():
				return fsm.Weighing{}, c.through
			case asked.Dest == web1 && asked.Mark == 0 && !asked.Bind.IsValid():
				return fsm.Weighing{}, c.direct
			}
			t.Errorf("%s: asked %+v", name, asked)
			return fsm.Weighing{}, nil
		}})
		check := pairCheck(vip)
		check.DSR = true
		got := ""
		if _, err := r.ask(t.Context(), check, web1); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
