package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"lbcluster/fsm"
)

// Ejector takes lbcluster off a machine that keepalived is to serve again.
type Ejector interface {
	// Eject leaves the cluster, and then takes the gate out of the kernel and
	// forgets what was put there; IPVS stays as it is. With Force it does that
	// also where the cluster cannot agree to the leaving. After an error from
	// before the leaving the machine is a member as before.
	Eject(context.Context, EjectRequest) (EjectReply, error)
}

// EjectRequest asks for it. Whether a VIP goes dark by it is for the caller to
// look at first.
type EjectRequest struct {
	Force bool `json:"force,omitempty"`
}

// EjectReply is what was done.
type EjectReply struct {
	// Abandoned says why the cluster was left without its consent, and still
	// counts this member; empty: it was left in good order.
	Abandoned string `json:"abandoned,omitempty"`
	// Removed are addresses that had been left on an interface.
	Removed []string `json:"removed"`
	// Loopback are the VIPs that stay on lo, for this machine is a real server.
	Loopback []netip.Prefix `json:"loopback,omitempty"`
}

// postEject: POST /v1/eject with an EjectRequest; for root alone.
func (s *Server) postEject(r *http.Request) (any, error) {
	if !peerIsRoot(r.Context()) {
		return nil, fmt.Errorf("%w: only root may take lbcluster off a machine", fsm.ErrDenied)
	}
	var req EjectRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	return s.backend.Eject(r.Context(), req)
}

// Eject takes lbcluster off this machine.
func (c *Client) Eject(ctx context.Context, req EjectRequest) (r EjectReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/eject", req, &r)
	return r, err
}
