package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The YAML format. Keys are those of the table's JSON. Durations are written
// with a unit ("1.5s"). Nothing is inherited, and unlike in keepalived.conf a
// service must say its protocol and its forwarding method.
type (
	yamlFile struct {
		Globals  *yamlGlobals  `yaml:"globals,omitempty"`
		Routers  []yamlRouter  `yaml:"routers,omitempty"`
		Groups   []yamlGroup   `yaml:"groups,omitempty"`
		Services []yamlService `yaml:"services,omitempty"`
	}
	yamlGlobals struct {
		RouterID          string   `yaml:"router_id,omitempty"`
		NotificationEmail []string `yaml:"notification_email,omitempty"`
		EmailFrom         string   `yaml:"email_from,omitempty"`
		SMTPServer        string   `yaml:"smtp_server,omitempty"`
		SMTPTimeout       string   `yaml:"smtp_connect_timeout,omitempty"`
		SMTPHelo          string   `yaml:"smtp_helo_name,omitempty"`
		NoEmailFaults     bool     `yaml:"no_email_faults,omitempty"`

		NotifyFIFO *yamlFIFO `yaml:"notify_fifo,omitempty"`
		VRRPFIFO   *yamlFIFO `yaml:"vrrp_notify_fifo,omitempty"`
		LVSFIFO    *yamlFIFO `yaml:"lvs_notify_fifo,omitempty"`

		SkipCheckAdvAddr bool   `yaml:"vrrp_skip_check_adv_addr,omitempty"`
		GARPInterval     string `yaml:"vrrp_garp_interval,omitempty"`
		GNAInterval      string `yaml:"vrrp_gna_interval,omitempty"`

		IPVS *yamlIPVS `yaml:"ipvs,omitempty"`
	}
	yamlRouter struct {
		Name           string        `yaml:"name"`
		Interface      string        `yaml:"interface,omitempty"`
		VRID           int           `yaml:"vrid"`
		Priority       *int          `yaml:"priority,omitempty"` // 100
		Version        *int          `yaml:"version,omitempty"`  // 2; 3 with IPv6
		Initial        string        `yaml:"initial,omitempty"`
		AdvertInterval string        `yaml:"advert_interval,omitempty"` // 1s
		AuthPass       string        `yaml:"auth_pass,omitempty"`
		Addresses      []yamlAddress `yaml:"addresses"`
		VMAC           *yamlVMAC     `yaml:"use_vmac,omitempty"` // {}: all as usual
		Peering        *yamlPeering  `yaml:"peering,omitempty"`
		Track          []yamlTrack   `yaml:"track,omitempty"`
		Notify         *yamlNotify   `yaml:"notify,omitempty"`
		Alert          *bool         `yaml:"smtp_alert,omitempty"` // true, with mail settings
	}
	yamlAddress struct {
		Prefix string `yaml:"prefix"` // length 32 or 128 unless given
		Dev    string `yaml:"dev,omitempty"`
		Label  string `yaml:"label,omitempty"`
		// Excluded: not in the adverts.
		Excluded bool `yaml:"excluded,omitempty"`
	}
	yamlService struct {
		Address           string       `yaml:"address,omitempty"`  // with port (0: all)
		Mark              uint32       `yaml:"mark,omitempty"`     // instead of address and protocol
		Family            string       `yaml:"family,omitempty"`   // of a mark: ipv4, ipv6; ipv4
		Match             []yamlMatch  `yaml:"match,omitempty"`    // of a mark
		Protocol          string       `yaml:"protocol,omitempty"` // not with a mark
		Method            string       `yaml:"method"`
		Scheduler         string       `yaml:"scheduler,omitempty"` // wlc
		HashPort          bool         `yaml:"hash_port,omitempty"`
		HashFallback      bool         `yaml:"hash_fallback,omitempty"`
		OnePacket         bool         `yaml:"one_packet,omitempty"`
		Persistence       string       `yaml:"persistence,omitempty"`
		PersistenceMask   *int         `yaml:"persistence_mask,omitempty"` // 32 or 128
		PersistenceEngine string       `yaml:"persistence_engine,omitempty"`
		Group             string       `yaml:"group,omitempty"`
		Quorum            uint32       `yaml:"quorum,omitempty"` // 1
		Hysteresis        uint32       `yaml:"hysteresis,omitempty"`
		Sorry             *yamlSorry   `yaml:"sorry_server,omitempty"`
		Panic             uint8        `yaml:"panic_threshold,omitempty"` // percent; 0: never
		SlowStart         string       `yaml:"slow_start,omitempty"`      // 0s
		Alert             *bool        `yaml:"smtp_alert,omitempty"`      // true, with mail settings
		QuorumUp          *yamlScript  `yaml:"quorum_up,omitempty"`
		QuorumDown        *yamlScript  `yaml:"quorum_down,omitempty"`
		RealServers       []yamlServer `yaml:"real_servers"`
	}
	yamlMatch struct {
		Address  string `yaml:"address"` // or network
		Protocol string `yaml:"protocol"`
		Ports    string `yaml:"ports,omitempty"` // "80", "80-443"; all
	}
	yamlServer struct {
		Address        string      `yaml:"address"`          // the port may be left out
		Method         string      `yaml:"method,omitempty"` // the service's
		Weight         *int        `yaml:"weight,omitempty"` // 1
		UpperThreshold uint32      `yaml:"upper_threshold,omitempty"`
		LowerThreshold uint32      `yaml:"lower_threshold,omitempty"`
		Inhibit        bool        `yaml:"inhibit,omitempty"`
		Backup         bool        `yaml:"backup,omitempty"`     // serves while too few others are up
		Alert          *bool       `yaml:"smtp_alert,omitempty"` // true
		NotifyUp       *yamlScript `yaml:"notify_up,omitempty"`
		NotifyDown     *yamlScript `yaml:"notify_down,omitempty"`
		Checks         []yamlCheck `yaml:"checks,omitempty"`
	}
	yamlCheck struct {
		Kind             string `yaml:"kind"`
		Dest             string `yaml:"dest,omitempty"` // the server
		Bind             string `yaml:"bind,omitempty"`
		ConnectTimeout   string `yaml:"connect_timeout,omitempty"`    // 3s
		Retry            *int   `yaml:"retry,omitempty"`              // 2
		DelayBeforeRetry string `yaml:"delay_before_retry,omitempty"` // 1s
		DelayLoop        string `yaml:"delay_loop,omitempty"`         // 5s
		Warmup           string `yaml:"warmup,omitempty"`             // delay_loop
		BindPort         uint16 `yaml:"bind_port,omitempty"`
		BindIf           string `yaml:"bind_if,omitempty"`
		Mark             uint32 `yaml:"fwmark,omitempty"`
		Alpha            bool   `yaml:"alpha,omitempty"`
		DSR              bool   `yaml:"dsr,omitempty"` // dest is the virtual server

		HTTP   *yamlHTTP        `yaml:"http,omitempty"`
		Helo   string           `yaml:"helo,omitempty"` // smtpchecker.keepalived.org
		DNS    *yamlDNS         `yaml:"dns,omitempty"`
		UDP    *yamlUDP         `yaml:"udp,omitempty"`
		Script *yamlCheckScript `yaml:"script,omitempty"`
		File   *yamlCheckFile   `yaml:"file,omitempty"`
	}
)

