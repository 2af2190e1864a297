package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"lbcluster/fsm"
)

// What a Backend can say besides fsm's sentinels.
var (
	// ErrNotEnrolled: this machine is in no cluster yet.
	ErrNotEnrolled = errors.New("this machine is not enrolled in a cluster")
	// ErrEnrolled: this machine is in a cluster already.
	ErrEnrolled = errors.New("this machine is enrolled in a cluster already")
	// ErrNoQuorum: no leader, or the leader lost its majority; nothing was
	// acknowledged, though a write may still take effect later.
	ErrNoQuorum = errors.New("the cluster has no leader with a majority")
	// ErrUnreachable: no daemon answers on the socket (client side).
	ErrUnreachable = errors.New("the daemon does not answer")
)

// Codes of a Problem, for programs.
const (
	CodeBadRequest        = "bad_request"        // not understood: 400, 405, 413, 415
	CodeInvalid           = "invalid"            // understood, but the content is wrong: 422
	CodeDenied            = "denied"             // 403
	CodeNotFound          = "not_found"          // 404
	CodeConflict          = "conflict"           // the table has changed: 409
	CodeNeedsConfirmation = "needs_confirmation" // it would delete: 409
	CodeUnconfirmed       = "unconfirmed"        // a change waits for its confirmation: 409
	CodeEnrolled          = "already_enrolled"   // 409
	CodeNotEnrolled       = "not_enrolled"       // 409
	CodeNoQuorum          = "no_quorum"          // 503
	CodeBusy              = "busy"               // too many at once: 503
	CodeTimeout           = "timeout"            // 504
	CodeInternal          = "internal"           // 500
)

// Problem is an error as the API tells it (after RFC 9457, whose member names
// it uses where they fit). It is an error value on the client's side too.
type Problem struct {
	Status   int     `json:"status"` // the HTTP status
	Code     string  `json:"code"`
	Title    string  `json:"title"`
	Detail   string  `json:"detail,omitempty"`
	Problems []Fault `json:"problems,omitempty"` // each single fault
	Hint     string  `json:"hint,omitempty"`     // what to do next
}

// Fault is one thing that is wrong in what was sent.
type Fault struct {
	Path string `json:"path"` // "virtual_router VI_1", or a field of the request
	Text string `json:"text"`
}

// Error is the title and detail on one line, the faults on lines of their own.
// The hint is left to whoever shows the error.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for _, f := range p.Problems {
		fmt.Fprintf(&b, "\n  %s: %s", f.Path, f.Text)
	}
	return b.String()
}

// Is lets errors.Is find the sentinel that a code stands for, on either side
// of the socket.
func (p *Problem) Is(target error) bool {
	for _, k := range kinds {
		if k.code == p.Code {
			return target == k.err
		}
	}
	return false
}

// kinds says how each sentinel is told. The first match wins.
var kinds = []struct {
	err    error
	status int
	code   string
	title  string
	hint   string
}{
	{fsm.ErrConflict, http.StatusConflict, CodeConflict, "the table has changed meanwhile",
		"somebody else changed the cluster; look at it again and repeat the command"},
	{fsm.ErrInvalid, http.StatusUnprocessableEntity, CodeInvalid, "not valid",
		"nothing was changed; correct what is named and repeat the command"},
	{fsm.ErrNotFound, http.StatusNotFound, CodeNotFound, "not found",
		"lbcluster status shows what there is"},
	{fsm.ErrDenied, http.StatusForbidden, CodeDenied, "refused", ""},
	{ErrNotEnrolled, http.StatusConflict, CodeNotEnrolled, ErrNotEnrolled.Error(),
		"found a cluster with: lbcluster init; or join one with: lbcluster join ADDR --token T"},
	{ErrEnrolled, http.StatusConflict, CodeEnrolled, ErrEnrolled.Error(),
		"lbcluster status shows which; lbcluster leave takes the machine out of it"},
	{ErrNoQuorum, http.StatusServiceUnavailable, CodeNoQuorum, ErrNoQuorum.Error(),
		"lbcluster status shows which members do not answer, and which VIPs are still served; check afterwards whether the change was made"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, CodeTimeout, "no answer in time",
		"lbcluster status shows whether the cluster has a leader; check whether the change was made before repeating it"},
}

// problemOf makes a Problem of any error of a Backend.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var c *fsm.ConfigError
	if errors.As(err, &c) {
		return invalid(faultsOf(c.Problems))
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return &Problem{Status: k.status, Code: k.code, Title: k.title, Hint: k.hint, Detail: detailOf(err, k.err, k.title)}
		}
	}
	return &Problem{
		Status: http.StatusInternalServerError, Code: CodeInternal, Title: "the daemon failed to do this",
		Detail: err.Error(), Hint: "journalctl -u lbcluster says more",
	}
}

// detailOf is the error's text without what the title says already.
func detailOf(err, sentinel error, title string) string {
	text := strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
	text = strings.TrimSuffix(text, ": "+sentinel.Error())
	if text == sentinel.Error() || text == title {
		return ""
	}
	return text
}

// badRequest says that a request could not be understood.
func badRequest(status int, detail string) *Problem {
	return &Problem{Status: status, Code: CodeBadRequest, Title: "the request was not understood", Detail: detail}
}

// invalid says all that is wrong with the content of a request.
func invalid(faults []Fault) *Problem {
	return &Problem{
		Status: http.StatusUnprocessableEntity, Code: CodeInvalid, Title: "not valid", Problems: faults,
		Hint: "nothing was changed; correct what is named and repeat the command",
	}
}
