package vrrp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// keys are the values of the Reject constants, as reject.go has them.
func keys(t *testing.T) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reject.go", nil, 0)
	if os.IsNotExist(err) {
		t.Skip("only where the sources are: the lab has the test alone")
	}
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "Reject") {
			return true
		}
		key, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, key)
		return true
	})
	if len(out) < 14 {
		t.Fatalf("only %q", out)
	}
	return out
}

// An operator who reads a reason finds what to do.
func TestEveryReasonIsInTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/vrrp-peers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| reason |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, key := range keys(t) {
		if !strings.Contains(table, "`"+key+"`") {
			t.Errorf("docs/vrrp-peers.md does not say what to do about %q", key)
		}
	}
}
