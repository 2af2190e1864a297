package conf

import (
	"fmt"
	"strings"

	"lbcluster/fsm"
)

// The YAML of what checks ask.
type (
	yamlHTTP struct {
		Protocol string    `yaml:"protocol,omitempty"` // 1.0
		SNI      bool      `yaml:"sni,omitempty"`
		URLs     []yamlURL `yaml:"urls"`
	}
	yamlURL struct {
		Path        string `yaml:"path"`
		VirtualHost string `yaml:"virtualhost,omitempty"`
		Status      string `yaml:"status,omitempty"` // "200-299": codes and ranges, divided by commas
		Digest      string `yaml:"digest,omitempty"`
		Regex       string `yaml:"regex,omitempty"`
		NoMatch     bool   `yaml:"regex_no_match,omitempty"`
		MinOffset   int    `yaml:"regex_min_offset,omitempty"`
		MaxOffset   int    `yaml:"regex_max_offset,omitempty"`
	}
	yamlDNS struct {
		Type string `yaml:"type,omitempty"` // SOA
		Name string `yaml:"name,omitempty"` // .
	}
	yamlUDP struct {
		Payload   string `yaml:"payload,omitempty"`
		Reply     bool   `yaml:"require_reply,omitempty"`
		Expect    string `yaml:"expect,omitempty"`
		MinLength int    `yaml:"min_reply_length,omitempty"`
		MaxLength *int   `yaml:"max_reply_length,omitempty"` // 255
	}
	yamlCheckFile struct {
		Path    string `yaml:"path"`
		Weight  int    `yaml:"weight,omitempty"` // times the number in it; 0: anything but 0 fails
		Reverse bool   `yaml:"reverse,omitempty"`
	}
	yamlCheckScript struct {
		Command string `yaml:"command"`
		User    string `yaml:"user,omitempty"`
		Timeout string `yaml:"timeout,omitempty"` // delay_loop
		Dynamic bool   `yaml:"dynamic,omitempty"` // an exit status from 2 is a weight, and two more
	}
)

// question reads what the kind asks into c.
func (y *yamlReader) question(path string, in yamlCheck, c *fsm.Check) {
	if h := in.HTTP; h != nil {
		c.HTTP = &fsm.HTTPCheck{Protocol: or(h.Protocol, fsm.HTTPProtocol10), SNI: h.SNI}
		for i, u := range h.URLs {
			c.HTTP.URLs = append(c.HTTP.URLs, y.url(fmt.Sprintf("%s.http.urls[%d]", path, i), u))
		}
	}
	if c.Helo = in.Helo; c.Kind == fsm.CheckSMTP {
		c.Helo = or(in.Helo, defaultHelo)
	}
	if d := in.DNS; d != nil {
		c.DNS = &fsm.DNSCheck{Type: or(strings.ToUpper(d.Type), "SOA"), Name: or(d.Name, ".")}
	} else if c.Kind == fsm.CheckDNS {
		c.DNS = &fsm.DNSCheck{Type: "SOA", Name: "."}
	}
	if u := in.UDP; u != nil {
		c.UDP = &fsm.UDPCheck{Payload: strings.ToLower(u.Payload), Reply: u.Reply, Expect: strings.ToLower(u.Expect), MinLength: u.MinLength}
		if u.Reply {
			c.UDP.MaxLength = *first(u.MaxLength, ptr(255))
		}
	} else if c.Kind == fsm.CheckUDP {
		c.UDP = &fsm.UDPCheck{}
	}
	if f := in.File; f != nil {
		c.File = &fsm.FileCheck{Path: f.Path, Weight: f.Weight, Reverse: f.Reverse}
	}
	if s := in.Script; s != nil {
		c.Script = &fsm.ScriptCheck{
			Script:  fsm.Script{Command: s.Command, User: s.User},
			Timeout: y.duration(path+".script.timeout", s.Timeout, c.DelayLoop.D()),
			Dynamic: s.Dynamic,
		}
	}
}

func (y *yamlReader) url(path string, in yamlURL) fsm.HTTPURL {
	u := fsm.HTTPURL{
		Path: in.Path, VirtualHost: in.VirtualHost, Digest: strings.ToLower(in.Digest), Regex: in.Regex,
		NoMatch: in.NoMatch, MinOffset: in.MinOffset, MaxOffset: in.MaxOffset,
	}
	for word := range strings.SplitSeq(or(in.Status, "200-299"), ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(word), "-")
		if !ranged {
			high = low
		}
		from, err1 := number(low, 100, 599)
		to, err2 := number(high, 100, 599)
		if err1 != nil || err2 != nil || from > to {
			y.wrong(path+".status", "%q is no status code, nor a range of them, from 100 to 599", word)
			continue
		}
		u.Status = append(u.Status, fsm.StatusRange{From: int(from), To: int(to)})
	}
	u.Status = joinedRanges(u.Status)
	return u
}

// questionToYAML is the other way round.
func questionToYAML(c fsm.Check, y *yamlCheck) {
	y.Alpha, y.DSR = c.Alpha, c.DSR
	y.BindPort, y.BindIf, y.Mark, y.Helo = c.BindPort, c.BindIf, c.Mark, c.Helo
	if h := c.HTTP; h != nil {
		y.HTTP = &yamlHTTP{Protocol: h.Protocol, SNI: h.SNI}
		for _, u := range h.URLs {
			ranges := make([]string, len(u.Status))
			for i, r := range u.Status {
				ranges[i] = r.String()
			}
			y.HTTP.URLs = append(y.HTTP.URLs, yamlURL{
				Path: u.Path, VirtualHost: u.VirtualHost, Status: strings.Join(ranges, ","), Digest: u.Digest,
				Regex: u.Regex, NoMatch: u.NoMatch, MinOffset: u.MinOffset, MaxOffset: u.MaxOffset,
			})
		}
	}
	if d := c.DNS; d != nil {
		y.DNS = &yamlDNS{Type: d.Type, Name: d.Name}
	}
	if u := c.UDP; u != nil {
		y.UDP = &yamlUDP{Payload: u.Payload, Reply: u.Reply, Expect: u.Expect, MinLength: u.MinLength}
		if u.Reply {
			y.UDP.MaxLength = ptr(u.MaxLength)
		}
	}
	if f := c.File; f != nil {
		y.File = &yamlCheckFile{Path: f.Path, Weight: f.Weight, Reverse: f.Reverse}
	}
	if s := c.Script; s != nil {
		y.Script = &yamlCheckScript{Command: s.Command, User: s.User, Timeout: s.Timeout.String(), Dynamic: s.Dynamic}
	}
}
