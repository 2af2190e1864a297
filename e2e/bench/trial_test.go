package bench

import (
	"strings"
	"testing"
	"time"
)

func trialsOf(q quantity, values ...float64) []trial {
	var out []trial
	for _, v := range values {
		out = append(out, trial{values: map[quantity]float64{q: v}})
	}
	return out
}

func TestMarkedTrialsAreNotCounted(t *testing.T) {
	stalledOnce := trial{values: map[quantity]float64{outage: 9000, twoMAC: 40}, stalled: time.Second}
	s := summarise(append(trialsOf(outage, 700, 650, 720), stalledOnce), outage)
	if want := (stats{n: 3, marked: 1, best: 650, mid: 700, worst: 720}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	// Two MACs are never the machine's fault.
	s = summarise(append(trialsOf(twoMAC, 0, 0), stalledOnce), twoMAC)
	if want := (stats{n: 3, worst: 40}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if s := summarise(trialsOf(outage, 10, 20), outage); s.mid != 15 {
		t.Errorf("the median of 10 and 20 is %v", s.mid)
	}
	if s := summarise(trialsOf(outage, 1), failed); s != (stats{}) {
		t.Errorf("a quantity that was not counted: %+v", s)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		l    limit
		v    float64
		want bool
	}{{900, 899.9, true}, {900, 900, false}, {0, 0, true}, {0, 1, false}} {
		if got := c.l.met(c.v); got != c.want {
			t.Errorf("%v, target %v: met %v", c.v, c.l, got)
		}
	}
}

func TestEveryEventCanBeRun(t *testing.T) {
	known := map[system]bool{}
	for _, st := range stages {
		if known[st.system] {
			t.Errorf("%s is there twice", st.system)
		}
		known[st.system] = true
	}
	names := map[string]bool{}
	for _, e := range events {
		if names[e.name] || e.try == nil || len(e.counted) == 0 || len(e.trials) == 0 {
			t.Errorf("%+v", e)
		}
		names[e.name] = true
		for s := range e.trials {
			if !known[s] {
				t.Errorf("%s: no stage brings %q up", e.name, s)
			}
		}
		for q := range e.targets {
			if !strings.Contains(list(), e.name) || !contains(e.counted, q) {
				t.Errorf("%s: target for %s, which is not counted", e.name, q)
			}
		}
	}
}

func contains(qs []quantity, q quantity) bool {
	for _, o := range qs {
		if o == q {
			return true
		}
	}
	return false
}

func TestPlan(t *testing.T) {
	p, err := readPlan([]string{"cut", "trials=2"})
	if err != nil || p.of(&events[0], ka2) != 2 || p.of(&events[1], lbcFast) != 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, err := readPlan(nil); err != nil || p.of(&events[0], lbcDefault) != 10 || p.of(&events[0], lbcRest) != 0 {
		t.Errorf("got %+v, %v", p, err)
	}
	if p, err := readPlan([]string{"list"}); err != nil || !p.list {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, bad := range []string{"cuts", "trials=0", "trials=x"} {
		if _, err := readPlan([]string{bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestReadStat(t *testing.T) {
	seconds, mb, err := readStat("42 (a b) c) S 1 42 42 0 -1 4194560 2 0 0 0 150 50 0 0 20 0 9 0 100 1000000 2560 18446744073709551615")
	if err != nil || seconds != 2 || mb != 10 {
		t.Errorf("got %v s, %v MB, %v", seconds, mb, err)
	}
	if _, _, err := readStat("42 (x) S 1"); err == nil {
		t.Error("a short line was read")
	}
}

func TestConfigurations(t *testing.T) {
	conf := manyConf(routers, "vrrp_version 3", "0.1")
	for _, want := range []string{"vrrp_version 3", "virtual_router_id 64", "172.25.88.164", "advert_int 0.1"} {
		if !strings.Contains(conf, want) {
			t.Errorf("%q is not in the configuration", want)
		}
	}
	if strings.Count(asBackup(conf), "state BACKUP") != routers || strings.Contains(asBackup(conf), "priority 100") {
		t.Error("the backup's file is the master's")
	}
}
