package ipvs

import (
	"fmt"
	"net"
	"strings"
)

// Verb says what an Op does.
type Verb uint8

const (
	AddService Verb = iota + 1
	UpdateService
	RemoveService
	AddDest
	UpdateDest
	RemoveDest
)

// String names the verb, as in "add_service".
func (v Verb) String() string {
	names := [...]string{AddService: "add_service", UpdateService: "update_service", RemoveService: "remove_service",
		AddDest: "add_server", UpdateDest: "update_server", RemoveDest: "remove_server"}
	if int(v) < len(names) && v > 0 {
		return names[v]
	}
	return fmt.Sprintf("verb_%d", uint8(v))
}

// Op is one write to the kernel's table.
type Op struct {
	Verb Verb
	// Service is what to add, change or remove, or whose destination to touch;
	// its Dests are ignored.
	Service Service
	Dest    Dest // with the verbs on destinations
}

// String is the ipvsadm arguments that do the same: "-a -t 172.25.88.100:80 -r
// 172.25.88.2:80 -g -w 1".
func (o Op) String() string {
	switch o.Verb {
	case AddService:
		return "-A " + o.Service.args()
	case UpdateService:
		return "-E " + o.Service.args()
	case RemoveService:
		return "-D " + o.Service.Key.Args()
	case AddDest:
		return "-a " + o.Service.Key.Args() + " " + o.Dest.args()
	case UpdateDest:
		return "-e " + o.Service.Key.Args() + " " + o.Dest.args()
	case RemoveDest:
		return "-d " + o.Service.Key.Args() + " -r " + o.Dest.DestKey.String()
	}
	return fmt.Sprintf("verb %d", o.Verb)
}

// args is everything after -A, spaced as ipvsadm -Sn prints it.
func (s Service) args() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -s %s", s.Key.Args(), s.Scheduler)
	if s.Flags&Persistent != 0 {
		fmt.Fprintf(&b, " -p %d", s.Timeout)
		switch full := s.fullMask(); {
		case s.Mask == full:
		case full == 128:
			fmt.Fprintf(&b, " -M %d", s.Mask)
		default:
			fmt.Fprintf(&b, " -M %s", net.IP(net.CIDRMask(int(s.Mask), 32)))
		}
	}
	if s.Flags&Persistent != 0 && s.Engine != "" {
		fmt.Fprintf(&b, " --pe %s", s.Engine)
	}
	if s.Flags&OnePacket != 0 {
		b.WriteString(" -o")
	}
	if names := s.schedFlags(); len(names) > 0 {
		fmt.Fprintf(&b, " -b %s", strings.Join(names, ","))
	}
	return b.String()
}

// schedFlags names the scheduler's own flags as ipvsadm -b does.
func (s Service) schedFlags() []string {
	names := [3]string{"flag-1", "flag-2", "flag-3"}
	if s.Scheduler == "sh" || s.Scheduler == "mh" {
		names[0], names[1] = s.Scheduler+"-fallback", s.Scheduler+"-port"
	}
	var out []string
	for i, f := range []Flags{Sched1, Sched2, Sched3} {
		if s.Flags&f != 0 {
			out = append(out, names[i])
		}
	}
	return out
}

// args is everything after the service; thresholds, which ipvsadm -Sn leaves
// out, are written as ipvsadm -a takes them.
func (d Dest) args() string {
	s := fmt.Sprintf("-r %s %s -w %d", d.DestKey, d.Method.flag(), d.Weight)
	if d.Upper != 0 {
		s += fmt.Sprintf(" -x %d", d.Upper)
	}
	if d.Lower != 0 {
		s += fmt.Sprintf(" -y %d", d.Lower)
	}
	return s
}

// Rules prints services as ipvsadm -Sn does, sorted; thresholds are added,
// because "ipvsadm -R" would understand them.
func Rules(services []Service) string {
	var b strings.Builder
	for _, s := range sorted(services) {
		fmt.Fprintln(&b, Op{Verb: AddService, Service: s})
		for _, d := range s.Dests {
			fmt.Fprintln(&b, Op{Verb: AddDest, Service: s, Dest: d})
		}
	}
	return b.String()
}

func sorted(services []Service) []Service {
	out := make([]Service, len(services))
	for i, s := range services {
		out[i] = s.Canonical()
	}
	Sort(out)
	return out
}
