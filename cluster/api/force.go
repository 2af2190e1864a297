package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"lbcluster/fsm"
)

// maxForce bounds how long a forced ownership may last.
const maxForce = 24 * time.Hour

// Forcer lets a person at a director's console have it own a router without a
// majority.
type Forcer interface {
	// ForceOwn checks that the members named answer on no path and that nobody
	// answers for the VIPs, and then owns the router until the time is over or one
	// of them is heard; fsm.ErrDenied says all that speaks against it. With
	// Check nothing is done.
	ForceOwn(context.Context, ForceRequest) (ForceReply, error)
}

// ForceRequest says that members are powered off.
type ForceRequest struct {
	Router     string       `json:"router"`      // name or id
	PoweredOff []string     `json:"powered_off"` // names or ids: all that do not answer
	For        fsm.Duration `json:"for"`
	Check      bool         `json:"check,omitempty"` // only say whether it would be done
}

// ForceReply is what was done, or would be.
type ForceReply struct {
	Router     string    `json:"router"`
	PoweredOff []string  `json:"powered_off"`
	Until      time.Time `json:"until"`
	// After is how long it takes until the router is owned: what the named members
	// may still hold has run out by then.
	After fsm.Duration `json:"after"`
}

// postForce: POST /v1/force-own with a ForceRequest; for root alone.
func (s *Server) postForce(r *http.Request) (any, error) {
	if !peerIsRoot(r.Context()) {
		return nil, fmt.Errorf("%w: only root at the console of a director may force an ownership", fsm.ErrDenied)
	}
	var req ForceRequest
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	var faults []Fault
	if req.Router == "" {
		faults = append(faults, Fault{"router", "is missing"})
	}
	if len(req.PoweredOff) == 0 {
		faults = append(faults, Fault{"powered_off", "is empty: name the members that are switched off"})
	}
	if req.For <= 0 || req.For.D() > maxForce {
		faults = append(faults, Fault{"for", fmt.Sprintf("%v is not between 0s and %v", req.For, maxForce)})
	}
	if len(faults) > 0 {
		return nil, invalid(faults)
	}
	return s.backend.ForceOwn(r.Context(), req)
}

// ForceOwn asks for an ownership without a majority.
func (c *Client) ForceOwn(ctx context.Context, req ForceRequest) (r ForceReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/force-own", req, &r)
	return r, err
}
