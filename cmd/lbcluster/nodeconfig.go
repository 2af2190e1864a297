package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"lbcluster/cluster/api"
)

// Defaults of a machine's own configuration.
const (
	defaultConfig  = "/etc/lbcluster/lbcluster.yaml"
	defaultDataDir = "/var/lib/lbcluster"
	defaultPinDir  = "/sys/fs/bpf/lbcluster"
	defaultPort    = 7500
)

// NodeConfig is what one machine has for itself; all else is in the table.
type NodeConfig struct {
	// Name is unique in the cluster; by default the host name up to its first dot.
	Name string
	// Addr is where this member serves the others: see fsm.Member.Addr.
	Addr netip.AddrPort
	// DataDir keeps identity, log and snapshots. Absolute.
	DataDir string
	// Socket is the API's. Absolute.
	Socket string
	// Interfaces maps an interface's name in the table to its name here, where
	// the network of the VIP does not tell.
	Interfaces map[string]string
	// Networks names further interfaces or networks on which the other members
	// reach this one, beside that of Addr and those of the VIPs.
	Networks []string
	LogLevel slog.Level
	// BPFPinDir is the folder in a bpffs that keeps the gate. Absolute.
	BPFPinDir string
	// Metrics is where GET /metrics is served to the network, in clear text; zero:
	// nowhere.
	Metrics netip.AddrPort
	// Web is where the page is served to the network.
	Web WebConfig
}

// nodeFile is the file as written.
type nodeFile struct {
	Name       string            `yaml:"name"`
	Addr       string            `yaml:"addr"`
	DataDir    string            `yaml:"data_dir"`
	Socket     string            `yaml:"socket"`
	Interfaces map[string]string `yaml:"interfaces"`
	Networks   []string          `yaml:"networks"`
	LogLevel   string            `yaml:"log_level"`
	BPFPinDir  string            `yaml:"bpf_pin_dir"`
	Metrics    string            `yaml:"metrics"`
	Web        webFile           `yaml:"web"`
}

// nodeEnv is what defaults come from.
type nodeEnv struct {
	hostname string
	addrs    []localAddr
}

// readNodeFile reads the file at path; one that is not there says nothing.
func readNodeFile(path string) (nodeFile, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nodeFile{}, nil
	}
	if err != nil {
		return nodeFile{}, fmt.Errorf("read this machine's configuration: %w", err)
	}
	f, err := parseNodeFile(b)
	if err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// parseNodeFile reads the YAML; unknown keys are errors.
func parseNodeFile(b []byte) (nodeFile, error) {
	var f nodeFile
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, err
	}
	return f, nil
}

// merge lays what is set in o over f.
func (f nodeFile) merge(o nodeFile) nodeFile {
	set := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	set(&f.Name, o.Name)
	set(&f.Addr, o.Addr)
	set(&f.DataDir, o.DataDir)
	set(&f.Socket, o.Socket)
	return f
}

// resolve fills the defaults in and checks everything; all faults come
// together in one error.
func (f nodeFile) resolve(env nodeEnv) (NodeConfig, error) {
	short, _, _ := strings.Cut(env.hostname, ".")
	c := NodeConfig{
		Name: or(f.Name, short), DataDir: or(f.DataDir, defaultDataDir), Socket: or(f.Socket, api.DefaultSocket),
		Interfaces: f.Interfaces, Networks: f.Networks, BPFPinDir: or(f.BPFPinDir, defaultPinDir),
	}
	var errs []error
	if !nodeName.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("name: %q must be 1 to 63 letters, digits, dots and hyphens", c.Name))
	}
	addr, err := resolveAddr(f.Addr, env.addrs)
	if err != nil {
		errs = append(errs, fmt.Errorf("addr: %w", err))
	}
	c.Addr = addr
	if err := c.LogLevel.UnmarshalText([]byte(or(f.LogLevel, "info"))); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %q is not debug, info, warn or error", f.LogLevel))
	}
	for _, p := range []struct{ key, path string }{{"data_dir", c.DataDir}, {"socket", c.Socket}, {"bpf_pin_dir", c.BPFPinDir}} {
		if !filepath.IsAbs(p.path) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", p.key, p.path))
		}
	}
	for table, here := range f.Interfaces {
		if !ifName.MatchString(table) || !ifName.MatchString(here) {
			errs = append(errs, fmt.Errorf("interfaces: %q: %q: an interface's name has 1 to 15 characters, no space and no slash", table, here))
		}
	}
	if c.Metrics, err = listenAddr(f.Metrics); err != nil {
		errs = append(errs, fmt.Errorf("metrics: %w", err))
	}
	if c.Web, err = f.Web.resolve(); err != nil {
		errs = append(errs, err)
	}
	for _, n := range f.Networks {
		if err := checkNetwork(n); err != nil {
			errs = append(errs, err)
		}
	}
	return c, errors.Join(errs...)
}

// listenAddr reads an address to listen on; empty: none.
func listenAddr(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Port() == 0 {
		return a, fmt.Errorf("%q is no IP:port to listen on, such as 10.0.0.11:9750 (0.0.0.0 and [::] mean all addresses)", text)
	}
	return a, nil
}

var (
	nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	ifName   = regexp.MustCompile(`^[^\s/]{1,15}$`)
)

func or(v, otherwise string) string {
	if v != "" {
		return v
	}
	return otherwise
}
