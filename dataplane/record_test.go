package dataplane

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/ipvs/ipvstest"
)

func TestRecordSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run", "dataplane.json")
		r, err := openRecord(path)
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.run(ctx) }()
		ours := Ownership{}
		for _, s := range ipvstest.Must("-A -u 10.0.0.1:53 -s rr\n-A -t 10.0.0.1:80 -s rr") {
			ours[s.Key] = true
		}
		r.update(func(c *recorded) {
			c.Cluster, c.Revision = "c1", 7
			c.Addresses = []recordedAddress{{Dev: "eth0", Prefix: vipPrefix("/32")}}
			c.setServices(ours)
		})
		must(t, r.save(time.Second))
		again, err := openRecord(path)
		must(t, err)
		c := again.get()
		if len(c.owns()) != 2 || !c.owns()[ipvstest.Must("-A -u 10.0.0.1:53 -s rr")[0].Key] || c.Revision != 7 || !again.hasAddress(c.Addresses[0]) {
			t.Errorf("read back %+v", c)
		}
		r.update(func(c *recorded) { c.Revision = 8 })
		stop() // what is not yet written is written on the way out
		must(t, <-done)
		if again, _ = openRecord(path); again.get().Revision != 8 {
			t.Error("the last change was lost")
		}
	})
}

// Nobody waits for the file longer than allowed.
func TestSaveIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := openRecord(filepath.Join(t.TempDir(), "x.json"))
		must(t, err)
		r.update(func(c *recorded) { c.Revision = 1 }) // nobody writes it
		start := time.Now()
		if err := r.save(recordWait); err == nil {
			t.Error("saved without a writer")
		}
		if d := time.Since(start); d != recordWait {
			t.Errorf("waited %v", d)
		}
	})
}

func TestNoRecord(t *testing.T) {
	r, err := openRecord("")
	must(t, err)
	r.update(func(c *recorded) { c.Revision = 1 })
	must(t, r.save(0))
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"cluster":"c1","revision":3,"services":["tcp/10.0.0.1:80","fwmark/3","x"],"addresses":[{"dev":"eth0","prefix":"10.0.0.1/32"}]}`))
	f.Add([]byte(`{"services":[null],"addresses":[{"prefix":"10.0.0.1"}]}`))
	path := filepath.Join(f.TempDir(), "r.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		must(t, os.WriteFile(path, b, 0o600))
		r, err := openRecord(path)
		c := r.get()
		if err != nil && (c.Revision != 0 || len(c.Services) != 0 || len(c.Addresses) != 0) {
			t.Errorf("half a record was taken: %+v", c)
		}
		for k := range c.owns() {
			if again, err := parseKey(k.String()); err != nil || again != k {
				t.Errorf("%v does not survive: %v", k, err)
			}
		}
	})
}
