package conf

import (
	"fmt"
	"strings"
	"testing"

	"lbcluster/fsm"
)

// who is told of by mail: router, group, service, real server.
func told(c fsm.Config) string {
	s := c.Services[0]
	return fmt.Sprint(c.Routers[0].Alert, c.Groups[0].Alert, s.Alert, !s.RealServers[0].NoAlert)
}

func TestSMTPAlertIsKeepaliveds(t *testing.T) {
	const mail = "notification_email { a@b }\nsmtp_server 127.0.0.1\n"
	for _, c := range []struct{ globals, router, group, service, server, want string }{
		{"", "", "", "", "", "false false false true"},
		{mail, "", "", "", "", "false false false true"},
		{mail + "smtp_alert", "", "", "", "", "true true true true"},
		{mail + "smtp_alert no", "", "", "", "", "false false false false"},
		{mail + "smtp_alert_vrrp", "", "", "", "", "true true false true"},
		{mail + "smtp_alert_checker no", "", "", "", "", "false false false false"},
		{mail + "smtp_alert\nsmtp_alert_vrrp off\nsmtp_alert_checker off", "", "", "", "", "false false false false"},
		{mail, "smtp_alert", "smtp_alert on", "smtp_alert true", "smtp_alert no", "true true true false"},
		{mail + "smtp_alert", "smtp_alert no", "smtp_alert no", "smtp_alert no", "smtp_alert no", "false false false false"},
	} {
		text := fmt.Sprintf(`global_defs {
%s
}
vrrp_sync_group G {
group { VI }
%s
}
vrrp_instance VI {
interface eth0
virtual_router_id 1
virtual_ipaddress { 10.0.0.1 }
%s
}
virtual_server 10.0.0.1 80 {
protocol TCP
lvs_sched rr
lvs_method DR
%s
real_server 10.0.0.2 80 {
%s
}
}
`, c.globals, c.group, c.router, c.service, c.server)
		r, problems := Parse("f", func(string) ([]byte, error) { return []byte(text), nil }, nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := told(r.Config); got != c.want {
			t.Errorf("%q: told of %s, want %s", c, got, c.want)
		}
	}
}

func TestYAMLTellsByDefault(t *testing.T) {
	const rest = `
routers: [{name: VI, vrid: 1, addresses: [10.0.0.1]%[1]s}]
groups: [{name: G, routers: [VI]%[1]s}]
services:
  - {address: "10.0.0.1:80", protocol: tcp, method: dr%[1]s, real_servers: [{address: 10.0.0.2%[1]s}]}
`
	for _, c := range []struct{ globals, alert, want, notice string }{
		{"globals: {notification_email: [a@b], smtp_server: 127.0.0.1}", "", "true true true true", ""},
		{"globals: {notification_email: [a@b], smtp_server: 127.0.0.1}", ", smtp_alert: false", "false false false false", ""},
		{"globals: {notification_email: [a@b]}", "", "false false false true", "no mail is sent"},
		{"", ", smtp_alert: true", "true true true true", ""},
	} {
		r, problems := ParseYAML("f", []byte(c.globals+fmt.Sprintf(rest, c.alert)))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := told(r.Config); got != c.want {
			t.Errorf("%q: told of %s, want %s", c, got, c.want)
		}
		if got := fmt.Sprint(r.Notices); !strings.Contains(got, c.notice) {
			t.Errorf("%q: notices %s", c, got)
		}
	}
}

func TestSaysWhatNoMailIsSentOf(t *testing.T) {
	for globals, want := range map[string]string{
		"notification_email_from a@b": "no mail is sent: it takes notification_email and smtp_server",
		"notification_email { a@b }\nsmtp_server 127.0.0.1\nnotification_email_from b@c": "of a change of owner only where smtp_alert is said",
	} {
		text := globalWith(globals) + "\nvrrp_instance VI {\ninterface eth0\nvirtual_router_id 1\nvirtual_ipaddress { 10.0.0.1 }\n}\n"
		r, _ := Parse("f", func(string) ([]byte, error) { return []byte(text), nil }, nil)
		if got := fmt.Sprint(r.Notices); !strings.Contains(got, want) {
			t.Errorf("%s: notices %s", globals, got)
		}
	}
}
