package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"lbcluster/dataplane/fence"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
)

// senderKey names a raw socket: one for each interface and family.
type senderKey struct {
	index int
	v6    bool
}

// sender is a raw socket on one interface.
type sender struct {
	mac  net.HardwareAddr
	conn *packet.Conn
	// frames makes what announces addr, in the order of sending.
	frames func(addr netip.Addr) ([][]byte, error)
	to     net.HardwareAddr
}

// sendTimeout bounds one send: a full transmit queue must not hold up others.
const sendTimeout = 50 * time.Millisecond

// Announce tells the neighbours that addr lives on the interface: by gratuitous
// ARP in both forms, or by an unsolicited neighbour advertisement. Before each
// packet p must cover addr (else ErrNoPermit).
func (h *Host) Announce(p fence.Permit, l Link, addr netip.Addr) error {
	if len(l.MAC) != 6 {
		return fmt.Errorf("announce %s: interface %s has no Ethernet address", addr, l.Name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.sender(l, addr.Is6())
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, l.Name, err)
	}
	if err := s.announce(p, addr); err != nil {
		if !errors.Is(err, ErrNoPermit) {
			h.forget(senderKey{l.Index, addr.Is6()})
		}
		return fmt.Errorf("announce %s on %s: %w", addr, l.Name, err)
	}
	return nil
}

// sender returns the interface's socket, opened anew when its MAC changed.
func (h *Host) sender(l Link, v6 bool) (*sender, error) {
	key := senderKey{l.Index, v6}
	if s := h.senders[key]; s != nil {
		if slices.Equal(s.mac, l.MAC) {
			return s, nil
		}
		h.forget(key)
	}
	s := &sender{mac: slices.Clone(l.MAC), to: ethernet.Broadcast}
	s.frames = s.gratuitousARP
	etherType := ethernet.EtherTypeARP
	if v6 {
		s.to, etherType = allNodesMAC, ethernet.EtherTypeIPv6
		s.frames = func(addr netip.Addr) ([][]byte, error) { return s.advertisement(addr, h.forwards(l.Name)) }
	}
	err := h.inside(func() (err error) {
		s.conn, err = dial(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: s.mac}, etherType)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.senders[key] = s
	return s, nil
}

func (h *Host) forget(key senderKey) {
	if s := h.senders[key]; s != nil {
		s.conn.Close()
		delete(h.senders, key)
	}
}

// dial opens a raw socket that receives nothing: its filter keeps no packet.
func dial(ifi *net.Interface, etherType ethernet.EtherType) (*packet.Conn, error) {
	none, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(etherType), &packet.Config{Filter: none})
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	return conn, nil
}

// gratuitousARP is the request and the reply, with addr as sender and target.
func (s *sender) gratuitousARP(addr netip.Addr) ([][]byte, error) {
	var out [][]byte
	for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		pkt, err := arp.NewPacket(op, s.mac, addr, ethernet.Broadcast, addr)
		if err != nil {
			return nil, err
		}
		payload, err := pkt.MarshalBinary()
		if err != nil {
			return nil, err
		}
		f := ethernet.Frame{Destination: ethernet.Broadcast, Source: s.mac, EtherType: ethernet.EtherTypeARP, Payload: payload}
		b, err := f.MarshalBinary()
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (s *sender) announce(p fence.Permit, addr netip.Addr) error {
	frames, err := s.frames(addr)
	if err != nil {
		return err
	}
	for _, b := range frames {
		if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
			return err
		}
		if !p.Covers(addr) { // last: as near to the sending as can be
			return ErrNoPermit
		}
		if _, err := s.conn.WriteTo(b, &packet.Addr{HardwareAddr: s.to}); err != nil {
			return err
		}
	}
	return nil
}
