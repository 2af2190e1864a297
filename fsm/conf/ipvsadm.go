package conf

import (
	"bytes"
	"fmt"
	"net/netip"

	"lbcluster/fsm"
)

// WriteIPVSAdm writes services as rules for "ipvsadm --restore", in the form
// and order of "ipvsadm --save --numeric": one -A line for a service, one -a
// line for each of its servers. Thresholds, which ipvsadm leaves out when it
// saves but takes when it restores, are written where there are any.
func WriteIPVSAdm(services []fsm.Service) []byte {
	var b bytes.Buffer
	for _, s := range services {
		flag := "-t"
		if s.Protocol == fsm.UDP {
			flag = "-u"
		}
		name := fmt.Sprintf("%s %s", flag, netip.AddrPortFrom(s.Addr, s.Port))
		fmt.Fprintf(&b, "-A %s -s %s", name, s.Scheduler)
		if s.Persistence > 0 {
			fmt.Fprintf(&b, " -p %d", int(s.Persistence.D().Seconds()))
			if s.PersistenceMask != 32 && s.PersistenceMask != 0 {
				fmt.Fprintf(&b, " -M %s", dotted(s.PersistenceMask))
			}
		}
		b.WriteByte('\n')
		for _, d := range s.Dests {
			fmt.Fprintf(&b, "-a %s -r %s -g -w %d", name, netip.AddrPortFrom(d.Addr, d.Port), d.Weight)
			if d.UpperThreshold > 0 || d.LowerThreshold > 0 {
				fmt.Fprintf(&b, " -x %d -y %d", d.UpperThreshold, d.LowerThreshold)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}
