package scale

import (
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// largeSizes are more than people ask for.
var largeSizes = []Size{{200, 100}, {500, 100}, {1000, 100}}

// Large measures only what grows: the first apply, one weight, memory and processor.
func Large(t lab.T, size Size, report Report) {
	s := site.New(t, 3)
	s.Form()
	var tables []table
	for _, h := range s.Dirs {
		k := tableOf(h)
		defer k.Close()
		tables = append(tables, k)
	}
	s.Dirs[0].WriteFile("/etc/size.conf", Conf(size, Change{}))
	began := time.Now()
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", "/etc/size.conf", "--yes")
	report.ms("apply all: the command", time.Since(began))
	report.ms("apply all: in all three kernels", await(t, began, "the table", tables, func(k table) bool { ok, err := k.full(size); return ok && err == nil }))
	s.AwaitOwner()
	byAPI(t, s, size, tables, report)
	rest(s, report)
}
