// Package deploy holds what is installed beside the program: the systemd unit,
// the reference configuration of one machine, and a sample of what to apply.
//
//   - lbcluster.service goes to /etc/systemd/system
//   - lbcluster.yaml goes to /etc/lbcluster; every key is optional
//   - alerts.yml goes to where Prometheus reads its rules; docs/alerts.md explains it
//   - grafana.json is imported into Grafana
//   - keepalived-pair.conf is for "lbcluster apply -f", and for keepalived
//
// Called by: nobody yet but its own tests, which hold the files to what the
// program expects of them; they are embedded so that the program can print them.
//
// It never installs anything.
package deploy
