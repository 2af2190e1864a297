package bench

import (
	"strings"
	"testing"
	"time"
)

func ms(values ...int) []trial {
	var out []trial
	for _, v := range values {
		out = append(out, trial{value: time.Duration(v) * time.Millisecond})
	}
	return out
}

func TestMarkedTrialsAreNotAveraged(t *testing.T) {
	trials := append(ms(700, 650, 720), trial{value: 9 * time.Second, stalled: time.Second})
	s := summarise(trials)
	if s.n != 3 || s.marked != 1 || s.mid != 700*time.Millisecond || s.worst != 720*time.Millisecond || s.best != 650*time.Millisecond {
		t.Errorf("got %+v", s)
	}
	if row := s.row("x"); !strings.Contains(row, "+1 marked") {
		t.Errorf("the row hides the marked trial: %s", row)
	}
}

func TestTableCompares(t *testing.T) {
	got := table("outage", ms(700, 700, 700), ms(2800, 2900, 3000))
	for _, want := range []string{"outage\n", "700 /    700 /    700   3", "4.1 times"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	for _, c := range []struct {
		a, b []trial
		want string
	}{
		{ms(0, 0, 0), ms(9000), "0 against 9000 ms"},
		{ms(0), ms(0), "both 0"},
		{nil, ms(1), "no ratio"},
		{[]trial{{stalled: time.Second}}, ms(1), "no ratio"},
	} {
		if got := ratio(summarise(c.a), summarise(c.b)); !strings.Contains(got, c.want) {
			t.Errorf("ratio: %q, want %q", got, c.want)
		}
	}
}
