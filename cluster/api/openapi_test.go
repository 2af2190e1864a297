package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"lbcluster/fsm"
)

var update = flag.Bool("update", false, "write openapi.json anew")

const about = `Every member of the cluster serves this API on the unix socket /run/lbcluster/lbcluster.sock, to root and the group lbcluster. ` +
	`Names are snake_case, times RFC 3339, durations text such as "1.5s"; a field that ends in _ms is in milliseconds. ` +
	`Errors are application/problem+json. Answers that follow from the table alone have its revision as ETag; what changes the table by one command takes If-Match.`

// schemas makes schemas of types; one of package fsm or journal whose name package api
// has as well is called by its package, too.
func schemas() huma.Registry {
	taken := map[string]string{}
	return huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if at, ok := taken[name]; ok && at != t.PkgPath() {
			pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
			return strings.ToUpper(pkg[:1]) + pkg[1:] + name
		}
		taken[name] = t.PkgPath()
		return name
	})
}

// describe makes the document of the routes.
func describe() *huma.OpenAPI {
	reg := schemas()
	doc := &huma.OpenAPI{
		OpenAPI:    "3.1.0",
		Info:       &huma.Info{Title: "lbcluster", Version: "v1", Description: about},
		Servers:    []*huma.Server{{URL: "http://lbcluster", Description: "curl --unix-socket /run/lbcluster/lbcluster.sock"}},
		Components: &huma.Components{Schemas: reg},
		Paths:      map[string]*huma.PathItem{},
	}
	for _, rt := range (&Server{}).routes() {
		doc.AddOperation(rt.operation(reg))
	}
	doc.AddOperation(watchOperation(reg))
	doc.AddOperation(&huma.Operation{Method: http.MethodGet, Path: "/v1/openapi.json", OperationID: "get-openapi", Summary: "This document.",
		Responses: map[string]*huma.Response{"200": {Description: "OpenAPI 3.1", Content: map[string]*huma.MediaType{"application/json": {}}}}})
	bodies := map[reflect.Type]bool{}
	for _, rt := range (&Server{}).routes() {
		bodies[reflect.TypeOf(rt.body)] = true
	}
	words := comments()
	for name, schema := range reg.Map() {
		t := reg.TypeFromRef("#/components/schemas/" + name)
		words.describe(schema, t)
		if bodies[t] {
			schema.Required = nil // what is missing, and matters, the answer names
		} else {
			schema.AdditionalProperties = nil // a later lbcluster may tell more
		}
	}
	return doc
}

// texts are the comments of types and fields, by "package path.Type" and "….Field".
type texts map[string]string

// comments reads the sources of the packages whose types the API speaks in.
func comments() texts {
	out := texts{}
	for path, dir := range map[string]string{"lbcluster/cluster/api": ".", "lbcluster/fsm": "../../fsm", "lbcluster/journal": "../../journal"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			panic(err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				panic(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GenDecl:
					if len(n.Specs) == 1 {
						if ts, ok := n.Specs[0].(*ast.TypeSpec); ok {
							out[path+"."+ts.Name.Name] = n.Doc.Text()
						}
					}
				case *ast.TypeSpec:
					if st, ok := n.Type.(*ast.StructType); ok {
						out.fields(path+"."+n.Name.Name, st)
					}
				}
				return true
			})
		}
	}
	return out
}

// fields notes what is said before a field, or else behind it.
func (w texts) fields(of string, st *ast.StructType) {
	for _, f := range st.Fields.List {
		for _, name := range f.Names {
			text := f.Doc.Text()
			if text == "" {
				text = f.Comment.Text()
			}
			w[of+"."+name.Name] = text
		}
	}
}

// describe puts a type's comments into its schema.
func (w texts) describe(s *huma.Schema, t reflect.Type) {
	s.Description = oneLine(w[t.PkgPath()+"."+t.Name()])
	if t.Kind() != reflect.Struct {
		return
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		property := s.Properties[name]
		if name == "" || property == nil {
			continue
		}
		owner := t // or the embedded struct that has it
		if len(f.Index) > 1 {
			owner = t.FieldByIndex(f.Index[:len(f.Index)-1]).Type
		}
		if text := oneLine(w[owner.PkgPath()+"."+owner.Name()+"."+f.Name]); text != "" {
			described := *property // a reference may be shared
			described.Description = text
			s.Properties[name] = &described
		}
	}
}

// oneLine is a comment on one line, without links of Go's.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(text)), " ")
}

