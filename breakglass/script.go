package breakglass

import (
	"bytes"
	"fmt"
	"strings"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

const scriptHead = `#!/bin/sh
# Serves by hand what lbcluster served: revision %d of cluster %s.
# For the day on which lbcluster itself is gone. It needs ip and ipvsadm, and root.
#
#   sh serve.sh tables   put the services into IPVS, if it has none
#   sh serve.sh up       take the VIPs to this machine, and announce them
#   sh serve.sh down     give the VIPs up
#   sh serve.sh show     say what it would do
#
# NOBODY watches over this: run "up" on ONE machine alone, with lbcluster stopped on all,
# or two machines answer for the VIPs. No server is checked: take out a dead one with
# ipvsadm -d. Before lbcluster starts again: "down".
set -eu

rules() {
cat <<'EOF'
%sEOF
}

# VIP/length, and the interface that the configuration names, or -.
vips() {
cat <<'EOF'
%sEOF
}

`

const scriptTail = `
# The interface whose network holds an address, else the one that is named.
device() {
	dev=$(ip -o route get "${1%/*}" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
	case "$dev" in ''|lo) dev=$2 ;; esac
	if [ "$dev" = - ]; then
		echo "no network of this machine holds $1: add it by hand" >&2
		return 1
	fi
	echo "$dev"
}

alone() {
	if pidof lbcluster >/dev/null 2>&1; then
		echo "lbcluster runs on this machine: systemctl stop lbcluster first, here and on the others" >&2
		exit 1
	fi
}

# Takes the gate of lbcluster away, which drops what is for a VIP without a lease.
open_gate() {
	rm -rf /sys/fs/bpf/lbcluster
	for dev in $(ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p'); do
		tc qdisc del dev "$dev" clsact 2>/dev/null || true
	done
}

case "${1:-}" in
tables)
	alone
	if [ -n "$(ipvsadm -S -n)" ]; then
		echo "IPVS has services already: look at ipvsadm -L -n; ipvsadm -C empties it, and breaks connections" >&2
		exit 1
	fi
	rules | ipvsadm -R
	;;
up)
	alone
	open_gate
	vips | { bad=0; while read -r vip named; do
		dev=$(device "$vip" "$named") || { bad=1; continue; }
		case "$vip" in *:*) nodad=nodad ;; *) nodad= ;; esac
		ip addr replace "$vip" dev "$dev" $nodad
		case "$vip" in
		*:*) ;;
		*) arping -q -U -c 3 -I "$dev" "${vip%/*}" 2>/dev/null || echo "announce ${vip%/*} on $dev yourself: arping is missing or failed" >&2 ;;
		esac
	done; exit $bad; }
	;;
down)
	vips | while read -r vip named; do
		for dev in $(ip -o addr show to "${vip%/*}" | sed -n 's/^[0-9]*: \([^ ]*\).*/\1/p'); do
			ip addr del "$vip" dev "$dev"
		done
	done
	;;
show)
	rules
	vips
	;;
*)
	echo "usage: sh serve.sh tables|up|down|show" >&2
	exit 2
	;;
esac
`

// script is serve.sh for a table.
func script(t *fsm.Table) []byte {
	var vips strings.Builder
	for _, r := range t.Routers {
		for _, a := range r.Addresses {
			dev := a.Dev
			if dev == "" {
				dev = r.Interface
			}
			if dev == "" {
				dev = "-"
			}
			fmt.Fprintf(&vips, "%s %s\n", a.Prefix, dev)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, scriptHead, t.Revision, t.Cluster, conf.WriteIPVSAdm(t.Effective()), vips.String())
	for _, v := range t.Services {
		if v.Mark != 0 {
			fmt.Fprintf(&b, "# %s needs the rules that mark its packets: nft list ruleset shows those of lbcluster,\n# as long as the machine was not rebooted.\n", v.ServiceKey)
		}
	}
	b.WriteString(scriptTail)
	return b.Bytes()
}
