package conf

import (
	"slices"
	"strings"
	"sync"

	"lbcluster/fsm"
)

// omission is a group of keepalived's keywords that the table can't hold.
type omission struct {
	words string
	// traffic: leaving the keyword out changes what happens to packets or which
	// programs run: a problem, unless the reading is lenient.
	traffic bool
	// harmless is the value with which the keyword says what is so anyway.
	harmless string
	why      string // and what lbcluster offers that is nearest
}

// omissions are by the block they are of: the first that names a keyword counts,
// and a rule for the keyword goes before all.
var omissions = map[string][]omission{
	topLevel:          topOmissions,
	"global_defs":     globalOmissions,
	"vrrp_instance":   routerOmissions,
	"vrrp_sync_group": routerOmissions,
	"virtual_server":  serviceOmissions,
	"real_server":     append(slices.Clone(checkerOmissions), serviceOmissions...),
	"TCP_CHECK":       checkOmissions, "HTTP_GET": checkOmissions, "SSL_GET": checkOmissions, "SMTP_CHECK": checkOmissions,
	"DNS_CHECK": checkOmissions, "UDP_CHECK": checkOmissions, "PING_CHECK": checkOmissions, "MISC_CHECK": checkOmissions,
	"authentication": {{words: "auth_hmac", traffic: true, why: "adverts can't be signed; PASS is what VRRP version 2 offers"}},
	"vrrp_track_process": {{words: "param_match", traffic: true,
		why: "arguments are compared as a whole; the nearest is full_command with the whole command line"}},
}

var topOmissions = []omission{
	{words: "static_ipaddress static_routes static_rules", traffic: true,
		why: "lbcluster sets no addresses, routes or rules of the host itself: put them into the host's own network configuration"},
	{words: "bfd_instance", traffic: true, why: "BFD is not spoken; the nearest is a vrrp_script that pings the neighbour"},
	{words: "track_group", traffic: true, why: "static addresses that depend on routers are not kept: put them into virtual_ipaddress"},
	{words: "interface_up_down_delays", traffic: true, why: "carrier counts at once; the nearest is track_process or vrrp_script with rise and fall"},
	{words: "garp_group", why: "gratuitous ARPs of several interfaces are not paced together"},
	{words: "linkbeat_interfaces", why: "carrier is what the kernel reports; nothing is polled"},
}

