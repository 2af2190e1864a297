package ipvs

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// answerLimit bounds each wait for the kernel.
const answerLimit = 3 * time.Second

// socket speaks the generic netlink family IPVS in one network namespace.
type socket struct {
	family int
	handle *nl.SocketHandle
}

func openSocket(path string) (*socket, error) {
	family, err := netlink.GenlFamilyGet("IPVS")
	if err != nil {
		return nil, fmt.Errorf("look up the family IPVS: %w", err)
	}
	ns := netns.None()
	if path != "" {
		if ns, err = netns.GetFromPath(path); err != nil {
			return nil, fmt.Errorf("network namespace %s: %w", path, err)
		}
		defer ns.Close()
	}
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	limit := unix.NsecToTimeval(answerLimit.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&limit), s.SetReceiveTimeout(&limit)); err != nil {
		s.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &socket{family: int(family.ID), handle: &nl.SocketHandle{Socket: s}}, nil
}

func (s *socket) close() { s.handle.Close() }

// ask sends a command and returns the answers.
func (s *socket) ask(cmd uint8, flags int, parts ...*nl.RtAttr) ([][]byte, error) {
	req := nl.NewNetlinkRequest(s.family, unix.NLM_F_ACK|flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: s.handle}
	req.AddData(genl{cmd, 1})
	for _, p := range parts {
		req.AddData(p)
	}
	return req.Execute(unix.NETLINK_GENERIC, 0)
}

func (s *socket) services() ([]Service, error) {
	msgs, err := s.ask(cmdGetService, unix.NLM_F_DUMP)
	if err != nil {
		return nil, err
	}
	out := make([]Service, 0, len(msgs))
	for _, m := range msgs {
		v, err := parseService(m)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (s *socket) dests(v Service) ([]Dest, error) {
	msgs, err := s.ask(cmdGetDest, unix.NLM_F_DUMP, serviceAttr(v))
	if err != nil {
		return nil, err
	}
	var out []Dest
	for _, m := range msgs {
		d, err := parseDest(m, family(v.Is6()))
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}
