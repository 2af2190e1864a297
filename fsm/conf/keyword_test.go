package conf

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// Parts from which the tests below put files together: a router and a service
// that are right, with a line to vary.
func routerWith(line string) string {
	return "vrrp_instance V {\ninterface eth0\nvirtual_router_id 5\npriority 90\n" + line + "\nvirtual_ipaddress {\n10.0.0.100\n}\n}\n"
}

func serviceWith(line string) string {
	return "virtual_server 10.0.0.100 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\ndelay_loop 7\n" + line + "\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n}\n}\n}\n"
}

func serverWith(line string) string {
	return "virtual_server 10.0.0.100 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\ndelay_loop 7\nreal_server 10.0.0.2 80 {\n" + line + "\nTCP_CHECK {\n}\n}\n}\n"
}

func checkWith(line string) string {
	return "virtual_server 10.0.0.100 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\ndelay_loop 7\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n" + line + "\n}\n}\n}\n"
}

func globalWith(line string) string { return "global_defs {\n" + line + "\n}\n" }

// TestKeywords: what each keyword makes of each value.
func TestKeywords(t *testing.T) {
	for _, c := range []struct {
		text string
		get  func(fsm.Config) any
		want any
	}{
		{globalWith("router_id LVS_1"), func(c fsm.Config) any { return c.Globals.RouterID }, "LVS_1"},
		{globalWith("notification_email {\na@b\nc@d\n}"), func(c fsm.Config) any { return c.Globals.NotificationEmail }, "[a@b c@d]"},
		{globalWith("notification_email { a@b }"), func(c fsm.Config) any { return c.Globals.NotificationEmail }, "[a@b]"},
		{globalWith("notification_email_from x@y"), func(c fsm.Config) any { return c.Globals.EmailFrom }, "x@y"},
		{globalWith("smtp_server mail.example"), func(c fsm.Config) any { return c.Globals.SMTPServer }, "mail.example"},
		{globalWith("smtp_server 127.0.0.1 2525"), func(c fsm.Config) any { return c.Globals.SMTPServer }, "127.0.0.1:2525"},
		{globalWith("smtp_helo_name lb.example"), func(c fsm.Config) any { return c.Globals.SMTPHelo }, "lb.example"},
		{globalWith("notify_fifo /run/a root"), func(c fsm.Config) any { return *c.Globals.FIFOs.All }, "{/run/a root <nil>}"},
		{globalWith("lvs_notify_fifo_script \"/bin/x y\" u g\nlvs_notify_fifo /run/l"), func(c fsm.Config) any {
			return c.Globals.FIFOs.LVS.Path + c.Globals.FIFOs.LVS.Script.Command + c.Globals.FIFOs.LVS.Script.User
		}, "/run/l/bin/x yu:g"},
		{globalWith("script_user nobody\nvrrp_notify_fifo /run/v"), func(c fsm.Config) any { return *c.Globals.FIFOs.VRRP }, "{/run/v nobody <nil>}"},
		{serviceWith("quorum_up \"/bin/up a\"\nquorum_down /bin/down u"), func(c fsm.Config) any { return fmt.Sprint(*c.Services[0].Notify.Up, *c.Services[0].Notify.Down) }, "{/bin/up a } {/bin/down u}"},
		{serverWith("notify_up /bin/up\nnotify_down \"/bin/down 'x y'\""), func(c fsm.Config) any {
			return fmt.Sprint(*c.Services[0].RealServers[0].Notify.Up, *c.Services[0].RealServers[0].Notify.Down)
		}, "{/bin/up } {/bin/down 'x y' }"},
		{globalWith("no_email_faults"), func(c fsm.Config) any { return c.Globals.NoEmailFaults }, true},
		{globalWith("smtp_connect_timeout 30"), func(c fsm.Config) any { return c.Globals.SMTPTimeout }, "30s"},
		{globalWith("vrrp_skip_check_adv_addr"), func(c fsm.Config) any { return c.Globals.SkipCheckAdvAddr }, true},
		{globalWith("vrrp_skip_check_adv_addr") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Peering.SkipCheckAdvAddr }, true},
		{routerWith("skip_check_adv_addr off") + globalWith("vrrp_skip_check_adv_addr"), func(c fsm.Config) any { return c.Routers[0].Peering.SkipCheckAdvAddr }, false},
		{routerWith("use_vmac"), func(c fsm.Config) any { return *c.Routers[0].VMAC }, "{ false}"},
		{routerWith("vmac_xmit_base\nuse_vmac vip0"), func(c fsm.Config) any { return *c.Routers[0].VMAC }, "{vip0 true}"},
		{globalWith("vrrp_skip_check_adv_addr off"), func(c fsm.Config) any { return c.Globals.SkipCheckAdvAddr }, false},
		{globalWith("vrrp_garp_interval 0"), func(c fsm.Config) any { return c.Globals.GARPInterval }, "0s"},
		{globalWith("vrrp_garp_interval 0.001"), func(c fsm.Config) any { return c.Globals.GARPInterval }, "1ms"},
		{globalWith("vrrp_gna_interval 1.5"), func(c fsm.Config) any { return c.Globals.GNAInterval }, "1.5s"},
		{globalWith("lvs_sync_daemon eth1"), syncOf, "eth1 id 0"},
		{globalWith("lvs_sync_daemon eth1 V") + routerWith(""), syncOf, "eth1 inst V id 5"},
		{routerWith("") + globalWith("lvs_sync_daemon eth1 V 9"), syncOf, "eth1 inst V id 9"},
		{globalWith("lvs_sync_daemon eth1 id 0 inst V") + routerWith(""), syncOf, "eth1 inst V id 0"},
		{globalWith("lvs_sync_daemon eth1 id 7 maxlen 1400 port 99 ttl 3 group 239.1.1.1"), syncOf, "eth1 id 7 maxlen 1400 port 99 ttl 3 group 239.1.1.1"},
		{globalWith("lvs_sync_daemon eth1 group ff02::81"), syncOf, "eth1 id 0 group ff02::81"},
		{globalWith("lvs_timeouts tcp 7200 tcpfin 30 udp 60"), func(c fsm.Config) any {
			v := c.Globals.IPVS
			return fmt.Sprint(v.TCPTimeout, v.TCPFINTimeout, v.UDPTimeout)
		}, "2h0m0s 30s 1m0s"},
		{globalWith("vrrp_version 2") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Version }, 2},

		{routerWith(""), func(c fsm.Config) any { return c.Routers[0].Name }, "V"},
		{routerWith(""), func(c fsm.Config) any { return c.Routers[0].AdvertInterval }, "1s"},
		{routerWith(""), func(c fsm.Config) any { return c.Routers[0].VRID }, 5},
		{globalWith("default_interface bond1") + strings.Replace(routerWith(""), "interface eth0", "", 1), func(c fsm.Config) any { return c.Routers[0].Interface }, "bond1"},
		{globalWith("default_interface bond1") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Interface }, "eth0"},
		{routerWith("state BACKUP"), func(c fsm.Config) any { return c.Routers[0].Initial }, "BACKUP"},
		{routerWith("state MASTER"), func(c fsm.Config) any { return c.Routers[0].Priority }, 90},
		{routerWith("nopreempt"), func(c fsm.Config) any { return c.Routers[0].Peering.NoPreempt }, true},
		{routerWith("nopreempt\npreempt"), func(c fsm.Config) any { return c.Routers[0].Peering.NoPreempt }, false},
		{routerWith("state MASTER\nnopreempt"), func(c fsm.Config) any { return c.Routers[0].Peering.NoPreempt }, false},
		{routerWith("preempt_delay 30"), func(c fsm.Config) any { return c.Routers[0].Peering.PreemptDelay }, "30s"},
		{routerWith("unicast_peer {\n10.0.0.2\n10.0.0.3 min_ttl 5 max_ttl 7\n}"), func(c fsm.Config) any { return c.Routers[0].Peering.Peers }, "[{10.0.0.2 0 0} {10.0.0.3 5 7}]"},
		{routerWith("unicast_peer {\n10.0.0.2\n}"), func(c fsm.Config) any { return c.Routers[0].Peering.Unicast }, true},
		{routerWith("@lbcluster lbcluster_peers 10.0.0.2 10.0.0.3"), func(c fsm.Config) any { return c.Routers[0].Peering.Peers }, "[{10.0.0.2 0 0} {10.0.0.3 0 0}]"},
		{routerWith("lbcluster_peers 10.0.0.2"), func(c fsm.Config) any { return c.Routers[0].Peering.Unicast }, false},
		{routerWith("unicast_src_ip 10.0.0.1"), func(c fsm.Config) any { return c.Routers[0].Peering.Source }, "10.0.0.1"},
		{routerWith("mcast_src_ip 10.0.0.1"), func(c fsm.Config) any { return c.Routers[0].Peering.Source }, "10.0.0.1"},
		{routerWith("down_timer_adverts 5"), func(c fsm.Config) any { return c.Routers[0].Peering.DownTimerAdverts }, 5},
		{globalWith("vrrp_down_timer_adverts 5") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Peering.DownTimerAdverts }, 5},
		{globalWith("vrrp_lower_prio_no_advert") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Peering.LowerPrioNoAdvert }, true},
		{globalWith("vrrp_lower_prio_no_advert") + routerWith("lower_prio_no_advert off"), func(c fsm.Config) any { return c.Routers[0].Peering.LowerPrioNoAdvert }, false},
		{globalWith("vrrp_startup_delay 2.5") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Peering.StartupDelay }, "2.5s"},
		{globalWith("vrrp_strict") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Peering.LowerPrioNoAdvert }, true},
		{globalWith("vrrp_min_garp") + routerWith(""), func(c fsm.Config) any { return c.Routers[0].Peering.GARP }, "{1 0s 0s 1 1 0s}"},
		{routerWith("garp_master_repeat 2"), func(c fsm.Config) any { return c.Routers[0].Peering.GARP }, "{2 5s 0s 1 5 5s}"},
		{globalWith("vrrp_garp_master_delay 3\nvrrp_garp_master_refresh 60") + routerWith("garp_lower_prio_repeat 1"), func(c fsm.Config) any { return c.Routers[0].Peering.GARP }, "{5 3s 1m0s 1 1 3s}"},
		{routerWith("version 3\nv3_checksum_as_v2"), func(c fsm.Config) any { return c.Routers[0].Peering.V3ChecksumAsV2 }, true},
		{routerWith("v3_checksum_as_v2"), func(c fsm.Config) any { return c.Routers[0].Peering.V3ChecksumAsV2 }, false},
		{routerWith("virtual_ipaddress_excluded {\n2001:db8::9\n}"), func(c fsm.Config) any { return c.Routers[0].Addresses }, "[{10.0.0.100/32   false} {2001:db8::9/128   true}]"},
		{routerWith("virtual_ipaddress_excluded {\n2001:db8::9\n}"), func(c fsm.Config) any { return c.Routers[0].Version }, 2},
		{routerWith("advert_int 3"), func(c fsm.Config) any { return c.Routers[0].AdvertInterval }, "3s"},
		{routerWith("advert_int 1.6"), func(c fsm.Config) any { return c.Routers[0].AdvertInterval }, "2s"},
		{routerWith("advert_int 0.2"), func(c fsm.Config) any { return c.Routers[0].AdvertInterval }, "1s"},
		{routerWith("version 2"), func(c fsm.Config) any { return c.Routers[0].Version }, 2},
		{routerWith("interface bond0.7"), func(c fsm.Config) any { return c.Routers[0].Interface }, "bond0.7"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass secret\n}"), func(c fsm.Config) any { return c.Routers[0].AuthPass }, "secret"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass longersecret\n}"), func(c fsm.Config) any { return c.Routers[0].AuthPass }, "longerse"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass k@l!ve1\n}"), func(c fsm.Config) any { return c.Routers[0].AuthPass }, "k@l"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass \"k@l!ve1\"\n}"), func(c fsm.Config) any { return c.Routers[0].AuthPass }, "k@l!ve1"},
		{routerWith(`authentication {` + "\nauth_type PASS\n" + `auth_pass a\#b\!c` + "\n}"), func(c fsm.Config) any { return c.Routers[0].AuthPass }, "a#b!c"},
		{routerWith("authentication{auth_type PASS\nauth_pass \"a b{}\"}"), func(c fsm.Config) any { return c.Routers[0].AuthPass }, "a b{}"},
		{routerWith("virtual_ipaddress {\n10.0.0.7/24 brd 10.0.0.255 dev eth1 scope global label eth1:7\n}"),
			func(c fsm.Config) any { return c.Routers[0].Addresses[0] }, "{10.0.0.7/24 eth1 eth1:7 false}"},
		{routerWith("virtual_ipaddress {\n10.0.0.7 dev eth1\n}"), func(c fsm.Config) any { return c.Routers[0].Addresses }, "[{10.0.0.7/32 eth1  false} {10.0.0.100/32   false}]"},

		{serviceWith(""), func(c fsm.Config) any { return c.Services[0].ServiceKey }, "tcp/10.0.0.100:80"},
		{serviceWith("lvs_sched wrr"), func(c fsm.Config) any { return c.Services[0].Scheduler }, "wrr"},
		{serviceWith("lvs_method DR"), func(c fsm.Config) any { return c.Services[0].Method }, "dr"},
		{serviceWith("protocol udp"), func(c fsm.Config) any { return c.Services[0].Protocol }, "udp"},
		{serviceWith("persistence_timeout 50"), func(c fsm.Config) any { return c.Services[0].Persistence }, "50s"},
		{serviceWith("persistence_timeout"), func(c fsm.Config) any { return c.Services[0].Persistence }, "6m0s"},
		{serviceWith("persistence_timeout 50"), func(c fsm.Config) any { return c.Services[0].PersistenceMask }, 32},
		{serviceWith("persistence_timeout 50\npersistence_granularity 255.255.255.0"), func(c fsm.Config) any { return c.Services[0].PersistenceMask }, 24},
		{serviceWith("inhibit_on_failure"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Inhibit }, true},
		{serviceWith("weight 4"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Weight }, 4},

		{serverWith(""), func(c fsm.Config) any { return c.Services[0].RealServers[0].Weight }, 1},
		{serverWith("weight 0"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Weight }, 0},
		{serverWith("weight 65535"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Weight }, 65535},
		{serverWith("}\nreal_server 10.0.0.3 80 {\nweight 0\n@lbcluster lbcluster_backup 7"), func(c fsm.Config) any { r := c.Services[0].RealServers[1]; return []any{r.Weight, r.Backup} }, "[7 true]"},
		{serverWith("FILE_CHECK {\ntrack_file f\n}\nFILE_CHECK {\ntrack_file f\nweight 3 reverse\n}") + "track_file f {\nfile /run/f\nweight -2\n}\n", func(c fsm.Config) any {
			checks := c.Services[0].RealServers[0].Checks
			return []any{*checks[0].File, *checks[1].File}
		}, "[{/run/f -2 false} {/run/f 3 true}]"},
		{serverWith("TCP_CHECK {\n@lbcluster lbcluster_dsr 10.0.0.100 80\n}"), func(c fsm.Config) any { k := c.Services[0].RealServers[0].Checks[0]; return []any{k.DSR, k.Dest} }, "[true 10.0.0.100:80]"},
		{serverWith("inhibit_on_failure"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Inhibit }, true},
		{serverWith("inhibit_on_failure no"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Inhibit }, false},
		{serverWith("uthreshold 100\nlthreshold 50"), func(c fsm.Config) any { return c.Services[0].RealServers[0].UpperThreshold }, 100},
		{serverWith("uthreshold 100\nlthreshold 50"), func(c fsm.Config) any { return c.Services[0].RealServers[0].LowerThreshold }, 50},
		{serverWith("lb_kind DR"), func(c fsm.Config) any { return c.Services[0].Method }, "dr"},
		{serverWith("TCP_CHECK {\nconnect_port 81\n}"), func(c fsm.Config) any { return len(c.Services[0].RealServers[0].Checks) }, 2},

		{checkWith("connect_ip 10.9.9.9"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Dest }, "10.9.9.9:80"},
		{checkWith("connect_port 8080"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Dest }, "10.0.0.2:8080"},
		{checkWith("connect_port 8080\nconnect_ip 10.9.9.9"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Dest }, "10.9.9.9:8080"},
		{checkWith("bindto 10.0.0.11"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Bind }, "10.0.0.11"},
		{checkWith("connect_timeout 0.5"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].ConnectTimeout }, "500ms"},
		{checkWith("retry 0"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Retry }, 0},
		{checkWith("delay_before_retry 2"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].DelayBeforeRetry }, "2s"},
		{checkWith("delay_loop 11"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].DelayLoop }, "11s"},
		{checkWith("delay_loop 11"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Warmup }, "11s"},
		{checkWith("warmup 0"), func(c fsm.Config) any { return c.Services[0].RealServers[0].Checks[0].Warmup }, "0s"},
	} {
		r, problems := read(c.text)
		if len(problems) > 0 {
			t.Errorf("%s\n%s", c.text, lines(problems))
			continue
		}
		if got := fmt.Sprint(c.get(r.Config)); got != fmt.Sprint(c.want) {
			t.Errorf("%s\ngot %s, want %v", c.text, got, c.want)
		}
	}
}