var globalOmissions = []omission{
	{words: "lvs_flush lvs_flush_on_stop lvs_flush_onstop",
		why: "the kernel's table is brought to what the cluster has, without a moment in which it is empty"},
	{words: "vrrp_garp_extra_if vrrp_vmac_garp_intvl",
		why: "when and how often a new owner announces its addresses is lbcluster's own choice"},
	{words: "vrrp_owner_ignore_adverts vrrp_notify_priority_changes log_unknown_vrids",
		why: "how adverts of others are answered is not chosen by the file; they are counted and shown in lbcluster status"},
	{words: "vrrp_delay_after_boot", why: "a director that starts takes nothing from another: it waits for a lease"},
	{words: "fifo_write_vrrp_states_on_reload", why: "a reload changes no state, and lines are written when a state changes"},
	{words: "startup_script shutdown_script startup_script_timeout shutdown_script_timeout", traffic: true,
		why: "the daemon runs no programs at its start and stop; the nearest are ExecStartPre and ExecStopPost of its systemd unit"},
	{words: "no_checker_emails email_faults", why: "smtp_alert, smtp_alert_checker and no_email_faults say which mail is sent"},
	{words: "checker_log_all_failures rs_init_notifies", why: "every director's view of a server, and since when, is in lbcluster server list"},
	{words: "net_namespace net_namespace_ipvs namespace_with_ipsets", traffic: true,
		why: "the daemon works in the network namespace that it was started in; NetworkNamespacePath in its systemd unit chooses another"},
	{words: "dynamic_interfaces", why: "interfaces may always come and go"},
	{words: "nftables nftables_priority nftables_ifindex nftables_counters vrrp_iptables vrrp_ipsets iptables",
		why: "needed for no_accept and virtual MACs only, of which there are none"},
	{words: "nftables_ipvs nftables_ipvs_priority nftables_ipvs_start_fwmark", traffic: true, why: "the packets of a firewall mark are named in YAML, by match"},
	{words: "max_auto_priority min_auto_priority_delay priority no_swap rt_priority rlimit_rttime rlimit_rtime cpu_affinity process_name process_names umask child_wait_time " +
		"vrrp_priority vrrp_no_swap vrrp_rt_priority vrrp_rlimit_rttime vrrp_rlimit_rtime vrrp_cpu_affinity vrrp_process_name " +
		"checker_priority checker_no_swap checker_rt_priority checker_rlimit_rttime checker_rlimit_rtime checker_cpu_affinity checker_process_name lvs_process_name " +
		"bfd_priority bfd_no_swap bfd_rt_priority bfd_rlimit_rttime bfd_rlimit_rtime bfd_cpu_affinity bfd_process_name thread_timer_expired",
		why: "about keepalived's processes; the systemd unit of lbcluster sets such things, and a director that was stopped loses its leases instead of running on"},
	{words: "vrrp_rx_bufs_policy vrrp_rx_bufs_multiplier vrrp_netlink_cmd_rcv_bufs vrrp_netlink_cmd_rcv_bufs_force vrrp_netlink_monitor_rcv_bufs vrrp_netlink_monitor_rcv_bufs_force " +
		"lvs_netlink_cmd_rcv_bufs lvs_netlink_cmd_rcv_bufs_force lvs_netlink_monitor_rcv_bufs lvs_netlink_monitor_rcv_bufs_force process_monitor_rcv_bufs process_monitor_rcv_bufs_force disable_local_igmp",
		why: "about keepalived's sockets"},
	{words: "reload_check_config reload_time_file reload_repeat reload_file include_check config_save_dir tmp_config_directory random_seed ignore_seed data_use_instance instance use_pid_dir use_symlink_paths plugin_dir genhash_script",
		why: "about how keepalived reads its file; lbcluster apply checks a file, shows what it changes, and changes it at once"},
	{words: "enable_snmp_vrrp enable_snmp_checker enable_snmp_rfc enable_snmp_rfcv2 enable_snmp_rfcv3 enable_snmp_keepalived enable_traps snmp_socket snmp_vs_stats_update_interval snmp_rs_stats_update_interval " +
		"enable_dbus dbus_service_name dbus_no_interface_name json_version state_dump_file stats_dump_file json_dump_file",
		why: "there is no SNMP, D-Bus or dump file; lbcluster status -o json shows the state"},
	{words: "iproute_usr_dir iproute_etc_dir set_supplementary_groups vmac_prefix vmac_addr_prefix linkbeat_use_polling", why: "of no use here"},
}

var routerOmissions = []omission{
	{words: "vmac_garp_intvl", traffic: true,
		why: "virtual addresses have the MAC of the owner's interface; gratuitous ARPs tell of each change"},
	{words: "track_src_ip", why: "adverts go out only while the interface has its address"},
	{words: "track_bfd", traffic: true, why: "BFD is not spoken; the nearest is a vrrp_script that pings the neighbour"},
	{words: "garp_extra_if garp_group owner_ignore_adverts",
		why: "when and how often a new owner announces its addresses is lbcluster's own choice"},
	{words: "vrf", traffic: true, why: "VRFs are not supported yet"},
	{words: "no_virtual_ipaddress", traffic: true, why: "a virtual router without addresses holds nothing"},
	{words: "notify_deleted", traffic: true, why: "not supported yet: notify_stop runs when an instance ends"},
	{words: "notify_master_rx_lower_pri", traffic: true, why: "inside a cluster no adverts of lower priority are received by an owner; the nearest is notify"},
	{words: "notify_priority_changes", why: "scripts run when the state changes, not when a priority does"},
	{words: "timer_expired_backup", why: "a director that was stopped for too long has lost its lease, and its addresses with it"},
	{words: "promote_secondaries", why: "virtual addresses are removed one by one"},
	{words: "linkbeat_use_polling kernel_rx_buf_size kernel_tx_buf_size debug", why: "about how keepalived works inside"},
}

