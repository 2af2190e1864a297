package main

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module   = "lbcluster/"
	repo     = "../.."
	maxLines = 600
)

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
	Standard   bool
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps,Standard", "./...")
	cmd.Dir = repo
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages listed", len(all))
	}
	return all
}

// rules say what a package must not import directly, and why.
var rules = []struct {
	who, not, why string // who, not: exact, or a prefix with /...
	except        string
}{
	{"fsm/...", "cluster/...", "the table is the vocabulary of all others", ""},
	{"fsm/...", "dataplane/...", "the table is the vocabulary of all others", ""},
	{"fsm/...", "checks/...", "the table is the vocabulary of all others", ""},
	{"cluster/api/...", "cluster", "the command line must not link Raft to ask a question", ""},
	{"cluster/lease/...", "cluster", "a lease needs neither Raft nor its disks", ""},
	{"cluster/handover/...", "...", "a decision rests on facts that it is given", "fsm"},
	{"checks/...", "cluster/...", "checks propose through a function they are given", ""},
	{"checks/...", "dataplane/...", "opinions reach the kernel through the table only", ""},
	{"dataplane/...", "cluster/...", "the kernel follows the table, wherever it comes from", ""},
	{"dataplane/ipvs/...", "fsm/...", "leaves speak the kernel's words", ""},
	{"dataplane/vip/...", "fsm/...", "leaves speak the kernel's words", ""},
	{"dataplane/fwmark/...", "fsm/...", "leaves speak the kernel's words", ""},
	{"dataplane/gate/...", "fsm/...", "leaves speak the kernel's words", ""},
	{"dataplane/vrrp/...", "fsm/...", "leaves speak the wire's words", ""},
	{"dataplane/fence/...", "...", "all that it must not trust could come in with an import", ""},
	{"dataplane/ipvs/...", "dataplane/...", "leaves do not know each other", "dataplane/fence"},
	{"dataplane/vip/...", "dataplane/...", "leaves do not know each other", "dataplane/fence"},
	{"dataplane/fwmark/...", "dataplane/...", "leaves do not know each other", "dataplane/fence"},
	{"dataplane/gate/...", "dataplane/...", "leaves do not know each other", "dataplane/fence"},
	{"dataplane/vrrp/...", "dataplane/...", "leaves do not know each other", "dataplane/fence"},
	{"journal/...", "cluster/...", "a record is of what others tell it", ""},
	{"journal/...", "dataplane/...", "a record is of what others tell it", ""},
	{"cluster/lease/...", "journal/...", "the lease's thread waits for no disk; it tells events to a function", ""},
	{"metrics/...", "...", "it puts the API's words into Prometheus'", "fsm,cluster/api"},
	{"web/...", "...", "the page asks the API from outside, as any other client", ""},
	{"track/...", "...", "it watches, others decide", "fsm,script"},
	{"notify/...", "...", "it tells, and knows nobody whom it tells of", "fsm,script"},
	{"tell/...", "...", "it tells what stands in the table; what must be known besides is told to it", "fsm"},
	{"realserver/...", "...", "it is a host's lo, and knows no cluster", ""},
	{"breakglass/...", "...", "it must work when all else does not", "fsm,fsm/conf"},
	{"script/...", "...", "running a program needs none of the others", ""},
	{"dataplane/...", "journal/...", "the data plane tells events to a function", ""},
	{"internal/nstest/...", "...", "a test's hosts know no part of the project", ""},
	{"...", "internal/nstest", "for tests alone", ""},
	{"cluster/lease/...", "dataplane/...", "a lease yields permits and nothing else", "dataplane/fence"},
}

// matches reports whether path (without the module) is meant by pattern.
func matches(path, pattern string) bool {
	base, tree := strings.CutSuffix(pattern, "...")
	if !tree {
		return path == pattern
	}
	base = strings.TrimSuffix(base, "/")
	return base == "" || path == base || strings.HasPrefix(path, base+"/")
}

// TestImportRules holds the direction of imports.
func TestImportRules(t *testing.T) {
	for _, p := range packages(t) {
		who := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			path, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			for _, r := range rules {
				sameTree := matches(path, strings.TrimSuffix(r.who, "/...")+"/...")
				if matches(who, r.who) && matches(path, r.not) && !slices.Contains(strings.Split(r.except, ","), path) && !sameTree {
					t.Errorf("%s imports %s: %s", who, path, r.why)
				}
			}
			if path == "cluster" && who != "cmd/lbcluster" && !strings.HasPrefix(who, "e2e") {
				t.Errorf("%s imports package cluster: cmd/lbcluster alone puts the daemon together", who)
			}
		}
	}
}

// TestPurePackages: what must be deterministic cannot reach the world, not
// even through somebody else.
func TestPurePackages(t *testing.T) {
	for _, p := range packages(t) {
		switch who := strings.TrimPrefix(p.ImportPath, module); who {
		case "fsm":
			for _, d := range p.Deps {
				if first, _, _ := strings.Cut(d, "/"); strings.Contains(first, ".") {
					t.Errorf("fsm depends on %s: only the standard library", d)
				}
			}
			forbid(t, who, p.Imports, "os", "net", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "os/exec", "syscall")
		case "cluster/handover":
			forbid(t, who, p.Imports, "os", "net", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "os/exec", "syscall", "context", "sync")
		case "fsm/conf":
			// net is allowed: it takes host:port apart there
			forbid(t, who, p.Imports, "os", "os/exec", "syscall", "log", "log/slog", "net/http", "path/filepath")
		}
	}
}

func forbid(t *testing.T, who string, imports []string, banned ...string) {
	t.Helper()
	for _, i := range imports {
		for _, b := range banned {
			if i == b {
				t.Errorf("%s imports %s: it must be pure", who, i)
			}
		}
	}
}

// TestPackageDocs: each package says in doc.go, and there only, what it is.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		documented := 0
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc == nil {
				continue
			}
			documented++
			if name != "doc.go" {
				t.Errorf("%s/%s: the package's doc belongs into doc.go", p.ImportPath, name)
			}
			if len(f.Doc.List) < 3 {
				t.Errorf("%s/%s says too little about the package", p.ImportPath, name)
			}
		}
		if len(p.GoFiles) > 0 && documented != 1 {
			t.Errorf("%s has %d package docs, not one", p.ImportPath, documented)
		}
	}
}

// TestFiles: no file too long to read, and only programs' main.go end the process.
func TestFiles(t *testing.T) {
	files := 0
	err := filepath.WalkDir(repo, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		files++
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := bytes.Count(src, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by what it knows", path, n, maxLines)
		}
		if !strings.HasSuffix(path, "_test.go") && filepath.Base(path) != "main.go" {
			endsProcess(t, path, src)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files seen", files)
	}
}

// endsProcess finds os.Exit and log.Fatal.
func endsProcess(t *testing.T, path string, src []byte) {
	f, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := sel.X.(*ast.Ident)
		if ok && (id.Name == "os" && sel.Sel.Name == "Exit" || id.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal")) {
			t.Errorf("%s ends the process with %s.%s: return an error to main", path, id.Name, sel.Sel.Name)
		}
		return true
	})
}