func syncOf(c fsm.Config) any { return *c.Globals.IPVS.Sync }

// TestErrors: each wrong line is one problem, at its own line, with its keyword.
// In the files made by routerWith the varied line is 5, serviceWith 6,
// serverWith 7, checkWith 8, globalWith 2.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		text    string
		line    int
		keyword string
		says    string
	}{
		{globalWith("lvs_timeouts tcp 9s"), 2, "lvs_timeouts", "not a whole number"},
		{globalWith("lvs_timeouts tcp"), 2, "lvs_timeouts", "needs a number of seconds"},
		{globalWith("lvs_timeouts http"), 2, "lvs_timeouts", `unknown option "http"`},
		{globalWith("lvs_timeouts udp 2678401"), 2, "lvs_timeouts", "from 0 to 2678400"},
		{globalWith("lvs_sync_daemon"), 2, "lvs_sync_daemon", "needs"},
		{globalWith("lvs_sync_daemon eth1 V"), 2, "lvs_sync_daemon", `no vrrp_instance "V"`},
		{globalWith("lvs_sync_daemon eth1 id 256"), 2, "lvs_sync_daemon", "from 0 to 255"},
		{globalWith("lvs_sync_daemon eth1 id"), 2, "lvs_sync_daemon", "id needs a value"},
		{globalWith("lvs_sync_daemon eth1 maxlen 0"), 2, "lvs_sync_daemon", "from 1 to 65507"},
		{globalWith("lvs_sync_daemon eth1 group 10.0.0.1"), 2, "lvs_sync_daemon", "not a multicast address"},
		{globalWith("lvs_sync_daemon eth1 id 1 loud"), 2, "lvs_sync_daemon", `unknown option "loud"`},
		{globalWith("lvs_sync_daemon eth1\nlvs_sync_daemon eth2"), 3, "lvs_sync_daemon", "said before in line 2"},
		{globalWith("lvs_sync_daemon a-name-that-is-too-long"), 2, "lvs_sync_daemon", "is no interface name"},
		{globalWith("vrrp_strikt"), 2, "vrrp_strikt", "unknown keyword in global_defs"},
		{globalWith("vrrp_version 4"), 2, "vrrp_version", "2 or 3"},
		{globalWith("smtp_connect_timeout soon"), 2, "smtp_connect_timeout", "not a number of seconds"},
		{globalWith("smtp_connect_timeout 0"), 2, "smtp_connect_timeout", "at least"},
		{globalWith("smtp_server a 99999"), 2, "smtp_server", "from 1 to 65535"},
		{globalWith("router_id"), 2, "router_id", "needs one value"},
		{globalWith("router_id a b"), 2, "router_id", `not also "b"`},
		{globalWith("notification_email a@b"), 2, "notification_email", "{ is missing"},
		{globalWith("notification_email {\na@b {\n}\n}"), 3, "a@b", "no block"},
		{globalWith("vrrp_skip_check_adv_addr maybe"), 2, "vrrp_skip_check_adv_addr", "not one of on, off"},
		{globalWith("virtual_router_id 100"), 2, "virtual_router_id", "belongs in vrrp_instance"},
		{"global_defs\n", 1, "global_defs", "{ is missing"},
		{"global_defs x {\n}\n", 1, "global_defs", "takes nothing"},
		{"vrrp_sync_group G {\ngroup {\nV\n}\n}\n", 1, "vrrp_sync_group", "no such virtual router"},
		{"vrrp_sync_group G {\n}\n", 1, "vrrp_sync_group", "names no vrrp_instance"},
		{"vrrp_script s {\ninterval 2\n}\n", 1, "vrrp_script", "s has no script"},
		{"vrrp_script s {\nscript x\nrise 0\n}\n", 3, "rise", "from 1 to 1000"},
		{"vrrp_script s {\nscript x\nweight 254\n}\n", 3, "weight", "from -253 to 253"},
		{"vrrp_script s {\nscript x\nweight 2 backwards\n}\n", 3, "weight", "neither reverse nor noreverse"},
		{"vrrp_script s {\nscript x\n}\nvrrp_script s {\nscript y\n}\n", 4, "vrrp_script", "already in line 1"},
		{"track_file f {\n}\n", 1, "track_file", "f has no file"},
		{"vrrp_track_process p {\nprocess nginx\nparam_match initial\n}\n", 3, "param_match", "full_command"},

		{"virtual_servr 10.0.0.1 80 {\nfoo\nbar {\n}\n}\n", 1, "virtual_servr", "unknown keyword"},

		{routerWith("virtual_router_id 0"), 5, "virtual_router_id", "from 1 to 255"},
		{routerWith("virtual_router_id 256"), 5, "virtual_router_id", "from 1 to 255"},
		{routerWith("priority high"), 5, "priority", "from 1 to 255"},
		{routerWith("state FAULT"), 5, "state", "neither MASTER nor BACKUP"},
		{routerWith("advert_int 300"), 5, "advert_int", "at most 255"},
		{routerWith("advert_int -1"), 5, "advert_int", "not a number of seconds"},
		{routerWith("advert_int 0.0001"), 5, "advert_int", "at least 10ms"},
		{routerWith("unicast_peer {\n10.0.0.2 ttl 3\n}"), 6, "10.0.0.2", "min_ttl N and max_ttl N"},
		{routerWith("unicast_peer {\n10.0.0.2 min_ttl 300\n}"), 6, "10.0.0.2", "300"},
		{routerWith("unicast_peer {\n2001:db8::1\n}"), 6, "unicast_peer", "the adverts are IPv4"},
		{routerWith("unicast_peer {\n10.0.0.2\n10.0.0.2\n}"), 7, "unicast_peer", "there twice"},
		{routerWith("unicast_peer {\n10.0.0.2 min_ttl 9 max_ttl 3\n}"), 6, "unicast_peer", "above max_ttl"},
		{routerWith("unicast_peer {\n}"), 5, "unicast_peer", "nobody would hear"},
		{routerWith("use_vmac vip0 00:00:5e:00:01:07"), 5, "use_vmac", "takes the name of the interface and nothing else"},
		{routerWith("use_vmac_addr"), 5, "use_vmac_addr", "leave dev out"},
		{routerWith("auth_hmac {\nkey 1 x\n}"), 5, "auth_hmac", "auth_type PASS or none"},
		{routerWith("mcast_dst_ip 224.0.0.20"), 5, "mcast_dst_ip", "is not supported"},
		{routerWith("strict_mode\nunicast_peer {\n10.0.0.2\n}"), 5, "strict_mode", "knows no unicast_peer"},
		{routerWith("preempt_delay 1001"), 5, "preempt_delay", "not within"},
		{routerWith("down_timer_adverts 101"), 5, "down_timer_adverts", "101"},
		{routerWith("mcast_src_ip 2001:db8::1"), 5, "mcast_src_ip", "the adverts are IPv4"},
		{routerWith("notify_master"), 5, "notify_master", "needs one value"},
		{routerWith("notify_master \" \""), 5, "notify_master", "names no program"},
		{routerWith("notify_deleted /bin/true"), 5, "notify_deleted", "not supported yet"},
		{routerWith("track_script {\nnone\n}"), 6, "track_script", "there is no vrrp_script none"},
		{routerWith("track_interface {\neth1 weigth 5\n}"), 6, "eth1", "weight N"},
		{routerWith("track_interface {\neth1 weight 300\n}"), 6, "eth1", "from -253 to 253"},
		{routerWith("interface averyveryverylongname"), 5, "interface", "no interface name"},
		{routerWith("authentication {\nauth_type AH\nauth_pass x\n}"), 6, "auth_type", "use PASS"},
		{routerWith("authentication {\nauth_type NONE\n}"), 6, "auth_type", "neither PASS nor AH"},
		{routerWith("authentication {\nauth_type PASS\n}"), 5, "authentication", "auth_pass is missing"},
		{routerWith("authentication {\nauth_pass x\n}"), 5, "authentication", "auth_type is missing"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass \"\"\n}"), 7, "auth_pass", "empty"},
		{routerWith("virtual_ipaddress {\nten\n}"), 6, "ten", "not an IP address"},
		{routerWith("virtual_ipaddress {\n10.0.0.1/33\n}"), 6, "10.0.0.1/33", "prefix length"},
		{routerWith("virtual_ipaddress {\nfd00::1\n}"), 9, "virtual_ipaddress", "one family"},
		{routerWith("virtual_ipaddress {\nfe80::1%eth0\n}"), 6, "fe80::1%eth0", "not a plain"},
		{routerWith("virtual_ipaddress {\n10.0.0.1 dev\n}"), 6, "dev", "needs one value"},
		{routerWith("virtual_ipaddress {\n10.0.0.1 no_track\n}"), 6, "no_track", "not supported yet"},
		{routerWith("virtual_ipaddress {\n10.0.0.1 scope link\n}"), 6, "scope", "not supported yet"},
		{routerWith("virtual_ipaddress {\n127.0.0.1\n}"), 6, "virtual_ipaddress", "127.0.0.1/32"},
		{routerWith("virtual_ipaddress {\n10.0.0.100\n}"), 9, "virtual_ipaddress", "twice"},
		{routerWith("") + routerWith(""), 10, "vrrp_instance", "already in line 1"},
		{"vrrp_instance V {\ninterface eth0\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n", 1, "vrrp_instance", "no virtual_router_id"},
		{"vrrp_instance V {\ninterface eth0\nvirtual_router_id 9\n}\n", 1, "vrrp_instance", "no virtual_ipaddress"},
		{"vrrp_instance V {\ninterface eth0\nvirtual_router_id 9\nvirtual_ipaddress {\n}\n}\n", 4, "virtual_ipaddress", "empty"},
		{"vrrp_instance V {\ninterface eth0\nvirtual_router_id 9\nvirtual_ipaddress {\nten\n}\n}\n", 5, "ten", "not an IP address"},

		{serviceWith("lb_algo fastest"), 6, "lb_algo", "unknown"},
		{serviceWith("lb_kind LOCAL"), 6, "lb_kind", "DR, TUN or NAT"},
		{serviceWith("lb_kind dr"), 6, "lb_kind", "not a forwarding method"},
		{serviceWith("protocol ICMP"), 6, "protocol", "TCP, UDP or SCTP"},
		{serviceWith("ops"), 6, "ops", "UDP"},
		{serviceWith("sh-port"), 6, "sh-port", "for the scheduler sh"},
		{serviceWith("lb_algo sh\nmh-fallback"), 7, "mh-fallback", "for the scheduler mh"},
		{serviceWith("flag-1"), 6, "flag-1", "sh and mh"},
		{serviceWith("flag-3"), 6, "flag-3", "no scheduler"},
		{serviceWith("persistence_engine sip"), 6, "persistence_engine", "without persistence_timeout"},
		{serviceWith("persistence_timeout 5\npersistence_engine ftp"), 7, "persistence_engine", "sip"},
		{serviceWith("ip_family inet6"), 6, "ip_family", "not that of 10.0.0.100"},
		{serviceWith("ip_family ipv6"), 6, "ip_family", "neither inet nor inet6"},
		{serviceWith("persistence_timeout 0"), 6, "persistence_timeout", "from 1 to"},
		{serviceWith("persistence_granularity 255.255.255.0"), 6, "persistence_granularity", "without persistence_timeout"},
		{serviceWith("persistence_timeout 5\npersistence_granularity 255.0.255.0"), 7, "persistence_granularity", "ones must stand together"},
		{serviceWith("persistence_timeout 5\npersistence_granularity 24"), 7, "persistence_granularity", "not a netmask"},
		{serviceWith("delay_loop 0"), 6, "delay_loop", "at least"},
		{serviceWith("delay_loop 99999999"), 6, "delay_loop", "more than"},
		{serviceWith("delay_loop 1.0000001"), 6, "delay_loop", "finer"},
		{serviceWith("sorry_server here 80"), 6, "sorry_server", "not an IP address"},
		{serviceWith("sorry_server 10.0.0.2 80"), 6, "sorry_server", "is a real server of the same"},
		{serviceWith("sorry_server 10.0.0.100 80"), 6, "sorry_server", "is the virtual server's"},
		{serviceWith("sorry_server_inhibit"), 6, "sorry_server_inhibit", "before sorry_server"},
		{serviceWith("quorum 0"), 6, "quorum", "not a whole number from 1"},
		{globalWith("startup_script /bin/true"), 2, "startup_script", "ExecStartPre"},
		{serviceWith("weight -1"), 6, "weight", "from 0 to 65535"},
		{serviceWith("real_server 10.0.0.2 80 {\n}"), 8, "real_server", "twice"},
		{serviceWith("") + serviceWith(""), 12, "virtual_server", "twice"},
		{"virtual_server fwmark 0 {\n}\n", 1, "virtual_server", "from 1 to"},
		{"virtual_server fwmark {\n}\n", 1, "virtual_server", "needs one value"},
		{"virtual_server fwmark 1818361857 {\nlb_algo rr\nlb_kind DR\n}\n", 1, "virtual_server", "kept for lbcluster"},
		{"virtual_server group G {\nprotocol TCP\n}\n", 1, "virtual_server", "no virtual_server_group G"},
		{groupWith("10.0.0.1-"), 2, "10.0.0.1-", "no range"},
		{groupWith("10.0.0.9-8 80"), 2, "10.0.0.9-8", "no range"},
		{groupWith("10.0.0.9-256"), 2, "10.0.0.9-256", "no range"},
		{groupWith("10.0.0.9-fd00::1"), 2, "10.0.0.9-fd00::1", "no range"},
		{groupWith("10.0.0.1/24 80"), 2, "10.0.0.1/24", "10.0.0.0/24 is meant"},
		{groupWith("10.0.0.0/16 80"), 2, "10.0.0.0/16", "more than 4096"},
		{groupWith("10.0.0.1 http"), 2, "10.0.0.1", "from 0 to 65535"},
		{groupWith("10.0.0.1 80 tcp"), 2, "10.0.0.1", "takes a port"},
		{groupWith("fwmark"), 2, "fwmark", "takes a mark"},
		{groupWith("fwmark 7 ipv6"), 2, "fwmark", "neither inet nor inet6"},
		{groupWith(""), 1, "virtual_server_group", "empty"},
		{groupWith("10.0.0.1") + groupWith("10.0.0.2"), 4, "virtual_server_group", "already, in line 1"},
		{"virtual_server 10.0.0.1 http {\n}\n", 1, "virtual_server", "from 0 to 65535"},
		{"virtual_server fd00::1 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n}\n}\n}\n", 5, "real_server", "family"},

		{serverWith("weight x"), 7, "weight", "from 0 to 65535"},
		{serverWith("weight 65536"), 7, "weight", "from 0 to 65535"},
		{serverWith("uthreshold 5\nlthreshold 6"), 8, "lthreshold", "above the upper one"},
		{serverWith("lthreshold -1"), 7, "lthreshold", "whole number"},
		{serverWith("lb_kind tun"), 7, "lb_kind", "DR, TUN or NAT"},
		{serverWith("FILE_CHECK {\ntrack_file f\n}"), 8, "track_file", "there is no track_file f"},
		{serverWith("BFD_CHECK {\nname f\n}"), 7, "BFD_CHECK", "not supported"},
		{serverWith("HTTP_GETT {\nurl {\npath /\n}\n}"), 7, "HTTP_GETT", "unknown keyword in real_server"},
		{serverWith("FILE_CHECK {\n}"), 7, "FILE_CHECK", "names no track_file"},
		{serverWith("FILE_CHECK {\ntrack_file f\nweight 65536\n}") + "track_file f {\nfile /run/f\n}\n", 9, "weight", "from -65535 to 65535"},
		{serverWith("lb_algo rr"), 7, "lb_algo", "belongs in virtual_server"},
		{serverWith("delay_loop 5 {\n}"), 7, "delay_loop", "takes no block"},

		{checkWith("connect_port 0"), 8, "connect_port", "from 1 to 65535"},
		{checkWith("connect_ip host"), 8, "connect_ip", "not an IP address"},
		{checkWith("bindto fd00::1"), 7, "TCP_CHECK", "family"},
		{checkWith("connect_timeout 0"), 8, "connect_timeout", "at least"},
		{checkWith("retry 1001"), 8, "retry", "from 0 to 1000"},
		{checkWith("retry 1.5"), 8, "retry", "whole number"},
		{serverWith("HTTP_GET {\n}"), 7, "HTTP_GET", "asks for 0 URLs"},
		{serverWith("HTTP_GET {\nurl {\nstatus_code 200\n}\nurl {\npath /\n}\n}"), 8, "url", "no path"},
		{serverWith("HTTP_GET {\nurl {\npath /\nstatus_code 200 99\n}\n}"), 10, "status_code", "no status code"},
		{serverWith("HTTP_GET {\nurl {\npath /\ndigest abc\n}\n}"), 7, "HTTP_GET", "32 lower case hex digits"},
		{serverWith("HTTP_GET {\nurl {\npath /\nregex \"(?<=a)b\"\n}\n}"), 7, "HTTP_GET", "RE2"},
		{serverWith("HTTP_GET {\nurl {\npath /\nregex a\nregex_options anchored\n}\n}"), 11, "regex_options", "not supported"},
		{serverWith("HTTP_GET {\nhttp_protocol 2\nurl {\npath /\n}\n}"), 8, "http_protocol", "none of 1.0"},
		{serverWith("MISC_CHECK {\n}"), 7, "MISC_CHECK", "names no program"},
		{serverWith("MISC_CHECK {\nmisc_path /bin/true\nmisc_dynamic 1\n}"), 9, "misc_dynamic", "takes no"},
		{serverWith("DNS_CHECK {\ntype HINFO\n}"), 7, "DNS_CHECK", "is none of A, NS"},
		{serverWith("DNS_CHECK {\nname a..b\n}"), 7, "DNS_CHECK", "empty label"},
		{serverWith("UDP_CHECK {\npayload 0g\n}"), 8, "payload", "is not hex"},
		{checkWith("bind_if eth0/1"), 7, "TCP_CHECK", "no interface name"},
		{checkWith("connect_timeout 3 retry 3"), 8, "connect_timeout", `not also "retry 3"`},
		{checkWith("connect_ip 224.0.0.1"), 7, "TCP_CHECK", "224.0.0.1"},
	} {
		_, problems := read(c.text)
		if len(problems) != 1 {
			t.Errorf("%s\nwant one problem (%s), got:\n%s", c.text, c.says, lines(problems))
			continue
		}
		if p := problems[0]; p.File != "f" || p.Line != c.line || p.Keyword != c.keyword || !strings.Contains(p.Text, c.says) {
			t.Errorf("%s\ngot %s\nwant line %d, keyword %s: ...%s...", c.text, p, c.line, c.keyword, c.says)
		}
	}
}

