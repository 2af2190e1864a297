package conf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// TestIPVSAdmOfPair: the sample's rules as "ipvsadm -Sn" prints them.
func TestIPVSAdmOfPair(t *testing.T) {
	r, problems := Parse("testdata/pair.conf", os.ReadFile, nil)
	if len(problems) > 0 {
		t.Fatal(lines(problems))
	}
	table := &fsm.Table{Services: r.Config.Services}
	want := "-A -t 172.25.88.100:80 -s rr\n" +
		"-a -t 172.25.88.100:80 -r 172.25.88.2:80 -g -w 1\n" +
		"-a -t 172.25.88.100:80 -r 172.25.88.3:80 -g -w 1\n"
	if got := string(WriteIPVSAdm(table.Effective())); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestIPVSAdmOptions(t *testing.T) {
	key := fsm.ServiceKey{Addr: netip.MustParseAddr("10.0.0.1"), Port: 53, Protocol: fsm.UDP}
	minute := fsm.Duration(time.Minute)
	for _, c := range []struct {
		service fsm.Service
		want    string
	}{
		{fsm.Service{ServiceKey: key, Scheduler: "mh"}, "-A -u 10.0.0.1:53 -s mh\n"},
		{fsm.Service{ServiceKey: key, Scheduler: "mh", Persistence: minute, PersistenceMask: 32}, "-A -u 10.0.0.1:53 -s mh -p 60\n"},
		{fsm.Service{ServiceKey: key, Scheduler: "mh", Persistence: minute, PersistenceMask: 20}, "-A -u 10.0.0.1:53 -s mh -p 60 -M 255.255.240.0\n"},
		{fsm.Service{ServiceKey: key, Scheduler: "mh", Dests: []fsm.Dest{{Addr: netip.MustParseAddr("10.0.0.2"), Port: 53, UpperThreshold: 9, LowerThreshold: 4}}},
			"-A -u 10.0.0.1:53 -s mh\n-a -u 10.0.0.1:53 -r 10.0.0.2:53 -g -w 0 -x 9 -y 4\n"},
		{fsm.Service{ServiceKey: fsm.ServiceKey{Mark: 7, V6: true}, Scheduler: "mh", HashPort: true, HashFallback: true, OnePacket: true,
			Persistence: minute, PersistenceMask: 64, PersistenceEngine: "sip", Dests: []fsm.Dest{{Addr: netip.MustParseAddr("10.0.0.2"), Method: fsm.Tunnel}}},
			"-A -f 7 -6 -s mh -p 60 -M 64 --pe sip -o -b mh-fallback,mh-port\n-a -f 7 -6 -r 10.0.0.2:0 -i -w 0\n"},
		{fsm.Service{ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr("fd00::1"), Port: 9, Protocol: fsm.SCTP}, Scheduler: "rr",
			Dests: []fsm.Dest{{Addr: netip.MustParseAddr("fd00::2"), Port: 10, Method: fsm.Masquerade}}},
			"-A --sctp-service [fd00::1]:9 -s rr\n-a --sctp-service [fd00::1]:9 -r [fd00::2]:10 -m -w 0\n"},
	} {
		if got := string(WriteIPVSAdm([]fsm.Service{c.service})); got != c.want {
			t.Errorf("got\n%swant\n%s", got, c.want)
		}
	}
}

// TestIPVSAdmRoundTrip: nothing that the kernel shall have is lost in the rules.
func TestIPVSAdmRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := (&fsm.Table{Services: drawConfig(t).Services}).Effective()
		for i := range want {
			want[i].Method = "" // the servers' are in the rules
		}
		text := string(WriteIPVSAdm(want))
		got, err := readRules(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !slices.EqualFunc(got, want, func(a, b fsm.Service) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("%s\ngot  %+v\nwant %+v", text, got, want)
		}
	})
}

// readRules reads what ipvsadm would of rules, the options in any order.
func readRules(text string) (all []fsm.Service, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		opt := map[string]string{}
		for i := 1; i < len(f); i++ {
			if slices.Contains([]string{"-g", "-i", "-m", "-o", "-6"}, f[i]) {
				opt[f[i]] = "yes"
				continue
			}
			opt[f[i]] = f[i+1]
			i++
		}
		num := func(o string) int {
			if opt[o] == "" {
				return 0
			}
			n, e := strconv.Atoi(opt[o])
			if e != nil {
				err = e
			}
			return n
		}
		switch f[0] {
		case "-A":
			s := fsm.Service{
				Scheduler: opt["-s"], Dests: []fsm.Dest{}, OnePacket: opt["-o"] != "", PersistenceEngine: opt["--pe"],
				HashPort: strings.Contains(opt["-b"], "-port"), HashFallback: strings.Contains(opt["-b"], "-fallback"),
			}
			for o, proto := range map[string]fsm.Protocol{"-t": fsm.TCP, "-u": fsm.UDP, "--sctp-service": fsm.SCTP} {
				if ap, e := netip.ParseAddrPort(opt[o]); opt[o] != "" {
					err = errors.Join(err, e)
					s.ServiceKey = fsm.ServiceKey{Addr: ap.Addr(), Port: ap.Port(), Protocol: proto}
				}
			}
			if opt["-f"] != "" {
				s.ServiceKey = fsm.ServiceKey{Mark: uint32(num("-f")), V6: opt["-6"] != ""}
			}
			if opt["-p"] != "" {
				s.Persistence, s.PersistenceMask = fsm.Duration(time.Duration(num("-p"))*time.Second), uint8(s.BitLen())
			}
			if opt["-M"] != "" && s.Is6() {
				s.PersistenceMask = uint8(num("-M"))
			} else if opt["-M"] != "" {
				s.PersistenceMask, err = mask(opt["-M"])
			}
			all = append(all, s)
		case "-a":
			ap, e := netip.ParseAddrPort(opt["-r"])
			if e != nil || len(all) == 0 {
				return nil, fmt.Errorf("bad rule %q: %v", line, e)
			}
			d := fsm.Dest{Addr: ap.Addr(), Port: ap.Port(), Weight: num("-w"), UpperThreshold: uint32(num("-x")), LowerThreshold: uint32(num("-y"))}
			for o, method := range map[string]fsm.Method{"-g": fsm.DirectRouting, "-i": fsm.Tunnel, "-m": fsm.Masquerade} {
				if opt[o] != "" {
					d.Method = method
				}
			}
			last := &all[len(all)-1]
			last.Dests = append(last.Dests, d)
		default:
			return nil, fmt.Errorf("unknown rule %q", line)
		}
	}
	return all, err
}
