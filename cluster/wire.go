package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"

	"lbcluster/fsm"
)

// Bounds of what is read from the network, in bytes.
const (
	maxEnrolRequest = 16 << 10
	maxCommand      = 64 << 20 // see maxBody of the API
	maxAnswer       = 64 << 20
)

// enrolRequest is what a joiner sends.
type enrolRequest struct {
	Secret  []byte         `json:"secret"`
	Request string         `json:"request"` // random; sent again it brings the same id
	Name    string         `json:"name"`
	Role    fsm.Role       `json:"role"`
	Addr    netip.AddrPort `json:"addr"`
	CSR     []byte         `json:"csr"`             // DER, Ed25519
	Reads   int            `json:"reads,omitempty"` // fsm.Member.Reads; 0: older than those that say it
}

func (r enrolRequest) check() error {
	switch {
	case len(r.Secret) != 32:
		return fmt.Errorf("%w: the secret does not have 32 bytes", fsm.ErrInvalid)
	case len(r.Request) < 16 || len(r.Request) > 64:
		return fmt.Errorf("%w: the request id does not have 16 to 64 characters", fsm.ErrInvalid)
	case len(r.Name) > 253:
		return fmt.Errorf("%w: the name is too long", fsm.ErrInvalid)
	}
	return nil
}

// enrolAnswer is all that makes the joiner a member.
type enrolAnswer struct {
	ID        fsm.MemberID `json:"id"`
	Cluster   string       `json:"cluster"`
	Epoch     uint64       `json:"epoch"`
	Cert      []byte       `json:"cert"`   // PEM
	CA        []byte       `json:"ca"`     // PEM
	CAKey     []byte       `json:"ca_key"` // PEM
	GossipKey []byte       `json:"gossip_key"`
	LeaseKey  []byte       `json:"lease_key"`
	Members   []fsm.Member `json:"members"`
}

// hello is what members tell each other all the time.
type hello struct {
	ID       fsm.MemberID `json:"id"`
	Revision fsm.Revision `json:"revision"` // of the table it has applied
	Applied  uint64       `json:"applied"`  // index of the log it has applied
	Leader   fsm.MemberID `json:"leader,omitempty"`
	Term     uint64       `json:"term"`
	Trouble  string       `json:"trouble,omitempty"` // why its Raft part does not work
}

// standing is what the leader says of a member that wants to leave.
type standing struct {
	Voter    bool `json:"voter"`
	InConfig bool `json:"in_config"`
	InTable  bool `json:"in_table"`
}

// fault is an error on the wire.
type fault struct {
	Code string `json:"code"`
	Text string `json:"error"`
}

// errNotLeader: somebody else must be asked; nothing was changed.
var errNotLeader = errors.New("not the leader")

// faults pairs the errors that callers tell apart with their codes and HTTP
// status. The first that matches names the error.
var faults = []struct {
	code   string
	status int
	err    error
}{
	{"conflict", http.StatusConflict, fsm.ErrConflict},
	{"invalid", http.StatusUnprocessableEntity, fsm.ErrInvalid},
	{"not_found", http.StatusNotFound, fsm.ErrNotFound},
	{"denied", http.StatusForbidden, fsm.ErrDenied},
	{"unknown_command", http.StatusNotImplemented, fsm.ErrUnknownCommand},
	{"halted", http.StatusServiceUnavailable, ErrHalted},
	{"uncertain", http.StatusGatewayTimeout, ErrUncertain},
	{"no_leader", http.StatusServiceUnavailable, ErrNoLeader},
	{"not_leader", http.StatusMisdirectedRequest, errNotLeader},
	{"removed", http.StatusGone, ErrRemoved},
	{"busy", http.StatusTooManyRequests, ErrBusy},
}

// writeFault answers a request with an error that readAnswer understands.
func writeFault(w http.ResponseWriter, err error) {
	f, status := fault{Code: "internal", Text: err.Error()}, http.StatusInternalServerError
	for _, known := range faults {
		// A halted member also wraps ErrUnknownCommand; what counts is that it halted.
		if errors.Is(err, known.err) && (known.code != "unknown_command" || !errors.Is(err, ErrHalted)) {
			f.Code, status = known.code, known.status
			break
		}
	}
	writeJSON(w, status, f)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The other end is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// remoteError is another member's error: its text, and the sentinel behind it.
type remoteError struct {
	text string
	err  error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.err }

// err turns a fault back into an error that wraps the sentinel it had.
func (f fault) err() error {
	for _, known := range faults {
		if known.code == f.Code {
			return &remoteError{f.Text, known.err}
		}
	}
	return &remoteError{text: f.Text}
}

// readAnswer reads a response into v, or the error that it carries.
func readAnswer(resp *http.Response, v any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f fault
		if json.Unmarshal(b, &f) != nil || f.Text == "" {
			return fmt.Errorf("unexpected answer %s", resp.Status)
		}
		return f.err()
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = b
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}
