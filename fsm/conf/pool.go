package conf

import (
	"fmt"
	"net/netip"
	"strings"

	"lbcluster/fsm"
)

// readPoolWeight reads a quorum or a hysteresis.
func (b *builder) readPoolWeight(n *node, low uint64, to *uint32) {
	b.service.said[n.word] = n
	v, err := number(n.args[0], low, 1<<30)
	if err != nil {
		b.wrong(n, err)
		return
	}
	*to = uint32(v)
}

func (b *builder) readSorry(n *node) {
	if addr, port, ok := b.serverAddr(n); ok {
		b.service.said["sorry_server"] = n
		b.service.Sorry = &fsm.SorryServer{Addr: addr, Port: port}
	}
}

// hasSorry tells of a word about a sorry server before there is one, which
// keepalived ignores.
func (b *builder) hasSorry(n *node) bool {
	if b.service.Sorry == nil {
		b.doubt(n.pos, n.word, "stands before sorry_server, or without it", "it is ignored")
		return false
	}
	return true
}

// sorry is the sorry server as one virtual server of a group has it: the forwarding
// method decides about its port, as about a real server's.
func (d *serviceDraft) sorry(key fsm.ServiceKey) *fsm.SorryServer {
	if d.Sorry == nil {
		return nil
	}
	s := *d.Sorry
	if s.Method == d.Method {
		s.Method = ""
	}
	method := d.MethodOf(fsm.RealServer{Method: s.Method})
	if method != fsm.Masquerade || s.Port == 0 {
		s.Port = key.Port
	}
	return &s
}

// pool brings quorum and hysteresis to what the real servers can weigh, as keepalived
// does, and tells of it.
func (b *builder) pool(d *serviceDraft) {
	if d.Quorum == 1 {
		d.Quorum = 0 // the default
	}
	sum := uint32(0)
	for _, s := range d.servers {
		if s.backup == nil {
			sum += uint32(*first(s.weight, d.weight, ptr(1)))
		}
	}
	if d.Quorum > sum {
		n := d.said["quorum"]
		b.notice(n.pos, n.word, "%d exceeds the weight of all real servers: taken as %d, as in keepalived", d.Quorum, sum)
		d.Quorum = sum
	}
	if d.Hysteresis > 0 && d.Hysteresis >= max(1, d.Quorum) {
		n := d.said["hysteresis"]
		less := max(1, d.Quorum) - 1
		b.notice(n.pos, n.word, "%d is not below the quorum: taken as %d, as in keepalived", d.Hysteresis, less)
		d.Hysteresis = less
	}
	if d.Quorum == 1 {
		d.Quorum = 0
	}
}

// pool writes them.
func (w *writer) pool(s fsm.VirtualServer) {
	w.unless(s.Quorum == 0, "quorum", fmt.Sprint(s.Quorum))
	w.unless(s.Hysteresis == 0, "hysteresis", fmt.Sprint(s.Hysteresis))
	if s.Sorry == nil {
		return
	}
	words := []string{"sorry_server", s.Sorry.Addr.String()}
	if s.Sorry.Port != 0 {
		words = append(words, fmt.Sprint(s.Sorry.Port))
	}
	w.line(words...)
	w.unless(s.Sorry.Method == "", "sorry_server_lvs_method", strings.ToUpper(string(s.Sorry.Method)))
	w.unless(!s.Sorry.Inhibit, "sorry_server_inhibit")
}

// yamlSorry is a sorry server.
type yamlSorry struct {
	Address string `yaml:"address"`          // the port may be left out
	Method  string `yaml:"method,omitempty"` // the service's
	Inhibit bool   `yaml:"inhibit,omitempty"`
}

func (y *yamlReader) sorry(path string, in *yamlSorry, v fsm.VirtualServer) *fsm.SorryServer {
	if in == nil {
		return nil
	}
	if in.Method != "" {
		y.required(path, "method", in.Method, yamlMethods...)
	}
	at := y.addrPort(path+".address", in.Address, int(v.Port))
	if in.Address == "" {
		y.wrong(path, "address is missing")
	}
	return &fsm.SorryServer{Addr: at.Addr(), Port: at.Port(), Method: fsm.Method(in.Method), Inhibit: in.Inhibit}
}

func sorryToYAML(v fsm.VirtualServer) *yamlSorry {
	s := v.Sorry
	if s == nil {
		return nil
	}
	address := s.Addr.String()
	if s.Port != v.Port {
		address = netip.AddrPortFrom(s.Addr, s.Port).String()
	}
	return &yamlSorry{Address: address, Method: string(s.Method), Inhibit: s.Inhibit}
}
