package deploy

import _ "embed"

// The files as they are shipped.
var (
	//go:embed lbcluster.service
	Unit string
	//go:embed lbcluster-realserver.service
	RealServerUnit string
	//go:embed lbcluster.yaml
	NodeConfig string
	//go:embed keepalived-pair.conf
	Sample string
	//go:embed vip-for-nginx.conf
	VIPSample string
	//go:embed alerts.yml
	Alerts string
	//go:embed grafana.json
	Dashboard string
)
