package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCompare(t *testing.T) {
	const same = `
router VI_1 eth0 51 10.1.0.1,10.1.0.2
service tcp/10.1.0.1:80 rr
server 10.0.0.2:80 tcp
server 10.0.0.3:80 tcp`
	for _, tt := range []struct{ name, a, b, want string }{
		{"equal", same, same, ""},
		{
			"router", same, strings.ReplaceAll(same, "10.1.0.1,10.1.0.2", "10.1.0.1/24,10.1.0.3 prio=90 state=BACKUP pass=x"),
			"virtual_router VI_1|priority|priority 100|priority 90\n" +
				"virtual_router VI_1|virtual_ipaddress 10.1.0.1|10.1.0.1/32|10.1.0.1/24\n" +
				"virtual_router VI_1|virtual_ipaddress 10.1.0.2|10.1.0.2/32|\n" +
				"virtual_router VI_1|virtual_ipaddress 10.1.0.3||10.1.0.3/32\n" +
				"virtual_router VI_1|state||state BACKUP\n" +
				"virtual_router VI_1|auth_pass||auth_pass ***\n",
		},
		{
			"order of addresses", same, strings.ReplaceAll(same, "10.1.0.1,10.1.0.2", "10.1.0.2,10.1.0.1"),
			"virtual_router VI_1|virtual_ipaddress|order 10.1.0.1/32; 10.1.0.2/32|order 10.1.0.2/32; 10.1.0.1/32\n",
		},
		{
			"service", same, strings.ReplaceAll(same, "80 rr", "80 wrr persist=300s"),
			"virtual_server tcp/10.1.0.1:80|scheduler|scheduler rr|scheduler wrr\n" +
				"virtual_server tcp/10.1.0.1:80|persistence||persistence 5m0s\n",
		},
		{
			"server missing, globals", "globals router_id=A" + same, "globals router_id=B" + strings.ReplaceAll(same, "\nserver 10.0.0.3:80 tcp", "\nserver 10.0.0.4:80"),
			"global_defs|router_id|router_id A|router_id B\n" +
				"virtual_server tcp/10.1.0.1:80 > real_server 10.0.0.3:80||weight 1, check tcp connect_timeout 3s retry 3 delay_before_retry 3s delay_loop 6s warmup 6s|\n" +
				"virtual_server tcp/10.1.0.1:80 > real_server 10.0.0.4:80|||weight 1\n",
		},
		{
			"order of servers", same, strings.ReplaceAll(same, "\nserver 10.0.0.2:80 tcp", "") + "\nserver 10.0.0.2:80 tcp",
			"virtual_server tcp/10.1.0.1:80|order|order 10.0.0.2:80, 10.0.0.3:80|order 10.0.0.3:80, 10.0.0.2:80\n",
		},
		{"globals in one only", "globals router_id=A" + same, same[1:], "global_defs|router_id|router_id A|\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			read := func(s string) Config { return parseConfig(t, strings.Split(strings.Trim(s, "\n"), "\n")) }
			var b strings.Builder
			for _, d := range Compare(read(tt.a), read(tt.b)) {
				fmt.Fprintf(&b, "%s|%s|%s|%s\n", d.Path, d.Field, d.A, d.B)
			}
			if sortLines(b.String()) != sortLines(tt.want) {
				t.Errorf("got\n%swant\n%s", b.String(), tt.want)
			}
		})
	}
}

func sortLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Two configurations differ for people exactly where an apply would change one
// into the other.
func TestCompareFindsWhatDiffFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawConfig(t)
		b := drawConfig(t)
		if rapid.Bool().Draw(t, "equal") {
			b = a
		}
		if found, changes := Compare(a, b), DiffConfigs(a, b); (len(found) > 0) != (len(changes) > 0) {
			t.Fatalf("compared: %v, changes: %v", found, changes)
		}
	})
}
