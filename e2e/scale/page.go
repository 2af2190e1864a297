package scale

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Page is docs/size.md, made of a record.
func Page(all []Figure) string {
	var b strings.Builder
	b.WriteString(`# How large a table may be, and what that costs

Three directors in one virtual machine without hardware virtualisation, which shares two
processors with everything else, and takes many times as long as a machine of one's own.
What counts is how the figures grow, and how they stand beside keepalived's, which were
measured in the same run; keepalived is one director, lbcluster three on the same two
processors. Written by ` + "`make bench BENCH=\"size large members lease\"`" + ` and ` + "`make bench-pages`" + `.

![times by the size of the table](size.svg)

`)
	for _, who := range []string{"lbcluster", "keepalived"} {
		columns, rows, cells := layout(all, Sizes, who)
		fmt.Fprintf(&b, "| %s, with so many real servers |", who)
		for _, size := range columns {
			fmt.Fprintf(&b, " %d |", size.All())
		}
		b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(columns)) + "\n")
		for _, row := range rows {
			fmt.Fprintf(&b, "| %s |", row)
			for _, size := range columns {
				fmt.Fprintf(&b, " %s |", cells[row][size])
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	b.WriteString(more(all, large, "## More than that\n\nOne run, lbcluster alone.\n\n", func(f Figure) string { return fmt.Sprintf("%d servers", f.Size.All()) }))
	b.WriteString(more(all, members, "## More members, more virtual routers\n\nThe members with 1 000 real servers, the virtual routers with none, at three members. All\nshare the two processors, so seven members have not half of what three have.\n\n",
		func(f Figure) string { return f.Case }))
	b.WriteString(more(all, leases, "## Beside it, the lease\n\nA holder asks for more time long before its deadline. What was left when it got it, while\nall this went on with 10 000 real servers; no lease was late. The holder leads nothing.\n\n",
		func(f Figure) string { return f.Case }))
	b.WriteString(`## Where it goes

An apply reads the file, and sends it to the daemon as JSON twice, to
compare and to apply; the daemons send it each other once more. What then follows is the
kernel's: three directors share one here, and make three times as many operations as
keepalived's one, behind one lock. One weight by file costs
nearly as much as the whole file, for that is what is read, sent and compared; the kernels
are touched in one place only. ` + "`lbcluster server weight`" + ` and the API send the one weight, and
hardly depend on the size. A look for what others changed reads the whole IPVS
table: it is made every 5 seconds, every 8 where it takes long, and finds at once when a
virtual server is gone. What a daemon uses at rest is leases, Raft and gossip, and
looking for virtual servers that went, twenty times a second; most of it is there with
an empty table.

Limits: 64 MiB for one configuration, which is more than 100 000 real servers. The Raft
log is compacted when it has grown by 32 MiB.
`)
	return b.String()
}

// more is a table of what a part measured: a row a case, a column a figure.
func more(all []Figure, part, head string, of func(Figure) string) string {
	var rows, columns []string
	cells := map[[2]string]string{}
	for _, f := range all {
		if f.part() != part {
			continue
		}
		row, column := of(f), strings.TrimSuffix(f.What+", "+f.Unit, ", ")
		if !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
		cells[[2]string{row, column}] = shown(f.Value)
	}
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(head + "| | " + strings.Join(columns, " | ") + " |\n| --- |" + strings.Repeat(" ---: |", len(columns)) + "\n")
	for _, row := range rows {
		b.WriteString("| " + row + " |")
		for _, column := range columns {
			b.WriteString(" " + cells[[2]string{row, column}] + " |")
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.String()
}

// Renew puts the parts that were measured anew in the place of what was known of them.
func Renew(known, anew []Figure) []Figure {
	kept := slices.DeleteFunc(slices.Clone(known), func(k Figure) bool {
		return slices.ContainsFunc(anew, func(f Figure) bool { return f.part() == k.part() })
	})
	return append(kept, anew...)
}

// lines are what the plot shows: by program and figure.
var lines = []struct{ who, what, label, colour string }{
	{"lbcluster", "apply all: in all three kernels", "lbcluster: apply all, 3 kernels", "#1f77b4"},
	{"lbcluster", "apply one weight: in all three kernels", "lbcluster: apply one weight, 3 kernels", "#2ca02c"},
	{"lbcluster", "one weight through the API, in all three kernels: median", "lbcluster: one weight by API, 3 kernels", "#17becf"},
	{"lbcluster", "a daemon restarts, until it would be ready to own", "lbcluster: restart", "#9467bd"},
	{"keepalived", "start, in its kernel", "keepalived: start, 1 kernel", "#d62728"},
	{"keepalived", "one weight, by SIGHUP, in its kernel", "keepalived: one weight, 1 kernel", "#ff7f0e"},
	{"keepalived", "ipvsadm -R", "ipvsadm -R, 1 kernel", "#7f7f7f"},
}

// The plot's measures, in pixels: a decade is as wide as it is high.
const (
	decade      = 110.0
	left, top   = 70.0, 20.0
	fewest      = 2 // 10^2 real servers
	decadesWide = 2
	least       = 1 // 10^1 ms
	decadesHigh = 4
)

// Plot is docs/size.svg: milliseconds by real servers, both axes logarithmic.
func Plot(all []Figure) string {
	var b strings.Builder
	width, height := left+decadesWide*decade+330, top+decadesHigh*decade+50
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height)
	fmt.Fprintf(&b, "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n")
	bottom := top + decadesHigh*decade
	for i := range decadesWide + 1 {
		x := left + float64(i)*decade
		fmt.Fprintf(&b, "<line x1=\"%.0f\" y1=\"%.0f\" x2=\"%.0f\" y2=\"%.0f\" stroke=\"#ddd\"/>\n", x, top, x, bottom)
		fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", x, bottom+18, power(fewest+i))
	}
	for i := range decadesHigh + 1 {
		y := bottom - float64(i)*decade
		fmt.Fprintf(&b, "<line x1=\"%.0f\" y1=\"%.0f\" x2=\"%.0f\" y2=\"%.0f\" stroke=\"#ddd\"/>\n", left, y, left+decadesWide*decade, y)
		fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%s ms</text>\n", left-6, y+4, power(least+i))
	}
	fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">real servers</text>\n", left+decadesWide*decade/2, bottom+38)
	for i, l := range lines {
		plotLine(&b, all, i, l.who, l.what, l.label, l.colour)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func power(n int) string { return "1" + strings.Repeat("0", n) }

func plotLine(b *strings.Builder, all []Figure, n int, who, what, label, colour string) {
	points := map[int]float64{}
	for _, f := range all {
		if f.part() == Sizes && f.Who == who && f.What == what {
			points[f.Size.All()] = f.Value
		}
	}
	var path []string
	for _, servers := range slices.Sorted(maps.Keys(points)) {
		x := left + (math.Log10(float64(servers))-fewest)*decade
		y := top + decadesHigh*decade - (math.Log10(points[servers])-least)*decade
		path = append(path, fmt.Sprintf("%.1f,%.1f", x, y))
	}
	fmt.Fprintf(b, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", strings.Join(path, " "), colour)
	y := top + 14 + float64(n)*20
	x := left + decadesWide*decade + 20
	fmt.Fprintf(b, "<line x1=\"%.0f\" y1=\"%.0f\" x2=\"%.0f\" y2=\"%.0f\" stroke=\"%s\" stroke-width=\"2\"/>\n", x, y-4, x+22, y-4, colour)
	fmt.Fprintf(b, "<text x=\"%.0f\" y=\"%.0f\">%s</text>\n", x+28, y, label)
}
