package health

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"lbcluster/e2e/site"
)

// Settings are those of a check, in seconds.
type Settings struct{ Loop, Timeout, Retry, Pause int }

// The settings that deaths are measured with.
var (
	Example = Settings{Loop: 6, Timeout: 3, Retry: 3, Pause: 3} // of deploy/keepalived-pair.conf
	Fast    = Settings{Loop: 1, Timeout: 1, Retry: 0, Pause: 1}
)

func (s Settings) String() string {
	return fmt.Sprintf("delay_loop %d, retry %d", s.Loop, s.Retry)
}

// pairVIP is the keepalived pair's, beside lbcluster's.
const pairVIP = "172.25.88.101"

// pairConf is the example with other settings.
func pairConf(s Settings) (string, error) {
	b, err := os.ReadFile(site.Example)
	if err != nil {
		return "", err
	}
	return with(string(b), s), nil
}

// with puts other settings into a configuration like the example.
func with(conf string, s Settings) string {
	return strings.NewReplacer(
		fmt.Sprintf("delay_loop %d ", Example.Loop), fmt.Sprintf("delay_loop %d ", s.Loop),
		fmt.Sprintf("    connect_timeout %d\n", Example.Timeout), fmt.Sprintf("    connect_timeout %d\n", s.Timeout),
		fmt.Sprintf("    retry %d\n", Example.Retry), fmt.Sprintf("    retry %d\n", s.Retry),
		fmt.Sprintf("    delay_before_retry %d\n", Example.Pause), fmt.Sprintf("    delay_before_retry %d\n", s.Pause),
	).Replace(conf)
}

// forPair makes it the keepalived pair's, which has a VIP and a VRID of its own.
func forPair(conf string) string {
	return strings.NewReplacer(site.VIP, pairVIP, "virtual_router_id 51", "virtual_router_id 52").Replace(conf)
}

// asBackup makes it the second director's.
func asBackup(conf string) string {
	return strings.NewReplacer("state MASTER", "state BACKUP", "priority 100", "priority 50").Replace(conf)
}

// Crowd is how many real servers are checked: Servers of them, under each of Repeated
// virtual servers.
type Crowd struct{ Servers, Repeated int }

func (c Crowd) String() string {
	if c.Repeated == 1 {
		return fmt.Sprintf("%d servers", c.Servers)
	}
	return fmt.Sprintf("%d servers, each under %d virtual servers", c.Servers, c.Repeated)
}

// entries is how many real servers the configuration has.
func (c Crowd) entries() int { return c.Servers * c.Repeated }

// pool is how many real servers a virtual server has.
const pool = 100

// crowdNetwork has the servers, which a farm is; virtualNetwork the virtual servers,
// whose packets nobody sends.
var (
	crowdNetwork   = netip.MustParsePrefix("10.77.0.0/16")
	virtualNetwork = netip.MustParsePrefix("10.78.0.0/16")
)

// crowdConf checks the crowd by TCP.
func crowdConf(c Crowd, s Settings) string {
	var b strings.Builder
	virtual := 0
	for range c.Repeated {
		for first := 0; first < c.Servers; first += pool {
			fmt.Fprintf(&b, "virtual_server %s 80 {\n    lb_algo rr\n    lb_kind DR\n    protocol TCP\n    delay_loop %d\n", nth(virtualNetwork, virtual), s.Loop)
			virtual++
			for i := first; i < min(first+pool, c.Servers); i++ {
				fmt.Fprintf(&b, "    real_server %s 80 {\n        weight 1\n        TCP_CHECK {\n            connect_timeout %d\n            retry %d\n            delay_before_retry %d\n        }\n    }\n",
					nth(crowdNetwork, i), s.Timeout, s.Retry, s.Pause)
			}
			b.WriteString("}\n")
		}
	}
	return b.String()
}

// nth is an address of a network.
func nth(network netip.Prefix, n int) netip.Addr {
	a := network.Addr().As4()
	a[2], a[3] = byte(n/250), byte(1+n%250)
	return netip.AddrFrom4(a)
}
