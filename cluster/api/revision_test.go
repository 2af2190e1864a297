package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/fsm"
)

// send makes one request; header: names and values.
func send(f *apitest.Fake, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler(f).ServeHTTP(w, r)
	return w
}

// example is a path with its wildcards filled in.
func example(f *apitest.Fake, path string) string {
	applied := f.Table().History
	return strings.NewReplacer("{id}", "m2", "{rev}", fmt.Sprint(applied[len(applied)-1].Revision)).Replace(path)
}

// TestAnswersAreAsDocumented: what each reading route answers is as its type in
// openapi.json says, with nothing more and nothing missing.
func TestAnswersAreAsDocumented(t *testing.T) {
	seen := 0
	for _, rt := range api.Routes() {
		if rt.Method != "GET" {
			continue
		}
		f := apitest.NewBusy()
		w := send(f, "GET", example(f, rt.Path), "")
		if w.Code != 200 {
			t.Errorf("%s: %d %s", rt.Path, w.Code, w.Body)
			continue
		}
		seen++
		for _, bad := range api.ReplyFaults("GET", rt.Path, w.Body.Bytes()) {
			t.Errorf("%s: %s", rt.Path, bad)
		}
	}
	if seen < 8 {
		t.Errorf("only %d routes seen", seen)
	}
	if bad := api.ReplyFaults("GET", "/v1/version", []byte(`{"version":"x","api":7,"more":1}`)); len(bad) != 2 {
		t.Errorf("wrong answers are not seen: %v", bad)
	}
}

// TestETags: who has the answer already is not sent it again, until the table changes.
func TestETags(t *testing.T) {
	f := apitest.NewBusy()
	for _, rt := range api.Routes() {
		if rt.Method != "GET" {
			continue
		}
		path := example(f, rt.Path)
		tag := send(f, "GET", path, "").Header().Get("ETag")
		if (tag != "") != rt.Tagged {
			t.Errorf("%s has the ETag %q", path, tag)
		}
		if !rt.Tagged {
			continue
		}
		if want := fmt.Sprintf("%q", fmt.Sprint(f.Table().Revision)); tag != want {
			t.Errorf("%s: ETag %s, want %s", path, tag, want)
		}
		for given, want := range map[string]int{tag: 304, `"1", ` + tag: 304, "W/" + tag: 304, `"1"`: 200, "": 200} {
			if w := send(f, "GET", path, "", "If-None-Match", given); w.Code != want || want == 304 && w.Body.Len() > 0 {
				t.Errorf("%s, If-None-Match %s: %d with %d bytes, want %d", path, given, w.Code, w.Body.Len(), want)
			}
		}
	}
	before := send(f, "GET", "/v1/table", "").Header().Get("ETag")
	f.Must(fsm.Command{Override: &fsm.SetOverride{Server: f.Table().Services[0].RealServers[0].AddrPort(), State: fsm.Drained}})
	if w := send(f, "GET", "/v1/table", "", "If-None-Match", before); w.Code != 200 || w.Header().Get("ETag") == before {
		t.Errorf("after a change: %d, %s", w.Code, w.Header().Get("ETag"))
	}
}

// writes are requests that change the busy cluster.
var writes = map[string]string{
	"PATCH /v1/members/{id}": `{"drained":true}`,
	"POST /v1/moves":         `{"unit":1,"to":"m2"}`,
	"PATCH /v1/settings":     `{"profile":"robust"}`,
	"PUT /v1/overrides":      `{"server":"172.25.88.2:443","state":"drain"}`,
	"POST /v1/apply":         `{"set":"more","config":{"globals":{"router_id":"x"}}}`,
}

// formerly is a request to restore a snapshot of f, which is then changed.
func formerly(t *testing.T, f *apitest.Fake) string {
	file, err := f.Table().Save(time.Now(), "dir1")
	if err != nil {
		t.Fatal(err)
	}
	f.Must(fsm.Command{Settings: &fsm.SetSettings{Profile: "robust"}})
	return `{"snapshot":` + string(file) + `}`
}

// TestIfMatch: a write with the revision that its maker saw is made only if nobody was
// faster, on every route that is one command.
func TestIfMatch(t *testing.T) {
	for _, rt := range api.Routes() {
		if rt.Method == "GET" {
			continue
		}
		body, known := writes[rt.Method+" "+rt.Path]
		f := apitest.NewBusy()
		if rt.Path == "/v1/snapshot/restore" {
			body, known = formerly(t, f), true
		}
		path := example(f, rt.Path)
		now := f.Table().Revision
		if !rt.Compares {
			if w := send(f, rt.Method, path, "{}", "If-Match", `"3"`); w.Code != 400 || f.Table().Revision != now {
				t.Errorf("%s %s ignores If-Match: %d %s", rt.Method, path, w.Code, w.Body)
			}
			continue
		}
		if !known {
			if rt.Path != "/v1/confirm" && rt.Path != "/v1/undo" {
				t.Errorf("%s %s is not tried", rt.Method, rt.Path)
			}
			continue
		}
		for _, wrong := range []string{"12", `"x"`, `W/"12"`, `"0"`, `"1","2"`} {
			if w := send(f, rt.Method, path, body, "If-Match", wrong); w.Code != 400 || f.Table().Revision != now {
				t.Errorf("%s %s, If-Match %s: %d", rt.Method, path, wrong, w.Code)
			}
		}
		w := send(f, rt.Method, path, body, "If-Match", fmt.Sprintf(`"%d"`, now-1))
		var p api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusPreconditionFailed || p.Code != api.CodeConflict || p.Status != 412 || f.Table().Revision != now {
			t.Errorf("%s %s behind the table: %d %s", rt.Method, path, w.Code, w.Body)
		}
		w = send(f, rt.Method, path, body, "If-Match", fmt.Sprintf(`"%d"`, now))
		if w.Code != 200 || f.Table().Revision != now+1 || w.Header().Get("ETag") != fmt.Sprintf(`"%d"`, now+1) {
			t.Errorf("%s %s at the table's revision: %d, ETag %s, %s", rt.Method, path, w.Code, w.Header().Get("ETag"), w.Body)
		}
	}
}

// TestConfirmComparesToo: the change that waits is kept or undone at a revision.
func TestConfirmComparesToo(t *testing.T) {
	for _, path := range []string{"/v1/confirm", "/v1/undo"} {
		f := apitest.NewBusy()
		w := send(f, "POST", "/v1/apply", `{"set":"more","config":{"globals":{"router_id":"x"}},"confirm_within":"5m"}`, "If-Match", fmt.Sprintf(`"%d"`, f.Table().Revision))
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		now := f.Table().Revision
		if w := send(f, "POST", path, "", "If-Match", fmt.Sprintf(`"%d"`, now-1)); w.Code != 412 {
			t.Errorf("%s behind: %d %s", path, w.Code, w.Body)
		}
		if w := send(f, "POST", path, "", "If-Match", fmt.Sprintf(`"%d"`, now)); w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestDocumentIsServed as OpenAPI 3.1.
func TestDocumentIsServed(t *testing.T) {
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	w := send(apitest.New(), "GET", "/v1/openapi.json", "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v: %q", err, doc.OpenAPI)
	}
	for _, rt := range api.Routes() {
		if doc.Paths[rt.Path][strings.ToLower(rt.Method)] == nil {
			t.Errorf("%s %s is missing", rt.Method, rt.Path)
		}
	}
}
