package ipvs

import (
	"encoding/binary"
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

// commands are the kernel's words for verbs.
var commands = map[Verb]uint8{
	AddService: cmdNewService, UpdateService: cmdSetService, RemoveService: cmdDelService,
	AddDest: cmdNewDest, UpdateDest: cmdSetDest, RemoveDest: cmdDelDest,
}

// request is op as a message.
func (s *socket) request(op Op) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(s.family, 0)
	req.AddData(genl{commands[op.Verb], 1})
	req.AddData(serviceAttr(op.Service))
	if op.Verb >= AddDest {
		req.AddData(destAttrs(op.Dest))
	}
	return req
}

// askAll sends requests as one message and returns what became of each. The kernel
// carries them out in order while it takes the message in. It answers each that
// fails, whether asked to or not; of those that succeed only the last is asked to be
// acknowledged.
func (s *socket) askAll(reqs []*nl.NetlinkRequest) []error {
	errs := make([]error, len(reqs))
	if len(reqs) == 0 {
		return nil
	}
	var message []byte
	of := map[uint32]int{}
	reqs[len(reqs)-1].Flags |= unix.NLM_F_ACK
	for i, req := range reqs {
		of[req.Seq] = i
		message = append(message, req.Serialize()...)
		message = append(message, make([]byte, -len(message)&3)...)
	}
	if err := unix.Sendto(s.handle.Socket.GetFd(), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fill(errs, err)
	}
	for {
		answers, _, err := s.handle.Socket.Receive()
		if err != nil {
			return fill(errs, err)
		}
		for _, a := range answers {
			i, ours := of[a.Header.Seq]
			if !ours || a.Header.Type != unix.NLMSG_ERROR {
				continue // the rest of an answer that was not waited for
			}
			if len(a.Data) < 4 {
				return fill(errs, errShort)
			}
			if errno := -int32(binary.NativeEndian.Uint32(a.Data)); errno != 0 {
				errs[i] = unix.Errno(errno)
			}
			if i == len(reqs)-1 {
				return errs
			}
		}
	}
}

// fill gives all that have no error yet err: what became of them is not known.
func fill(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

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
