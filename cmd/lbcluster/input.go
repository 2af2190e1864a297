package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// maxInput bounds a file that is read, in bytes.
const maxInput = 16 << 20

// readLimited reads all of r unless it is larger than any sane file.
func readLimited(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxInput>>20)
	}
	return b, nil
}

// input is a configuration file as read.
type input struct {
	Problems []conf.Problem
	Notices  []conf.Notice
	result   conf.Result
	// Of several files:
	differences []conf.Difference
	homes       []conf.Home
	sources     []nodeSource
}

// remark is a conf.Problem or conf.Notice in JSON.
type remark struct {
	File    string   `json:"file"`
	Line    int      `json:"line,omitempty"`
	Column  int      `json:"column,omitempty"`
	Keyword string   `json:"keyword,omitempty"`
	Text    string   `json:"text"`
	Source  string   `json:"source,omitempty"`
	Became  string   `json:"became,omitempty"`
	Chain   []string `json:"chain,omitempty"`
}

// checked is the answer of check with -o json.
type checked struct {
	OK       bool     `json:"ok"`
	Problems []remark `json:"problems"`
	Notices  []remark `json:"notices"`
	// Of several files:
	Differences []conf.Difference `json:"differences,omitempty"`
	Homes       []conf.Home       `json:"homes,omitempty"`
}

func (in input) checked() checked {
	c := checked{
		OK: in.wrong("") == nil, Problems: []remark{}, Notices: remarks(in.Notices),
		Differences: in.differences, Homes: in.homes,
	}
	for _, p := range in.Problems {
		c.Problems = append(c.Problems, remark(p))
	}
	return c
}

func remarks(notices []conf.Notice) []remark {
	out := []remark{}
	for _, n := range notices {
		out = append(out, remark(n))
	}
	return out
}

// readInput reads a keepalived.conf with its includes, or YAML; - is standard
// input. The error is one of reading, not of content.
func (a *app) readInput(s nodeSource, f fileFlags) (input, error) {
	name := s.file
	data, err := a.readFile(name)
	if err != nil {
		return input{}, &hinted{fmt.Errorf("read the configuration: %w: %w", errInput, err), ""}
	}
	var in input
	if isYAML(name, data) {
		in.result, in.Problems = conf.ParseYAML(name, data)
	} else {
		folder, err := os.Getwd()
		if err != nil {
			return input{}, fmt.Errorf("find the working directory: %w", err)
		}
		in.result, in.Problems = conf.Reader{
			Folder: folder, Open: a.opener(name, data), Glob: filepath.Glob, Env: os.LookupEnv, ConfigID: configID(f.configID, s.node), Lenient: f.lenient,
		}.Read(name)
	}
	in.Notices = in.result.Notices
	return in, nil
}

// configID is what was said, or the node whose file it is, or, as in keepalived,
// this host; of a host the short name.
func configID(said, node string) string {
	if said != "" {
		return said
	}
	if node == "" {
		node, _ = os.Hostname() // without a name no @ line is kept
	}
	short, _, _ := strings.Cut(node, ".")
	return short
}

// opener serves the file that is read already, and the others from disk.
func (a *app) opener(name string, data []byte) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if path == name {
			return data, nil
		}
		return readRegular(path)
	}
}

// readRegular reads an included file; a device or pipe would never end.
func readRegular(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("is not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, path)
}

// isYAML goes by the name's ending, and by content where that says nothing: a
// keepalived.conf has a line that ends with an opening brace or is an include.
func isYAML(name string, data []byte) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	case ".conf":
		return false
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "!") || strings.HasSuffix(line, "{") || strings.HasPrefix(line, "include ") {
			return false
		}
		if strings.HasSuffix(line, ":") || strings.Contains(line, ": ") {
			return true
		}
	}
	return false
}

// located gives what the cluster finds wrong with the file the lines where it
// stands; no Problems: err is of another kind.
func (in input) located(err error) input {
	out := input{Notices: in.Notices, result: in.result}
	var refused *api.Problem
	if !errors.As(err, &refused) || refused.Code != api.CodeInvalid {
		return out
	}
	for _, f := range refused.Problems {
		out.Problems = append(out.Problems, in.result.Locate(fsm.Problem{Path: f.Path, Text: f.Text}))
	}
	return out
}
