package track

import (
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

func TestEffect(t *testing.T) {
	up, down := condition{known: true, ok: true}, condition{known: true, why: "exit status 1"}
	file := func(v int) condition { return condition{known: true, ok: true, value: v} }
	for _, c := range []struct {
		name    string
		kind    fsm.TrackKind
		weight  int
		reverse bool
		is      condition
		want    State
	}{
		{"unknown, no weight", fsm.TrackScript, 0, false, condition{}, State{Fault: true, Why: "script x has not been looked at yet"}},
		{"unknown, weight", fsm.TrackScript, 5, false, condition{}, State{}},
		{"well", fsm.TrackScript, 0, false, up, State{}},
		{"fails", fsm.TrackScript, 0, false, down, State{Fault: true, Why: "script x: exit status 1"}},
		{"well, reversed", fsm.TrackInterface, 0, true, up, State{Fault: true, Why: "interface x: it is well, which counts as a failure (reverse)"}},
		{"fails, reversed", fsm.TrackInterface, 0, true, down, State{}},
		{"plus while well", fsm.TrackProcess, 20, false, up, State{Score: 20}},
		{"nothing while failed", fsm.TrackProcess, 20, false, down, State{Why: "process x: exit status 1"}},
		{"nothing while well", fsm.TrackProcess, -20, false, up, State{}},
		{"minus while failed", fsm.TrackProcess, -20, false, down, State{Score: -20, Why: "process x: exit status 1"}},
		{"plus, reversed", fsm.TrackScript, 20, true, up, State{Score: -20}},
		{"minus, reversed", fsm.TrackScript, -20, true, down, State{Score: 20, Why: "script x: exit status 1"}},
		{"file 0, no weight", fsm.TrackFile, 0, false, file(0), State{}},
		{"file 3, no weight", fsm.TrackFile, 0, false, file(3), State{Fault: true, Why: "file x says 3"}},
		{"file 0, no weight, reversed", fsm.TrackFile, 0, true, file(0), State{Fault: true, Why: "file x says 0"}},
		{"file times weight", fsm.TrackFile, 2, false, file(21), State{Score: 42}},
		{"file times negative weight", fsm.TrackFile, -2, false, file(21), State{Score: -42, Why: "file x says 21"}},
		{"file, reversed", fsm.TrackFile, 2, true, file(21), State{Score: -42, Why: "file x says 21"}},
		{"file above all", fsm.TrackFile, 200, false, file(200), State{Score: 253}},
		{"file at the bottom", fsm.TrackFile, 1, false, file(-253), State{Score: -253, Why: "file x says -253"}},
		{"file below", fsm.TrackFile, 1, false, file(-254), State{Fault: true, Score: -253, Why: "file x says -254"}},
	} {
		got := effect(fsm.Tracker{Kind: c.kind, Name: "x", Weight: c.weight, Reverse: c.reverse}, c.is)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestSum(t *testing.T) {
	got := sum([]State{{Score: 5}, {Score: -7, Why: "a"}, {}, {Score: 1, Why: "b"}})
	if want := (State{Score: -1, Why: "a; b"}); got != want {
		t.Errorf("%+v", got)
	}
	got = sum([]State{{Score: -7, Why: "a"}, {Fault: true, Why: "c"}})
	if want := (State{Fault: true, Score: -7, Why: "c"}); got != want {
		t.Errorf("a FAULT is the reason: %+v", got)
	}
}

// Rising and falling: what must happen for a change, counted independently.
func TestJudge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := fsm.Tracker{Kind: fsm.TrackScript, Rise: rapid.IntRange(0, 4).Draw(t, "rise"), Fall: rapid.IntRange(0, 4).Draw(t, "fall"),
			InitFail: rapid.Bool().Draw(t, "init")}
		j := newJudge(k)
		var history []bool
		for range rapid.IntRange(1, 30).Draw(t, "results") {
			before, ok := j.condition, rapid.Bool().Draw(t, "ok")
			history = append(history, ok)
			j.next(ok, map[bool]string{false: "bad"}[ok])
			last := 0 // how many of the last results are the same
			for i := len(history) - 1; i >= 0 && history[i] == ok; i-- {
				last++
			}
			switch {
			case !before.known:
				if j.ok != ok || !j.known {
					t.Fatalf("the first result counts at once: %+v after %v", j.condition, history)
				}
			case j.ok == before.ok && ok != before.ok:
				if need := max(map[bool]int{true: k.Rise, false: k.Fall}[ok], 1); last >= need {
					t.Fatalf("no change after %v (rise %d, fall %d)", history, k.Rise, k.Fall)
				}
			case j.ok != before.ok:
				if need := max(map[bool]int{true: k.Rise, false: k.Fall}[ok], 1); last < need {
					t.Fatalf("a change after %v (rise %d, fall %d)", history, k.Rise, k.Fall)
				}
			}
			if j.ok && j.why != "" || !j.ok && j.why == "" {
				t.Fatalf("a reason without a failure, or a failure without: %+v", j.condition)
			}
		}
	})
}

