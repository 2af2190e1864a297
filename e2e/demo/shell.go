package demo

import (
	"context"
	"fmt"
	"io"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/site"
)

const welcome = `
Three directors (dir1 dir2 dir3), two real servers (web1 web2) and a client serve %s,
which %s owns. "on HOST COMMAND" runs a command on a host, "on HOST" is a shell there:

  on dir1 lbcluster status              on client curl -s http://%s/
  on dir2 ipvsadm -Ln                   on %s ip addr show eth0
  on dir3 lbcluster events -f           on client tcpdump -ni eth0 arp

Leave with exit or Ctrl-D; nothing remains.

`

// Shell is a guest.Entry: a shell beside a cluster that serves.
func Shell(ctx context.Context, in io.Reader, out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	return lab.Main("lab", say, func(t lab.T) {
		say("making the hosts")
		s := site.New(t, 3)
		say("three directors found a cluster")
		s.Form()
		say("applying %s", site.Example)
		s.Serve()
		owner := s.AwaitOwner().Name
		fmt.Fprintf(out, welcome, site.VIP, owner, site.VIP, owner)
		if err := guest.Shell(ctx, in, out); err != nil {
			t.Errorf("%v", err)
		}
	})
}
