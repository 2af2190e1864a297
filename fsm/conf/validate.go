package conf

import "lbcluster/fsm"

var schedulers = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"}

func validate(r *report, where places, cfg fsm.Config) {}
