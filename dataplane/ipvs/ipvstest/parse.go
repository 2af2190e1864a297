package ipvstest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lbcluster/dataplane/ipvs"
)

// Parse reads lines as "ipvsadm -Sn" prints them (and -x, -y). Empty lines and
// lines that begin with # are skipped.
func Parse(rules string) ([]ipvs.Service, error) {
	var out []ipvs.Service
	for n, line := range strings.Split(rules, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := parseLine(&out, strings.Fields(line)); err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n+1, line, err)
		}
	}
	for i := range out {
		out[i] = out[i].Canonical()
	}
	ipvs.Sort(out)
	return out, nil
}

// Must is Parse for tables in tests.
func Must(rules string) []ipvs.Service {
	out, err := Parse(rules)
	if err != nil {
		panic(err)
	}
	return out
}

func parseLine(out *[]ipvs.Service, words []string) error {
	var s ipvs.Service
	var d ipvs.Dest
	for i := 1; i < len(words); i++ {
		if bare(words[i], &s, &d) {
			continue
		}
		if i+1 >= len(words) {
			return fmt.Errorf("%s needs a value", words[i])
		}
		if err := option(words[i], words[i+1], &s, &d); err != nil {
			return err
		}
		i++
	}
	if s.Mask == 0 {
		s.Mask = 32
		if s.Is6() {
			s.Mask = 128
		}
	}
	switch words[0] {
	case "-A":
		*out = append(*out, s)
	case "-a":
		i := slices.IndexFunc(*out, func(o ipvs.Service) bool { return o.Key == s.Key })
		if i < 0 {
			return errors.New("no such service above")
		}
		(*out)[i].Dests = append((*out)[i].Dests, d)
	default:
		return errors.New("neither -A nor -a")
	}
	return nil
}

// bare takes the options without a value.
func bare(word string, s *ipvs.Service, d *ipvs.Dest) bool {
	switch word {
	case "-g":
		d.Method = ipvs.DirectRouting
	case "-m":
		d.Method = ipvs.Masquerade
	case "-i":
		d.Method = ipvs.Tunnel
	case "-o":
		s.Flags |= ipvs.OnePacket
	case "-6":
		s.V6 = true
	default:
		return false
	}
	return true
}

func option(name, value string, s *ipvs.Service, d *ipvs.Dest) error {
	number := func() uint32 {
		n, _ := strconv.ParseUint(value, 10, 32)
		return uint32(n)
	}
	switch name {
	case "-t", "-u", "--sctp-service":
		ap, err := netip.ParseAddrPort(value)
		if err != nil {
			return err
		}
		s.Addr, s.Port = ap.Addr(), ap.Port()
		s.Protocol = map[string]ipvs.Protocol{"-t": ipvs.TCP, "-u": ipvs.UDP, "--sctp-service": ipvs.SCTP}[name]
	case "-f":
		s.Mark = number()
	case "-s":
		s.Scheduler = value
	case "-p":
		s.Flags |= ipvs.Persistent
		s.Timeout = number()
	case "-M":
		if n, err := strconv.ParseUint(value, 10, 8); err == nil {
			s.Mask = uint8(n)
			break
		}
		ones, _ := net.IPMask(net.ParseIP(value).To4()).Size()
		s.Mask = uint8(ones)
	case "--pe":
		s.Engine = value
	case "-b":
		flags(value, s)
	case "-r":
		ap, err := netip.ParseAddrPort(value)
		if err != nil {
			return err
		}
		d.Addr, d.Port = ap.Addr(), ap.Port()
	case "-w":
		d.Weight = int(number())
	case "-x":
		d.Upper = number()
	case "-y":
		d.Lower = number()
	default:
		return fmt.Errorf("unknown option %s", name)
	}
	return nil
}

func flags(value string, s *ipvs.Service) {
	for _, f := range strings.Split(value, ",") {
		switch {
		case strings.HasSuffix(f, "-fallback"), f == "flag-1":
			s.Flags |= ipvs.Sched1
		case strings.HasSuffix(f, "-port"), f == "flag-2":
			s.Flags |= ipvs.Sched2
		case f == "flag-3":
			s.Flags |= ipvs.Sched3
		}
	}
}
