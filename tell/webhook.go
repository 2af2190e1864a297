package tell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"lbcluster/fsm"
)

// Hook is one request to a webhook, ready to be sent.
type Hook struct {
	URL  string
	ID   string // the same whenever this batch is sent
	Body []byte // JSON: see [HookBody]
}

// HookBody is what a webhook gets. Fields may be added, none changes its meaning.
type HookBody struct {
	ID      string      `json:"id"`
	Cluster string      `json:"cluster"`
	SentBy  string      `json:"sent_by"`        // the member's name
	Lost    uint64      `json:"lost,omitempty"` // earlier events that were too many to be kept, at most
	Events  []HookEvent `json:"events"`         // oldest first
}

// HookEvent is one event.
type HookEvent struct {
	Seq      uint64       `json:"seq,omitempty"`      // counts the cluster's events; none: a member's own
	Revision fsm.Revision `json:"revision,omitempty"` // of the table
	At       time.Time    `json:"at"`
	Kind     string       `json:"kind"`            // owner, member, server, pool, quorum, gate, more
	State    string       `json:"state,omitempty"` // MASTER, FAULT, UP, DOWN, LOST, BACK
	Headline string       `json:"headline"`        // as in the subject of a mail
	Text     string       `json:"text"`            // a sentence
	Set      string       `json:"set,omitempty"`
	Name     string       `json:"name,omitempty"`    // of a router, sync group or member
	Service  string       `json:"service,omitempty"` // "tcp/10.0.0.1:80"
	Server   string       `json:"server,omitempty"`  // "10.0.0.2:80"
	Node     string       `json:"node,omitempty"`    // the director that took a router, or that tells of itself
}

// ComposeHook makes the request of a channel's batch; false: nothing is left to tell.
func ComposeHook(t *fsm.Table, c fsm.Channel, node string) (Hook, bool) {
	list := fold(batch(t, c))
	if len(list) == 0 {
		return Hook{}, false
	}
	lost := uint64(0)
	if t.NoticesLost > c.Told {
		lost = t.NoticesLost - c.Told
	}
	return composeHook(t.Cluster, c.To, hookID(t.Cluster, c.Kind, c.To, c.Told, c.Claim), list, node, lost), true
}

func composeHook(cluster, to, id string, list []fsm.Notice, node string, lost uint64) Hook {
	body := HookBody{ID: id, Cluster: cluster, SentBy: node, Lost: lost}
	for _, n := range list {
		e := HookEvent{
			Seq: n.Seq, Revision: n.Revision, At: n.At, Kind: string(n.Kind), State: n.State, Headline: Headline(n), Text: n.Text,
			Set: n.Set, Name: n.Name, Node: n.Node,
		}
		if n.Service != (fsm.ServiceKey{}) {
			e.Service = n.Service.String()
		}
		if n.Server.IsValid() {
			e.Server = n.Server.String()
		}
		body.Events = append(body.Events, e)
	}
	b, err := json.Marshal(body)
	if err != nil { // there is nothing in it that could not be written
		b = []byte("{}")
	}
	return Hook{URL: to, ID: id, Body: b}
}

// hookLimit bounds one request with its answer.
const hookLimit = 15 * time.Second

var hookClient = &http.Client{
	Timeout: hookLimit,
	// A POST that is sent elsewhere would become a GET.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Post hands a batch to a webhook: any 2xx is taken as accepted; of the rest, 4xx but
// for 408 and 429 is a refusal. An error names the host alone, for the rest of the URL
// may be a secret.
func Post(ctx context.Context, h Hook) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(h.Body))
	if err != nil {
		return errors.New("its URL is wrong")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lbcluster")
	req.Header.Set("Idempotency-Key", h.ID)
	resp, err := hookClient.Do(req)
	if err != nil {
		var in *url.Error
		if errors.As(err, &in) {
			err = in.Err // without the URL
		}
		return fmt.Errorf("POST to %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 400 && code < 500 && !slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, code):
		return fmt.Errorf("%w: %s answers %s", ErrRefused, req.URL.Host, resp.Status)
	}
	return fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
}
