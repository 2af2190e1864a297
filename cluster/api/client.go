package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"lbcluster/fsm"
	"lbcluster/journal"
)

// maxAnswer bounds what the client reads of an answer, in bytes.
const maxAnswer = 256 << 20

// Client asks the daemon of this machine. Its errors are a *Problem, which the
// daemon answered, or wrap ErrUnreachable.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client for the socket at path. It connects when used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 2 * time.Second}
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Version asks which lbcluster answers.
func (c *Client) Version(ctx context.Context) (v VersionReply, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/version", nil, &v)
	return v, err
}

// Status asks for the whole cluster's state with conclusions.
func (c *Client) Status(ctx context.Context) (r StatusReport, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/status", nil, &r)
	return r, err
}

// Table asks for the table at revision atLeast or later.
func (c *Client) Table(ctx context.Context, atLeast fsm.Revision) (*fsm.Table, error) {
	var t fsm.Table
	path := "/v1/table?revision=" + strconv.FormatUint(uint64(atLeast), 10)
	if err := c.do(ctx, http.MethodGet, path, nil, &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// Events asks for a piece of the history.
func (c *Client) Events(ctx context.Context, req EventsRequest) (r EventsReply, err error) {
	q := url.Values{"after": {strconv.FormatUint(uint64(req.After), 10)}}
	if !req.Since.IsZero() {
		q.Set("since", req.Since.Format(time.RFC3339))
	}
	if req.Wait > 0 {
		q.Set("wait", req.Wait.String())
	}
	err = c.do(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil, &r)
	return r, err
}

// Journal asks for what all members recorded from one time to another; zero: no
// limit.
func (c *Client) Journal(ctx context.Context, from, to time.Time) (r []journal.Record, err error) {
	q := url.Values{}
	for name, at := range map[string]time.Time{"from": from, "to": to} {
		if !at.IsZero() {
			q.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	err = c.do(ctx, http.MethodGet, "/v1/journal?"+q.Encode(), nil, &r)
	return r, err
}

// Members lists the members.
func (c *Client) Members(ctx context.Context) (m []fsm.Member, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/members", nil, &m)
	return m, err
}

// RemoveMember takes a member out of the cluster.
func (c *Client) RemoveMember(ctx context.Context, id fsm.MemberID) error {
	return c.do(ctx, http.MethodDelete, "/v1/members/"+url.PathEscape(string(id)), nil, nil)
}

// Init founds a cluster.
func (c *Client) Init(ctx context.Context, req InitRequest) (r InitReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/init", req, &r)
	return r, err
}

// Join enrols this machine.
func (c *Client) Join(ctx context.Context, req JoinRequest) (r JoinReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/join", req, &r)
	return r, err
}

// Leave takes this machine out of its cluster.
func (c *Client) Leave(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/leave", nil, nil)
}

// Token makes a join token.
func (c *Client) Token(ctx context.Context, req TokenRequest) (r TokenReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/tokens", req, &r)
	return r, err
}

// Plan asks what an apply would change.
func (c *Client) Plan(ctx context.Context, req ApplyRequest) (p Plan, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/plan", req, &p)
	return p, err
}

// Apply makes the change.
func (c *Client) Apply(ctx context.Context, req ApplyRequest) (r ApplyReply, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/apply", req, &r)
	return r, err
}

// Override changes what an operator wants of a real server.
func (c *Client) Override(ctx context.Context, o OverrideRequest) (r fsm.Result, err error) {
	err = c.do(ctx, http.MethodPut, "/v1/overrides", o, &r)
	return r, err
}

// do sends body as JSON, if any, and reads the answer into reply, if any.
func (c *Client) do(ctx context.Context, method, path string, body, reply any) error {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lbcluster"+path, send)
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return problemIn(resp, answer)
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// unreachable says that no answer came, and from where.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL says nothing to a person
	}
	return fmt.Errorf("%w on %s: %w", ErrUnreachable, c.socket, err)
}

// problemIn reads a Problem, or makes one of an answer that is none.
func problemIn(resp *http.Response, body []byte) error {
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return &Problem{Status: resp.StatusCode, Code: CodeInternal, Title: "the daemon answered " + resp.Status}
	}
	return &p
}

// Socket is the path that the client connects to.
func (c *Client) Socket() string { return c.socket }
