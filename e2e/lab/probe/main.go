package probe

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// Main is "lab probe http|arp|stall FLAGS FILE": a prober as a process. It runs
// until it is killed and returns an exit status if it cannot go on.
func Main(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: lab probe http|arp|stall [flags] FILE")
		return 2
	}
	debug.SetGCPercent(400)
	if err := run(args[0], args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "lab probe %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

func run(kind string, args []string) error {
	fs := flag.NewFlagSet("lab probe "+kind, flag.ContinueOnError)
	var h HTTPConfig
	a := ARPConfig{Interface: "eth0"}
	every := fs.Duration("every", 10*time.Millisecond, "time between two probes")
	fs.DurationVar(&h.Timeout, "timeout", time.Second, "time a request may take")
	fs.TextVar(&h.Target, "target", netip.AddrPort{}, "address and port to connect to")
	sources := fs.String("sources", "", "source addresses, separated by commas")
	fs.TextVar(&a.Self, "self", netip.Addr{}, "own address")
	fs.TextVar(&a.VIP, "vip", netip.Addr{}, "address to ask for")
	cpu := fs.Int("cpu", -1, "the CPU to run on; -1: any")
	if err := fs.Parse(args); err != nil {
		return err
	}
	out, err := os.OpenFile(fs.Arg(0), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	h.Every, a.Every = *every, *every
	switch kind {
	case "http":
		for s := range strings.SplitSeq(*sources, ",") {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return fmt.Errorf("source address: %w", err)
			}
			h.Sources = append(h.Sources, addr)
		}
		return RunHTTP(h, out)
	case "arp":
		return RunARP(a, out)
	case "stall":
		return RunStalls(*every, *cpu, out)
	}
	return fmt.Errorf("no such prober")
}
