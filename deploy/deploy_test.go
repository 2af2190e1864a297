package deploy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"lbcluster/fsm/conf"
)

// unit reads a systemd unit: values by "Section.Key", in order.
func unit(t *testing.T, text string) map[string][]string {
	t.Helper()
	values, section := map[string][]string{}, ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = strings.Trim(line, "[]")
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" || key != strings.TrimSpace(key) {
				t.Fatalf("line %d: %q is no setting", i+1, line)
			}
			values[section+"."+key] = append(values[section+"."+key], value)
		}
	}
	return values
}

// TestUnit holds the settings on which promises rest, each for its reason.
func TestUnit(t *testing.T) {
	u := unit(t, Unit)
	for key, c := range map[string]struct{ want, why string }{
		"Service.ExecStart":                {"/usr/sbin/lbcluster run", "it is what is installed"},
		"Service.Type":                     {"notify", "units after it must find a daemon that answers"},
		"Service.RuntimeDirectory":         {"lbcluster", "the socket is there"},
		"Service.RuntimeDirectoryPreserve": {"yes", "what voters promised must outlive the process until the next boot"},
		"Service.StateDirectory":           {"lbcluster", "identity and log are there"},
		"Service.StateDirectoryMode":       {"0700", "keys are there"},
		"Service.LimitMEMLOCK":             {"infinity", "older kernels count eBPF maps as locked memory"},
		"Service.Restart":                  {"always", "a director without its daemon owns nothing"},
		"Unit.StartLimitIntervalSec":       {"0", "and must not be given up"},
		"Service.ExecStopPost":             {"+/usr/sbin/lbcluster fence", "a killed daemon must not keep what it held"},
		"Service.ExecReload":               {"/bin/kill -HUP $MAINPID", "an upgrade moves no VIP"},
		"Service.KillMode":                 {"mixed", "VIPs are given up in order"},
		"Service.ExecStartPre":             {"+-/sbin/modprobe ip_vs", "the daemon itself may not load modules"},
		"Install.WantedBy":                 {"multi-user.target", "it starts at boot"},
	} {
		if got := u[key]; !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s is %q, want %q: %s", key, got, c.want, c.why)
		}
	}
	caps := strings.Fields(strings.Join(u["Service.CapabilityBoundingSet"], " "))
	for _, need := range []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"} {
		if !slices.Contains(caps, need) {
			t.Errorf("%s is missing", need)
		}
	}
	if slices.Contains(caps, "CAP_SYS_MODULE") {
		t.Error("the daemon may load kernel modules; ExecStartPre does that for it")
	}
	if got := u["Unit.Conflicts"]; got != nil {
		t.Errorf("starting the daemon, which may not even be enrolled, would stop %s", got)
	}
	for _, family := range []string{"AF_UNIX", "AF_INET", "AF_NETLINK", "AF_PACKET"} {
		if !strings.Contains(strings.Join(u["Service.RestrictAddressFamilies"], " "), family) {
			t.Errorf("%s is missing", family)
		}
	}
}

// TestUnitSharesMounts: settings that give the service a mount namespace would
// hide a bpffs that it mounts.
func TestUnitSharesMounts(t *testing.T) {
	for key, values := range unit(t, Unit) {
		if regexp.MustCompile(`^Service\.(Private(Mounts|Tmp|Devices|Network|Users)|Protect.*|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|Bind.*|RootDirectory|TemporaryFileSystem|DynamicUser)$`).MatchString(key) {
			t.Errorf("%s=%s gives the daemon mounts or a network of its own", key, values)
		}
	}
}

// TestUnitVerifies asks systemd itself, where it is there: a misspelt setting
// is only a warning when it starts.
func TestUnitVerifies(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here")
	}
	for name, text := range map[string]string{"lbcluster.service": Unit, "lbcluster-realserver.service": RealServerUnit} {
		// The program need not be installed for this.
		text = strings.ReplaceAll(text, "/usr/sbin/lbcluster", "/bin/true")
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, file) || strings.Contains(line, "Unknown") {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}

