package api_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

// TestBadOrders: each is answered with a Problem, and changes nothing.
func TestBadOrders(t *testing.T) {
	f := apitest.NewCluster()
	f.Grow("wit", fsm.Witness)
	addRouters(f, "VI_1")
	h := handler(f)
	before := f.Table()
	for _, c := range []struct {
		method, path, body string
		status             int
		code, text         string
	}{
		{"POST", "/v1/moves", `{"unit":9,"to":"m2"}`, 404, api.CodeNotFound, "virtual router or sync group 9"},
		{"POST", "/v1/moves", `{"unit":1,"to":"m9"}`, 404, api.CodeNotFound, "member m9"},
		{"POST", "/v1/moves", `{"unit":1,"to":"m4"}`, 422, api.CodeInvalid, "holds nothing"},
		{"POST", "/v1/moves", `{"unit":1,"pin":true,"unpin":true}`, 422, api.CodeInvalid, "at once"},
		{"POST", "/v1/moves", `{"router":1}`, 400, api.CodeBadRequest, "unknown field"},
		{"GET", "/v1/moves", ``, 405, api.CodeBadRequest, "does not take GET"},
		{"PATCH", "/v1/members/m2", `{}`, 422, api.CodeInvalid, "nothing to change"},
		{"PATCH", "/v1/members/m9", `{"drained":true}`, 404, api.CodeNotFound, "m9"},
		{"PATCH", "/v1/members/m4", `{"drained":true}`, 422, api.CodeInvalid, "witness"},
		{"PATCH", "/v1/members/m2", `{"state":"leaving"}`, 400, api.CodeBadRequest, "unknown field"},
		{"PATCH", "/v1/settings", `{}`, 422, api.CodeInvalid, "names no setting"},
		{"PATCH", "/v1/settings", `{"spares":99}`, 422, api.CodeInvalid, "spares 99"},
		{"PATCH", "/v1/settings", `{"guard":"1 week"}`, 400, api.CodeBadRequest, "duration"},
	} {
		status, p := ask(h, c.method, c.path, c.body)
		if status != c.status || p.Code != c.code || !strings.Contains(p.Error(), c.text) {
			t.Errorf("%s %s %s: %d %q %q, want %d %q %q", c.method, c.path, c.body, status, p.Code, p.Error(), c.status, c.code, c.text)
		}
	}
	if f.Table() != before {
		t.Error("bad orders changed the table")
	}
	for _, order := range [][3]string{
		{"POST", "/v1/moves", `{}`}, {"PATCH", "/v1/members/m1", `{"drained":true}`}, {"GET", "/v1/settings", ``}, {"PATCH", "/v1/settings", `{"spares":1}`},
	} {
		if status, p := ask(handler(apitest.New()), order[0], order[1], order[2]); p.Code != api.CodeNotEnrolled {
			t.Errorf("%v without a cluster: %d %q", order, status, p.Code)
		}
	}
}

func addRouters(f *apitest.Fake, names ...string) {
	var cfg fsm.Config
	for i, name := range names {
		cfg.Routers = append(cfg.Routers, fsm.Router{
			Name: name, VRID: uint8(i + 1), Priority: 100, Version: 2, AdvertInterval: fsm.Duration(time.Second),
			Addresses: []fsm.Address{{Prefix: vip(i)}},
		})
	}
	if len(names) > 2 { // the last two move together
		cfg.Groups = []fsm.SyncGroup{{Name: "VG_1", Routers: names[len(names)-2:]}}
	}
	f.Must(fsm.Command{Apply: &fsm.ApplySet{Set: "default", Config: cfg}})
}

// TestOrdersTravel: what the client asks for is what the table gets, in the
// asker's name.
func TestOrdersTravel(t *testing.T) {
	f := apitest.NewCluster()
	addRouters(f, "VI_1")
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = api.NewServer(f, "dir1", "test", slog.New(slog.DiscardHandler)).Run(t.Context(), ln) }()
	c, ctx := api.NewClient(socket), t.Context()
	yes := true
	if _, err := c.ChangeMember(ctx, "m3", api.MemberRequest{Drained: &yes}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Move(ctx, fsm.Move{Unit: 1, To: "m2", Pin: true}); err != nil || !r.Changed {
		t.Fatalf("%+v, %v", r, err)
	}
	guard, spares := fsm.Duration(2*time.Second), 1
	if _, err := c.ChangeSettings(ctx, fsm.SetSettings{Guard: &guard}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ChangeSettings(ctx, fsm.SetSettings{Spares: &spares}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Settings(ctx)
	if err != nil || s.Guard != guard || s.Spares != 1 || s.Profile != "default" {
		t.Errorf("settings are %+v, %v", s, err)
	}
	table := f.Table()
	if m, _ := table.Member("m3"); !m.Drained || table.Home(1) != "m2" {
		t.Errorf("drained %v, home %s", m.Drained, table.Home(1))
	}
	if by := table.Events[len(table.Events)-1].By; !strings.HasSuffix(by, "@dir1") {
		t.Errorf("asked by %q", by)
	}
}
