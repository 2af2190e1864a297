package api_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/e2e/lab/image"
	"lbcluster/fsm"
)

// TestExamples types every command of docs/api.md, in order and in one shell, with the
// real curl, and reads what comes.
func TestExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	f := apitest.NewBusy()
	serveAt(t, f, socket)
	path := curlPath(t)
	// What must be in the answer to the command that has this in it; all are tried.
	want := map[string]string{
		"v1/openapi.json":    `"openapi": "3.1.0"`,
		"v1/status\n":        `"failures": 1`,
		"v1/status/local":    `"name": "dir1"`,
		"v1/table":           `"172.25.88.4`,
		"v1/settings\n":      `"profile"`,
		"v1/members\n":       `"id": "m3"`,
		"v1/history":         `"entries"`,
		"v1/snapshot\n":      `"lbcluster_snapshot": 1`,
		"events?after=3":     `"kind"`,
		"v1/watch":           "event: event",
		`"drained": true`:    `"changed": true`,
		`"drained": false`:   `"changed": true`,
		`"state": "drain"`:   `"changed": true`,
		`"state": ""`:        `"changed": true`,
		"tag=":               "",
		"If-None-Match: $":   "304",
		`{"profile": "rob`:   `"changed": true`,
		`{"profile": "def`:   "412",
		`{"profile": "hasty`: `"code": "invalid"`,
	}
	var lines []string
	for line := range strings.Lines(string(page)) {
		if cmd, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, cmd)
		}
	}
	tried, script := map[string]bool{}, "set -u\n"
	const mark = "-- answer ends --"
	for _, cmd := range lines {
		script += strings.TrimSpace(strings.ReplaceAll(cmd, api.DefaultSocket, socket)) + "\necho; echo '" + mark + "'\n"
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sh := exec.CommandContext(ctx, "sh", "-c", script)
	sh.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
	out, err := sh.CombinedOutput()
	answers := strings.Split(string(out), mark+"\n")
	if err != nil || len(answers) != len(lines)+1 {
		t.Fatalf("%d answers to %d commands, %v:\n%s", len(answers)-1, len(lines), err, out)
	}
	for i, cmd := range lines {
		n := 0
		for part, answer := range want {
			if strings.Contains(cmd, part) && !(part == "v1/settings\n" && strings.Contains(cmd, "If-")) && !(part == "v1/settings\n" && strings.Contains(cmd, "PATCH")) {
				tried[part] = true
				n++
				if !strings.Contains(answers[i], answer) {
					t.Errorf("%s answered:\n%.600s\nwithout %s", cmd, answers[i], answer)
				}
			}
		}
		if n == 0 {
			t.Errorf("nothing is expected of %s", cmd)
		}
	}
	for part := range want {
		if !tried[part] {
			t.Errorf("no command has %q", part)
		}
	}
	if got := f.Table().Settings.Profile; got != "robust" {
		t.Errorf("the profile is %s", got)
	}
	if o := f.Table().Overrides; len(o) > 0 && o[0].State == fsm.Drained {
		t.Error("the server is still drained")
	}
}

// TestCodes: docs/api.md lists the codes that there are.
func TestCodes(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`Code[A-Z]\w+ += "(\w+)"`).FindAllStringSubmatch(string(src), -1)
	if len(codes) < 10 {
		t.Fatalf("%v", codes)
	}
	for _, c := range codes {
		if !strings.Contains(string(page), "`"+c[1]+"`") {
			t.Errorf("%s is not explained", c[1])
		}
	}
}

// curlPath is the folder of curl: the machine's, or a link to that of Debian's package.
func curlPath(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("LBCLUSTER_LAB_DIR")
	if dir == "" {
		dir = "../../.lab"
	}
	run, err := image.Tool(t.Context(), dir, "curl", "curl", true)
	if err != nil {
		t.Fatal(err)
	}
	cmd := run()
	for _, env := range cmd.Env {
		if name, value, _ := strings.Cut(env, "="); name == "LD_LIBRARY_PATH" {
			t.Setenv(name, value)
		}
	}
	return filepath.Dir(cmd.Path)
}