// yamlAddressKeys are yamlAddress's, which reads itself and so must refuse
// strangers itself.
var yamlAddressKeys = map[string]bool{"prefix": true, "dev": true, "label": true, "excluded": true}

// UnmarshalYAML reads a bare address as well as a mapping.
func (a *yamlAddress) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		a.Prefix = n.Value
		return nil
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k := n.Content[i]; !yamlAddressKeys[k.Value] {
				return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: field %s not found in type address", k.Line, k.Value)}}
			}
		}
	}
	type plain yamlAddress // without this method
	return n.Decode((*plain)(a))
}

// ParseYAML reads our own format; name is for messages only. As with [Parse],
// one problem means that the result must not be applied.
func ParseYAML(name string, data []byte) (Result, []Problem) {
	whole := place{pos: pos{file: name}}
	y := &yamlReader{report: &report{order: map[string]int{}}, keys: map[string]place{"": whole}, places: places{"": {place: whole}}}
	y.read(name, data)
	y.sort()
	return Result{Config: y.cfg, Notices: y.notices, places: y.places}, y.problems
}

func (y *yamlReader) read(name string, data []byte) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		y.syntax(name, err)
		return
	}
	y.sources = strings.Split(string(data), "\n")
	if len(root.Content) > 0 {
		y.index(name, "", "", root.Content[0], 0)
	}
	var file yamlFile
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		y.syntax(name, err)
		return
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		y.wrong("", "only one document is read from a file; there is a second one after ---")
		return
	}
	y.convert(file)
	if len(y.problems) == 0 && len(y.cfg.Routers)+len(y.cfg.Services) == 0 {
		y.notice(pos{file: name}, "", "the file names no routers and no services")
	}
	validate(y.report, y.places, y.cfg)
}

var (
	yamlLine  = regexp.MustCompile(`(?s)^(?:yaml: )?line (\d+): (.*)$`)
	yamlField = regexp.MustCompile(`^field (.*) not found in type .*$`)
)

// syntax reports what the YAML library found; it names lines in its texts.
func (y *yamlReader) syntax(name string, err error) {
	texts := []string{err.Error()}
	var te *yaml.TypeError
	if errors.As(err, &te) {
		texts = te.Errors
	}
	for _, text := range texts {
		at, keyword := pos{file: name}, ""
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			at.line, _ = strconv.Atoi(m[1])
			text = m[2]
		}
		if m := yamlField.FindStringSubmatch(text); m != nil {
			keyword, text = m[1], "unknown key"
		}
		y.problem(at, keyword, "%s", strings.TrimPrefix(text, "yaml: "))
	}
}

// index records where each key stands, by its path: "services[0].protocol".
func (y *yamlReader) index(file, path, keyword string, n *yaml.Node, depth int) {
	if depth > 20 {
		return
	}
	if _, ok := y.keys[path]; !ok {
		y.keys[path] = place{y.pos(file, n), keyword}
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			at := strings.TrimPrefix(path+"."+key.Value, ".")
			y.keys[at] = place{y.pos(file, key), key.Value}
			y.index(file, at, key.Value, n.Content[i+1], depth+1)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			y.index(file, fmt.Sprintf("%s[%d]", path, i), keyword, item, depth+1)
		}
	}
}

// pos is where a node stands, with its line.
func (y *yamlReader) pos(file string, n *yaml.Node) pos {
	p := pos{file: file, line: n.Line}
	if n.Line < 1 || n.Line > len(y.sources) {
		return p
	}
	p.src = &origin{raw: strings.TrimRight(y.sources[n.Line-1], "\r")}
	at := 0
	for range n.Column - 1 { // the library counts characters
		if at < len(p.src.raw) {
			_, size := utf8.DecodeRuneInString(p.src.raw[at:])
			at += size
		}
	}
	p.col = at + 1
	return p
}

// key returns the place of the longest recorded beginning of path.
func (y *yamlReader) key(path string) place {
	for {
		if at, ok := y.keys[path]; ok || path == "" {
			return at
		}
		path = path[:max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['), 0)]
	}
}