var serviceOmissions = []omission{
	{words: "omega", why: "the services stay when a daemon stops, and nothing is notified then"},
	{words: "ha_suspend", harmless: "off", why: "every director checks, so that any can take over; what they agree on counts"},
	{words: "snmp_name hashed", why: "there is no SNMP, and services are found by their addresses"},
	{words: "log_all_failures", why: "every director's view of a server, and since when, is in lbcluster server list"},
}

var checkerOmissions = []omission{
	{words: "BFD_CHECK", traffic: true, why: "not supported: a PING_CHECK is the nearest"},
}

var checkOmissions = []omission{
	{words: "host", traffic: true, why: "of SMTP_CHECK, deprecated in keepalived too: write one SMTP_CHECK for each"},
	{words: "log_all_failures", why: "every director's view of a server, and since when, is in lbcluster server list"},
}

// omittedWords are the omissions by block and keyword.
var omittedWords = func() map[string]map[string]omission {
	all := map[string]map[string]omission{}
	for where, list := range omissions {
		all[where] = map[string]omission{}
		for _, o := range list {
			for _, w := range strings.Fields(o.words) {
				if _, ok := all[where][w]; !ok {
					all[where][w] = o
				}
			}
		}
	}
	return all
}()

// listed reports a keyword that the table can't hold, with what is nearest, and
// says whether it is one.
func (b *builder) listed(n *node, where string) bool {
	o, ok := omittedWords[where][n.word]
	switch {
	case !ok:
		return false
	case o.harmless != "" && len(n.args) == 1 && says(n.args[0], o.harmless):
	case o.traffic:
		b.omit(n.pos, n.word, o.why)
	default:
		b.notice(n.pos, n.word, "not kept: %s", o.why)
	}
	return true
}

// says: two spellings of one value.
func says(value, what string) bool {
	if v, err := boolean(value); err == nil && what == "off" {
		return !v
	}
	return value == what
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// belongs says for a keyword that is known where it may stand, so that a
// misplaced one can be told from an unknown one; empty: nowhere.
func belongs(keyword string) string { return homes()[keyword] }

// homes are the first blocks in which keywords may stand.
var homes = sync.OnceValue(func() map[string]string {
	places := []struct {
		where string
		rules map[string]rule
	}{
		{topLevel, topRules}, {"global_defs", globalRules}, {"vrrp_instance", routerRules},
		{"authentication", authRules}, {"virtual_server", serviceRules}, {"real_server", serverRules},
		{"TCP_CHECK", checkRules}, {"HTTP_GET", kindRules[fsm.CheckHTTP]}, {"url", urlRules}, {"SMTP_CHECK", kindRules[fsm.CheckSMTP]},
		{"DNS_CHECK", kindRules[fsm.CheckDNS]}, {"UDP_CHECK", kindRules[fsm.CheckUDP]}, {"MISC_CHECK", kindRules[fsm.CheckMisc]}, {"FILE_CHECK", kindRules[fsm.CheckFile]},
		{"vrrp_sync_group", groupRules}, {"vrrp_script", scriptRules}, // not those of trackers: quorum and weight mean more elsewhere
	}
	home := map[string]string{}
	note := func(word, where string) {
		if _, ok := home[word]; !ok {
			home[word] = where
		}
	}
	for _, c := range places {
		for word := range c.rules {
			note(word, c.where)
		}
	}
	for _, c := range places {
		for word := range omittedWords[c.where] {
			note(word, c.where)
		}
	}
	return home
})
