package conf

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"lbcluster/fsm"
)

// WriteIPVSAdm writes services as rules for "ipvsadm --restore", in the form
// and order of "ipvsadm --save --numeric": one -A line for a service, one -a
// line for each of its servers. Thresholds, which ipvsadm leaves out when it
// saves but takes when it restores, are written where there are any.
func WriteIPVSAdm(services []fsm.Service) []byte {
	var b bytes.Buffer
	for _, s := range services {
		name := ipvsadmName(s.ServiceKey)
		fmt.Fprintf(&b, "-A %s -s %s", name, s.Scheduler)
		if s.Persistence > 0 {
			fmt.Fprintf(&b, " -p %d", int(s.Persistence.D().Seconds()))
			if int(s.PersistenceMask) != s.BitLen() && s.PersistenceMask != 0 {
				fmt.Fprintf(&b, " -M %s", granularity(s.ServiceKey, s.PersistenceMask))
			}
			if s.PersistenceEngine != "" {
				fmt.Fprintf(&b, " --pe %s", s.PersistenceEngine)
			}
		}
		if s.OnePacket {
			b.WriteString(" -o")
		}
		if flags := hashWords(s.Scheduler, s.HashFallback, s.HashPort); len(flags) > 0 {
			fmt.Fprintf(&b, " -b %s", strings.Join(flags, ","))
		}
		b.WriteByte('\n')
		for _, d := range s.Dests {
			method := map[fsm.Method]string{fsm.Tunnel: "-i", fsm.Masquerade: "-m"}[d.Method]
			if method == "" {
				method = "-g"
			}
			fmt.Fprintf(&b, "-a %s -r %s %s -w %d", name, netip.AddrPortFrom(d.Addr, d.Port), method, d.Weight)
			if d.UpperThreshold > 0 || d.LowerThreshold > 0 {
				fmt.Fprintf(&b, " -x %d -y %d", d.UpperThreshold, d.LowerThreshold)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// ipvsadmName is how ipvsadm names a service.
func ipvsadmName(k fsm.ServiceKey) string {
	switch {
	case k.Mark != 0 && k.V6:
		return fmt.Sprintf("-f %d -6", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("-f %d", k.Mark)
	}
	flag := map[fsm.Protocol]string{fsm.UDP: "-u", fsm.SCTP: "--sctp-service"}[k.Protocol]
	if flag == "" {
		flag = "-t"
	}
	return flag + " " + netip.AddrPortFrom(k.Addr, k.Port).String()
}

// hashWords are the flags as ipvsadm and keepalived name them.
func hashWords(scheduler string, fallback, port bool) []string {
	var out []string
	if fallback {
		out = append(out, scheduler+"-fallback")
	}
	if port {
		out = append(out, scheduler+"-port")
	}
	return out
}