func TestInitFail(t *testing.T) {
	j := newJudge(fsm.Tracker{InitFail: true, Rise: 2})
	if !j.known || j.ok {
		t.Fatalf("%+v", j.condition)
	}
	j.next(true, "")
	if j.ok {
		t.Error("one success is not two")
	}
	j.next(true, "")
	if !j.ok {
		t.Error("two successes are not enough")
	}
}

func TestDelayed(t *testing.T) {
	up, down := condition{known: true, ok: true}, condition{known: true, why: "0 of 1 run"}
	d := &delayed{up: 10, down: 30}
	for _, c := range []struct {
		at   int64
		seen condition
		ok   bool
	}{
		{1, up, true}, {5, down, true}, {20, up, true}, {21, down, true}, {50, down, true}, {51, down, false},
		{52, up, false}, {60, down, false}, {61, up, false}, {70, up, false}, {71, up, true},
	} {
		if got := d.next(c.at, c.seen); got.ok != c.ok {
			t.Errorf("at %d: %+v", c.at, got)
		}
	}
}

func TestQuorum(t *testing.T) {
	all := []Process{
		{"nginx", []string{"nginx: master process", "-g", "x"}}, {"nginx", nil},
		{"a-name-of-fifte", []string{"/opt/a-name-of-fifteen-bytes-or-more", "-x"}},
		{"sh", []string{"/bin/sh", "/opt/a b"}}, {"sshd", nil},
	}
	for _, c := range []struct {
		k    fsm.Tracker
		ok   bool
		says string
	}{
		{fsm.Tracker{Process: "nginx", Quorum: 1}, true, ""},
		{fsm.Tracker{Process: "/usr/sbin/nginx", Quorum: 2}, true, ""},
		{fsm.Tracker{Process: "nginx", Quorum: 3}, false, "2 of 3 run"},
		{fsm.Tracker{Process: "nginx", Quorum: 1, QuorumMax: 1}, false, "2 run, more than 1"},
		{fsm.Tracker{Process: "nginx", QuorumMax: -1}, false, "2 run, and none may"},
		{fsm.Tracker{Process: "httpd", QuorumMax: -1}, true, ""},
		{fsm.Tracker{Process: "ssh", Quorum: 1}, false, "0 of 1 run"},
		{fsm.Tracker{Process: "a-name-of-fifteen-bytes-or-more", Quorum: 1}, true, ""},
		{fsm.Tracker{Process: "/bin/sh '/opt/a b'", Quorum: 1}, true, ""},
		{fsm.Tracker{Process: "/bin/sh /opt/a", Quorum: 1}, false, "0 of 1 run"},
		{fsm.Tracker{Process: "/bin/sh", Quorum: 1, FullCommand: true}, false, "0 of 1 run"},
		{fsm.Tracker{Process: "'x", Quorum: 1}, false, `command "'x": the ' is never closed`},
	} {
		if got := quorum(c.k, all); got.ok != c.ok || got.why != c.says {
			t.Errorf("%+v: %+v", c.k, got)
		}
	}
}
