package e2e

import (
	"testing"

	conns "lbcluster/e2e/hold"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// held are connections of a client that stay open.
type held struct{ *conns.Connections }

// group is the name of all of a test's held connections.
const group = "held"

// holdOpen opens n connections through the VIP. The end of the test closes what is
// left.
func holdOpen(t *testing.T, from *lab.Host, n int) held {
	t.Helper()
	return holdOpenAt(t, from, site.Target, n)
}

// holdOpenAt opens them to "ADDRESS:PORT".
func holdOpenAt(t *testing.T, from *lab.Host, target string, n int) held {
	t.Helper()
	c, err := conns.New(from.Do, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Open(group, n, 0); err != nil {
		t.Fatal(err)
	}
	return held{c}
}

// wantAll fails the test unless all of them go on.
func (h held) wantAll(t *testing.T, after string) {
	t.Helper()
	h.Settle()
	t.Logf("%s: %s", after, h.Text())
	if left, of := h.Left(group); left < of {
		t.Errorf("%s: %d of %d connections were lost", after, of-left, of)
	}
}
