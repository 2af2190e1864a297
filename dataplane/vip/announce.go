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

// sender is a raw ARP socket on one interface.
type sender struct {
	client *arp.Client
	mac    net.HardwareAddr
}

// sendTimeout bounds one send: a full transmit queue must not hold up others.
const sendTimeout = 50 * time.Millisecond

// Announce sends the gratuitous ARP of addr in both forms from the interface.
// Before each of the two packets p must cover addr (else ErrNoPermit).
func (h *Host) Announce(p fence.Permit, l Link, addr netip.Addr) error {
	if !addr.Is4() {
		return fmt.Errorf("announce %s: only IPv4 addresses are announced", addr)
	}
	if len(l.MAC) != 6 {
		return fmt.Errorf("announce %s: interface %s has no Ethernet address", addr, l.Name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.sender(l)
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, l.Name, err)
	}
	if err := s.announce(p, addr); err != nil {
		if !errors.Is(err, ErrNoPermit) {
			h.forget(l.Index)
		}
		return fmt.Errorf("announce %s on %s: %w", addr, l.Name, err)
	}
	return nil
}

// sender returns the interface's socket, opened anew when its MAC changed.
func (h *Host) sender(l Link) (*sender, error) {
	if s := h.senders[l.Index]; s != nil {
		if slices.Equal(s.mac, l.MAC) {
			return s, nil
		}
		h.forget(l.Index)
	}
	s := &sender{mac: slices.Clone(l.MAC)}
	err := h.inside(func() (err error) {
		s.client, err = dial(&net.Interface{Index: l.Index, Name: l.Name, HardwareAddr: s.mac})
		return err
	})
	if err != nil {
		return nil, err
	}
	h.senders[l.Index] = s
	return s, nil
}

func (h *Host) forget(index int) {
	if s := h.senders[index]; s != nil {
		s.client.Close()
		delete(h.senders, index)
	}
}

// dial opens an ARP socket that receives nothing: its filter keeps no packet.
func dial(ifi *net.Interface) (*arp.Client, error) {
	none, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), &packet.Config{Filter: none})
	if err != nil {
		return nil, fmt.Errorf("open a raw socket: %w", err)
	}
	c, err := arp.New(ifi, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (s *sender) announce(p fence.Permit, addr netip.Addr) error {
	for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		pkt, err := arp.NewPacket(op, s.mac, addr, ethernet.Broadcast, addr)
		if err != nil {
			return err
		}
		if err := s.client.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
			return err
		}
		if !p.Covers(addr) { // last: as near to the sending as can be
			return ErrNoPermit
		}
		if err := s.client.WriteTo(pkt, ethernet.Broadcast); err != nil {
			return err
		}
	}
	return nil
}