// operation is a route as the document has it.
func (rt route) operation(reg huma.Registry) *huma.Operation {
	op := &huma.Operation{Method: rt.method, Path: rt.path, OperationID: rt.id(), Summary: rt.summary + ".", Responses: map[string]*huma.Response{}}
	for _, part := range strings.Split(rt.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			op.Parameters = append(op.Parameters, parameter(strings.TrimSuffix(name, "}"), "path", "", ""))
		}
	}
	for _, q := range rt.query {
		op.Parameters = append(op.Parameters, parameter(q.name, "query", q.format, q.about))
	}
	if rt.compares {
		op.Parameters = append(op.Parameters, parameter("If-Match", "header", "", "an ETag: change nothing (412) unless the table is at this revision"))
	}
	if rt.tagged {
		op.Parameters = append(op.Parameters, parameter("If-None-Match", "header", "", "an ETag: 304 if the table is still at this revision"))
		op.Responses["304"] = &huma.Response{Description: "the table is still at that revision"}
	}
	if rt.body != nil {
		op.RequestBody = &huma.RequestBody{Content: content("application/json", reg, rt.body)}
	}
	op.Responses["200"] = &huma.Response{Description: "done", Content: content("application/json", reg, rt.reply)}
	if rt.tagged || rt.compares {
		op.Responses["200"].Headers = map[string]*huma.Param{"ETag": {Description: "the table's revision", Schema: &huma.Schema{Type: "string"}}}
	}
	op.Responses["default"] = &huma.Response{Description: "what went wrong, and what to do about it", Content: content("application/problem+json", reg, Problem{})}
	return op
}

// id names an operation: "get-v1-members-id" is get-members-id.
func (rt route) id() string {
	path := strings.NewReplacer("/v1/", "-", "/", "-", "{", "", "}", "").Replace(rt.path)
	return strings.ToLower(rt.method) + path
}

func watchOperation(reg huma.Registry) *huma.Operation {
	op := route{method: http.MethodGet, path: "/v1/watch", summary: "Server-sent events: status with a StatusReport at once and then every so often, event with an Event as it happens", query: []query{
		{"every", "duration", "between two reports: 500ms to 1m; 2s"}, {"after", "integer", "events of revisions behind this one"}, {"last", "integer", "or so many of the last events first"},
	}, reply: StatusReport{}}.operation(reg)
	reg.Schema(reflect.TypeFor[fsm.Event](), true, "")
	op.Parameters = append(op.Parameters, parameter("Last-Event-ID", "header", "", "the id of the last event that the client got: it continues behind it"))
	op.Responses["200"].Content = map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: "string"}}}
	return op
}

func parameter(name, in, format, about string) *huma.Param {
	s := &huma.Schema{Type: "string", Format: format}
	if format == "integer" {
		s = &huma.Schema{Type: "integer"}
	}
	return &huma.Param{Name: name, In: in, Required: in == "path", Description: about, Schema: s}
}

func content(kind string, reg huma.Registry, v any) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{kind: {Schema: reg.Schema(reflect.TypeOf(v), true, "")}}
}

// TestDocument: openapi.json is what the routes say.
func TestDocument(t *testing.T) {
	raw, err := json.Marshal(describe())
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	if err := json.Indent(&lines, raw, "", " "); err != nil {
		t.Fatal(err)
	}
	lines.WriteByte('\n')
	if *update {
		if err := os.WriteFile("openapi.json", lines.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		document = lines.Bytes()
	}
	if !bytes.Equal(lines.Bytes(), document) {
		t.Error("openapi.json is not what the routes say: go test ./cluster/api -run TestDocument -update")
	}
	if n := bytes.Count(document, []byte(`"operationId"`)); n != len((&Server{}).routes())+2 {
		t.Errorf("%d operations", n)
	}
}

// ReplyFaults says where an answer is not as the type that its route names says;
// nothing may be in it that the type has not.
func ReplyFaults(method, path string, answer []byte) (out []string) {
	reg := schemas()
	for _, rt := range (&Server{}).routes() {
		if rt.method != method || rt.path != path {
			continue
		}
		var v any
		if err := json.Unmarshal(answer, &v); err != nil {
			return []string{err.Error()}
		}
		res := &huma.ValidateResult{}
		huma.Validate(reg, reg.Schema(reflect.TypeOf(rt.reply), true, ""), huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
		for _, e := range res.Errors {
			out = append(out, e.Error())
		}
		return out
	}
	return []string{"no route " + method + " " + path}
}

// Routes are the routes' methods and paths, and whether each compares or is tagged.
func Routes() (out []struct {
	Method, Path     string
	Compares, Tagged bool
}) {
	for _, rt := range (&Server{}).routes() {
		out = append(out, struct {
			Method, Path     string
			Compares, Tagged bool
		}{rt.method, rt.path, rt.compares, rt.tagged})
	}
	return out
}
