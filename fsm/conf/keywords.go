package conf

import "strings"

// known lists keepalived's keywords (man keepalived.conf(5), version 2.4) that
// this reader does not act on, so that "not supported yet" can be told from a
// misspelt word. Those that it acts on stand in the rules.
var known = set(`
	alpha ha_suspend hashed hysteresis ip_family lvs_flush lvs_flush_on_stop lvs_notify_fifo
	lvs_notify_fifo_script lvs_sync_daemon lvs_sync_daemon_interface lvs_timeouts mh-fallback mh-port
	notify_down notify_up omega ops persistence_engine quorum quorum_down quorum_up sh-fallback sh-port
	smtp_alert snmp_name sorry_server sorry_server_inhibit sorry_server_lvs_method virtualhost
	flag-1 flag-2 flag-3 virtual_server_group fwmark group

	HTTP_GET SSL_GET SMTP_CHECK DNS_CHECK MISC_CHECK UDP_CHECK PING_CHECK FILE_CHECK BFD_CHECK
	bind_if bind_port log_all_failures url path digest status_code regex regex_no_match http_protocol
	enable_sni sni_name tls_compliant fast_recovery nb_get_retry helo_name host type name misc_path
	misc_timeout misc_dynamic payload require_reply min_reply_length max_reply_length user

	bfd_instance garp_group
	interface_up_down_delays linkbeat_interfaces static_ipaddress static_routes static_rules track_group
	param_match

	virtual_ipaddress_excluded virtual_routes virtual_rules unicast_peer unicast_src_ip unicast_ttl
	unicast_fault_no_peer check_unicast_src old_unicast_checksum mcast_src_ip mcast_dst_ip track_src_ip
	track_bfd dont_track_primary use_vmac vmac_xmit_base
	use_vmac_addr use_ipvlan accept no_accept strict_mode garp_master_delay garp_master_repeat
	garp_master_refresh garp_master_refresh_repeat garp_lower_prio_delay garp_lower_prio_repeat
	garp_extra_if lower_prio_no_advert higher_prio_send_advert down_timer_adverts skip_check_adv_addr
	v3_checksum_as_v2 notify_deleted
	notify_master_rx_lower_pri notify_priority_changes timer_expired_backup kernel_rx_buf_size
	kernel_tx_buf_size promote_secondaries no_virtual_ipaddress debug vrf  auth_hmac linkbeat_use_polling owner_ignore_adverts

	vrrp_mcast_group4 vrrp_mcast_group6 vrrp_strict vrrp_garp_master_delay vrrp_garp_master_repeat
	vrrp_garp_master_refresh vrrp_garp_master_refresh_repeat vrrp_garp_lower_prio_delay
	vrrp_garp_lower_prio_repeat vrrp_min_garp vrrp_lower_prio_no_advert vrrp_higher_prio_send_advert
	vrrp_down_timer_adverts vrrp_check_unicast_src vrrp_owner_ignore_adverts vrrp_garp_extra_if
	vrrp_startup_delay vrrp_delay_after_boot vrrp_iptables vrrp_ipsets vrrp_notify_fifo
	vrrp_notify_fifo_script vrrp_priority vrrp_no_swap vrrp_rt_priority vrrp_rlimit_rttime
	vrrp_cpu_affinity vrrp_process_name vrrp_rx_bufs_policy vrrp_rx_bufs_multiplier
	vrrp_netlink_cmd_rcv_bufs vrrp_netlink_monitor_rcv_bufs vrrp_notify_priority_changes
	notify_fifo notify_fifo_script startup_script shutdown_script
	startup_script_timeout shutdown_script_timeout smtp_helo_name smtp_alert_vrrp smtp_alert_checker
	no_email_faults no_checker_emails checker_log_all_failures checker_priority checker_no_swap
	checker_rt_priority checker_rlimit_rttime checker_cpu_affinity bfd_priority bfd_no_swap
	bfd_rt_priority bfd_rlimit_rttime bfd_cpu_affinity net_namespace net_namespace_ipvs namespace_with_ipsets
	instance use_pid_dir default_interface dynamic_interfaces nftables nftables_priority nftables_ifindex
	nftables_counters nftables_ipvs max_auto_priority min_auto_priority_delay process_name
	lvs_process_name bfd_process_name reload_check_config reload_time_file reload_repeat reload_file
	include_check config_save_dir tmp_config_directory enable_snmp_vrrp enable_snmp_checker
	enable_snmp_rfc enable_snmp_rfcv2 enable_snmp_rfcv3 enable_snmp_keepalived enable_traps snmp_socket
	enable_dbus dbus_service_name dbus_no_interface_name json_version state_dump_file stats_dump_file
	json_dump_file child_wait_time priority no_swap rt_priority umask random_seed linkbeat_use_polling
	fifo_write_vrrp_states_on_reload log_unknown_vrids ignore_seed startup_delay rs_init_notifies
	data_use_instance disable_local_igmp plugin_dir lvs_netlink_cmd_rcv_bufs lvs_netlink_monitor_rcv_bufs
	genhash_script router vrrp_process
`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// belongs says for a keyword that is ours where it may stand, so that a
// misplaced one can be told from an unknown one.
func belongs(keyword string) string {
	for _, c := range []struct {
		where string
		rules map[string]rule
	}{
		{"the top level", topRules}, {"global_defs", globalRules}, {"vrrp_instance", routerRules},
		{"authentication", authRules}, {"virtual_server", serviceRules}, {"real_server", serverRules},
		{"TCP_CHECK", tcpRules}, {"vrrp_sync_group", groupRules}, {"vrrp_script", scriptRules}, // not those of trackers: quorum and weight mean more elsewhere

	} {
		if _, ok := c.rules[keyword]; ok {
			return c.where
		}
	}
	return ""
}