// TestRealServerUnit: what was put on lo outlives the process, and the folders are
// those that the program uses by default.
func TestRealServerUnit(t *testing.T) {
	u := unit(t, RealServerUnit)
	for key, want := range map[string]string{
		"Service.ExecStart":                "/usr/sbin/lbcluster realserver run",
		"Service.RuntimeDirectory":         "lbcluster-realserver",
		"Service.RuntimeDirectoryPreserve": "yes",
		"Service.StateDirectory":           "lbcluster-realserver",
		"Service.StateDirectoryMode":       "0700",
		"Service.CapabilityBoundingSet":    "CAP_NET_ADMIN",
	} {
		if got := u[key]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, no := range []string{"Service.ProtectKernelTunables", "Service.PrivateNetwork", "Service.ExecStopPost"} {
		if u[no] != nil {
			t.Errorf("%s=%q: it could set no sysctl, see no lo, or would take away what is to stay", no, u[no])
		}
	}
}

// node is the file's keys and their types.
type node struct {
	Name       string            `yaml:"name"`
	Addr       string            `yaml:"addr"`
	DataDir    string            `yaml:"data_dir"`
	Socket     string            `yaml:"socket"`
	Interfaces map[string]string `yaml:"interfaces"`
	Networks   []string          `yaml:"networks"`
	LogLevel   string            `yaml:"log_level"`
	BPFPinDir  string            `yaml:"bpf_pin_dir"`
	Metrics    string            `yaml:"metrics"`
	Web        map[string]string `yaml:"web"`
}

func decode(t *testing.T, text string) (n node) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNodeConfig: as shipped, the file says the defaults and fits any machine.
func TestNodeConfig(t *testing.T) {
	n := decode(t, NodeConfig)
	if n.Name != "" || n.Addr != "" || len(n.Interfaces) > 0 {
		t.Errorf("the shipped file is for one machine only: %+v", n)
	}
	if n.DataDir != "/var/lib/lbcluster" || n.Socket != "/run/lbcluster/lbcluster.sock" || n.LogLevel != "info" || n.BPFPinDir != "/sys/fs/bpf/lbcluster" {
		t.Errorf("not the defaults: %+v", n)
	}
	u := unit(t, Unit)
	if "/var/lib/"+u["Service.StateDirectory"][0] != n.DataDir || "/run/"+u["Service.RuntimeDirectory"][0] != filepath.Dir(n.Socket) {
		t.Error("the unit makes other folders than the file names")
	}
}

// TestNodeConfigExamples: without their # the examples are valid as well, and
// every key is there, with a word about it before it.
func TestNodeConfigExamples(t *testing.T) {
	text := regexp.MustCompile(`(?m)^#([a-z_]+:|  [a-z0-9_]+:)`).ReplaceAllString(NodeConfig, "$1")
	n := decode(t, text)
	if n.Name == "" || n.Addr != "10.0.0.11:7500" || !maps.Equal(n.Interfaces, map[string]string{"eth0": "ens192"}) {
		t.Errorf("%+v", n)
	}
	all := strings.Split(text, "\n")
	for _, key := range []string{"name", "addr", "data_dir", "socket", "interfaces", "log_level", "bpf_pin_dir", "metrics", "web"} {
		i := slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(l, key+":") })
		if i < 1 || !strings.HasPrefix(all[i-1], "# ") {
			t.Errorf("%s is missing or not explained", key)
		}
	}
}

// TestSample: the sample can be applied as it is.
func TestSample(t *testing.T) {
	r, problems := conf.Parse("keepalived-pair.conf", func(string) ([]byte, error) { return []byte(Sample), nil }, nil)
	for _, p := range problems {
		t.Error(p)
	}
	if len(r.Config.Routers) != 1 || len(r.Config.Services) != 1 || len(r.Config.Services[0].RealServers) != 2 {
		t.Errorf("%+v", r.Config)
	}
}

// TestVIPSample: a router without virtual servers, with what it depends on.
func TestVIPSample(t *testing.T) {
	r, problems := conf.Parse("vip-for-nginx.conf", func(string) ([]byte, error) { return []byte(VIPSample), nil }, nil)
	for _, p := range problems {
		t.Error(p)
	}
	if len(r.Config.Routers) != 1 || len(r.Config.Services) != 0 || len(r.Config.Routers[0].Track) != 2 || r.Config.Routers[0].Notify.Any == nil {
		t.Errorf("%+v", r.Config)
	}
}