// TestAllInOneRun: every problem of a file is told at once, in its order.
func TestAllInOneRun(t *testing.T) {
	_, problems := read(strings.Join([]string{
		"global_defs {", "  lvs_timeouts", "}",
		"vrrp_instance A {", "  interface eth0", "  virtual_router_id 7", "  garlic 1", "  virtual_ipaddress {", "    10.0.0.1", "  }", "}",
		"vrrp_instance B {", "  interface eth0", "  virtual_router_id 7", "  virtual_ipaddress {", "    10.0.0.1", "  }", "}",
		"virtual_server 10.0.0.1 80 {", "  lb_kind NOT", "  protocol TCP", "  lb_algo fast",
		"  real_server 10.0.0.2 80 {", "    weight heavy", "  }", "  real_server 10.0.0.2 80 {", "  }", "}", "}",
	}, "\n"))
	want := []string{"2 lvs_timeouts", "7 garlic", "14 virtual_router_id", "16 virtual_ipaddress", "20 lb_kind", "22 lb_algo",
		"24 weight", "26 real_server", "29 }"}
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprint(p.Line, " ", p.Keyword))
	}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("got %s", lines(problems))
	}
}

// TestInheritance: a timer comes from the checker, the real server, the virtual
// server or keepalived's default, in that order, wherever in its block it stands.
func TestInheritance(t *testing.T) {
	sec := func(n float64) fsm.Duration { return fsm.Duration(n * float64(time.Second)) }
	for _, c := range []struct {
		name, service, server, check string
		want                         fsm.Check
	}{
		{"keepalived's defaults", "", "", "", fsm.Check{ConnectTimeout: sec(5), Retry: 1, DelayBeforeRetry: sec(1), DelayLoop: sec(60), Warmup: sec(60)}},
		{"virtual server", "connect_timeout 2\nretry 5\ndelay_before_retry 4\ndelay_loop 9\nwarmup 8", "", "",
			fsm.Check{ConnectTimeout: sec(2), Retry: 5, DelayBeforeRetry: sec(4), DelayLoop: sec(9), Warmup: sec(8)}},
		{"real server over virtual server", "retry 5\ndelay_loop 9", "retry 0\ndelay_loop 3", "",
			fsm.Check{ConnectTimeout: sec(5), Retry: 0, DelayBeforeRetry: sec(1), DelayLoop: sec(3), Warmup: sec(3)}},
		{"checker over all", "retry 5\nwarmup 1", "retry 4\nwarmup 2", "retry 3\nwarmup 0",
			fsm.Check{ConnectTimeout: sec(5), Retry: 3, DelayBeforeRetry: sec(1), DelayLoop: sec(60), Warmup: 0}},
		{"warmup of the virtual server, loop of the checker", "warmup 5", "", "delay_loop 2",
			fsm.Check{ConnectTimeout: sec(5), Retry: 1, DelayBeforeRetry: sec(1), DelayLoop: sec(2), Warmup: sec(5)}},
	} {
		text := fmt.Sprintf("virtual_server 10.0.0.1 80 {\nlb_kind DR\nprotocol TCP\nlb_algo rr\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n%s\n}\n%s\n}\n%s\n}\n", c.check, c.server, c.service)
		r, problems := read(text)
		if len(problems) > 0 {
			t.Errorf("%s: %s", c.name, lines(problems))
			continue
		}
		c.want.Kind, c.want.Dest = fsm.CheckTCP, netip.MustParseAddrPort("10.0.0.2:80")
		if got := r.Config.Services[0].RealServers[0].Checks[0]; got != c.want {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
}

// TestNotices: what is accepted, but should be known.
func TestNotices(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
		says string
	}{
		{globalWith("smtp_server a"), 2, "no mail is sent"},
		{routerWith("vmac_xmit_base"), 5, "no meaning without use_vmac"},
		{globalWith("router_id a\nrouter_id b"), 3, "the last one counts"},
		{routerWith("state MASTER"), 5, "lease decides"},
		{routerWith("advert_int 1.2"), 5, "taken as 1"},
		{routerWith("version 3\nadvert_int 0.123"), 6, "taken as 0.12"},
		{routerWith("version 3\nauthentication {\nauth_type PASS\nauth_pass x\n}"), 8, "no password"},
		{routerWith("nopreempt"), 5, "none are listed"},
		{globalWith("enable_script_security") + routerWith(""), 2, "not kept"},
		{globalWith("vrrp_version 2") + "vrrp_instance V {\ninterface eth0\nvirtual_router_id 5\npriority 9\nvirtual_ipaddress {\nfd00::1\n}\n}\n", 4, "version 3"},
		{"vrrp_script s {\nscript x\n}\n" + routerWith(""), 1, "not used"},
		{"track_file f {\nfile /x\ninit_file 0\n}\n" + routerWith("track_file {\nf\n}"), 3, "not acted on"},
		{"vrrp_script s {\nscript x\n}\n" + routerWith("track_script {\ns\ns weight 3\n}"), 10, "tracked already"},
		{"vrrp_sync_group G {\ngroup {\nV\n}\nglobal_tracking\n}\n" + routerWith(""), 5, "deprecated"},
		{"vrrp_sync_group G {\ngroup {\nV\n}\n}\n" + routerWith("track_interface {\neth1 weight 5\n}"), 11, "counts as 0"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass 123456789\n}"), 7, "first 8 bytes"},
		{routerWith("authentication {\nauth_type PASS\nauth_pass a!b\n}"), 7, "comment in the middle"},
		{routerWith("virtual_ipaddress {\n10.0.0.7/24 brd +\n}"), 6, "without a broadcast"},
		{"vrrp_instance V {\nvirtual_router_id 5\npriority 9\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n", 1, "names no interface"},
		{"vrrp_instance V {\ninterface eth0\nstate MASTER\nvirtual_router_id 5\nvirtual_ipaddress {\n10.0.0.1\n}\n}\n", 1, "255"},
		{"virtual_server 10.0.0.1 80 {\nlb_kind DR\nlb_algo rr\n}\n", 1, "UDP"},
		{"virtual_server 10.0.0.1 80 {\nlb_kind DR\nprotocol TCP\n}\n", 1, "wlc"},
		{"virtual_server 10.0.0.1 80 {\nlb_kind DR\nprotocol TCP\nlb_algo rr\nreal_server 10.0.0.2 80 {\nTCP_CHECK {\n}\n}\n}\n", 1, "every 60 seconds"},
		{"virtual_server 10.0.0.1 80 {\nlb_kind DR\nprotocol TCP\nlb_algo rr\nreal_server 10.0.0.2 80 {\n}\n}\n", 5, "always taken as up"},
		{serviceWith("real_server 10.0.0.3 8080 {\nTCP_CHECK {\n}\n}"), 6, "8080 is taken as"},
		{"\n", 0, "no vrrp_instance"},
	} {
		r, problems := read(c.text)
		if len(problems) > 0 {
			t.Errorf("%s\n%s", c.text, lines(problems))
		}
		found := false
		for _, n := range r.Notices {
			found = found || n.Line == c.line && strings.Contains(n.Text, c.says)
		}
		if !found {
			t.Errorf("%s\nno notice in line %d that says %q:\n%s", c.text, c.line, c.says, lines(r.Notices))
		}
	}
}

// TestQuiet: a file without surprises has no notices.
func TestQuiet(t *testing.T) {
	for _, text := range []string{routerWith(""), serviceWith(""), checkWith("retry 2"), globalWith("vrrp_garp_interval 0") + routerWith("state BACKUP")} {
		if r, problems := read(text); len(problems)+len(r.Notices) > 0 {
			t.Errorf("%s\n%s%s", text, lines(problems), lines(r.Notices))
		}
	}
}

// TestPortFollows: with direct routing a real server has the virtual server's
// port, and is checked on the one that the file says.
func TestPortFollows(t *testing.T) {
	for args, checked := range map[string]uint16{"10.0.0.3": 80, "10.0.0.3 0": 80, "10.0.0.3 8080": 8080} {
		r, problems := read(serviceWith("real_server " + args + " {\nTCP_CHECK {\n}\n}"))
		if len(problems) > 0 {
			t.Fatal(lines(problems))
		}
		if s := r.Config.Services[0].RealServers[0]; s.Port != 80 || s.Checks[0].Dest.Port() != checked {
			t.Errorf("%s: %+v", args, s)
		}
	}
}

func groupWith(line string) string {
	return "virtual_server_group G {\n" + line + "\n}\n"
}
