package health

import (
	"fmt"
	"slices"
	"strings"
)

// Page is docs/health-speed.md, made of a record.
func Page(all []Figure) string {
	var b strings.Builder
	b.WriteString(pageHead)
	for _, p := range []struct{ part, title, text string }{
		{Deaths, "A real server dies", pageDeaths},
		{Checkers, "What a check costs", pageCheckers},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s", p.title, p.text)
		for _, t := range tables(all) {
			if t.part == p.part {
				t.markdown(&b)
			}
		}
	}
	b.WriteString("\nBeside the aims:\n\n" + aims(all) + pageTail)
	return b.String()
}

// aims says how far each aim is reached.
func aims(all []Figure) string {
	var b strings.Builder
	value := func(of, who, what string) (float64, bool) {
		i := slices.IndexFunc(all, func(f Figure) bool { return f.Case == of && f.Who == who && strings.HasPrefix(f.What, what) })
		if i < 0 {
			return 0, false
		}
		return all[i].Value, true
	}
	for _, f := range all {
		if f.Case == Fast.String() && strings.HasPrefix(f.What, "from the deciding vote") && strings.HasSuffix(f.What, "worst") {
			fmt.Fprintf(&b, "* All tables change within 100 ms of the deciding vote, the worst of 20: %s, with %s ms.\n", map[bool]string{true: "reached", false: "missed"}[f.Value <= 100], shown(f.Value))
		}
	}
	for _, c := range crowds {
		mine, ok := value(c.String(), ours, cpuACheck)
		other, there := value(c.String(), theirs, cpuACheck)
		if !ok || !there || c.Repeated > 1 {
			continue
		}
		fmt.Fprintf(&b, "* No more CPU a check than keepalived: %.2f times as much with %s.\n", mine/other, c)
	}
	return b.String()
}

func (t table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n| %s | %s | %s |\n| --- | ---: | ---: |\n", t.name, ours, theirs)
	for _, r := range t.rows {
		fmt.Fprintf(b, "| %s | %s | %s |\n", r.what, r.cells[0], r.cells[1])
	}
}

// Merge puts a newer run's parts in the place of the older ones.
func Merge(older, newer []Figure) []Figure {
	var out []Figure
	for _, p := range Parts {
		from := older
		if slices.ContainsFunc(newer, func(f Figure) bool { return f.Part == p.Name }) {
			from = newer
		}
		for _, f := range from {
			if f.Part == p.Name {
				out = append(out, f)
			}
		}
	}
	return out
}

const pageHead = `# How fast health checks are, and what they cost

For whoever sizes directors, or compares them with a keepalived pair. Written from what
"make bench" saw, by "go test ./e2e/health -update". One virtual machine with two
emulated CPUs runs everything, real servers and clients too, and takes many times as long
as a machine of one's own: what counts is how the two programs stand beside each other.
[Health checks](checks.md) explains the settings.
`

const pageDeaths = `Three directors of lbcluster and a keepalived pair check the same two nginx at the same
time, with equal settings; each has a VIP, and a client of its own that opens 50
connections a second. nginx is killed, and started again, at random moments; the kernels
of all five directors are asked for their tables every 5 ms. A dead server is out when it
is out of the tables of all directors, which takes the second director's opinion with
lbcluster. "The deciding vote" is the moment at which a director put forward the opinion
that made it a majority: it still had to be sent to the leader, written to two disks and
applied. Opinions are gathered for 20 ms before, which is in none of these figures but the
first.

When many servers go at once, each director's opinions go into few entries of the Raft
log. Without changes nothing is written.
`

const pageCheckers = `One director of each, one after the other, and a crowd of real servers that accept a
connection and close it. CPU is that of the program's processes, what the kernel does for
their system calls included; lbcluster's is also told without what it used before it had
anything to check (leases, Raft, gossip). The checks are counted where they arrive.
`

const pageTail = `
Between the deciding vote and the tables are a message to the leader, a write on two disks,
and in each data plane a look at the one service in its kernel. The three daemons share
two emulated processors with everything else; no step was measured by itself.

TCP checks are made together by one goroutine that looks every 20 ms at what is due and
what has been answered. Before, each had a goroutine: in the same lab that cost 0.85 ms of
CPU a check at 1000 checks a second. What is left is, by a profile, system calls (socket,
connect, getsockopt, close and one for epoll), connect alone making half of it, for the
first packet is sent within; keepalived makes the same calls. Looking costs the same
however many checks there are, so that few checks cost more each. Equal checks of a server
under several virtual servers are made once.

## How to repeat it

    make bench BENCH="health checkers"
    make bench-pages
`
