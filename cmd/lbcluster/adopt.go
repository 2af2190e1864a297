package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lbcluster/cluster/api"
	"lbcluster/dataplane"
	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// What becomes of a service that somebody else made.
const (
	adoptSame   = "same"   // it stands as the file has it: taken over, nothing is written
	adoptChange = "change" // written in place, connections stay
	adoptBreak  = "break"  // connections would be cut off
)

// adoption is what one director's kernel has of the services that an apply
// brings, made by somebody else.
type adoption struct {
	Director string           `json:"director"`
	Services []adoptedService `json:"services"`
	Error    string           `json:"error,omitempty"` // it does not answer
}

type adoptedService struct {
	Service string   `json:"service"`
	Verdict string   `json:"verdict"`           // one of the above
	Differs []string `json:"differs,omitempty"` // sentences
}

// adoption compares what the directors have with what they will have.
func (a *app) adoption(ctx context.Context, req api.ApplyRequest) ([]adoption, error) {
	t, err := a.client().Table(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for the table: %w", err)
	}
	next, _, err := t.Apply(fsm.Command{Apply: &fsm.ApplySet{Set: req.Set, Config: req.Config}})
	if err != nil {
		return nil, fmt.Errorf("see what the directors will have: %w", err)
	}
	report, err := a.client().Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the directors what they have: %w", err)
	}
	want := map[string]ipvs.Service{}
	for _, s := range dataplane.Want(next) {
		want[s.Key.String()] = s
	}
	var all []adoption
	for _, m := range report.Members {
		if m.Role == fsm.Director && m.State != fsm.Leaving {
			all = append(all, adoptionBy(m, want))
		}
	}
	return all, nil
}

// adoptionBy compares one director's; it is pure.
func adoptionBy(m api.MemberReport, want map[string]ipvs.Service) adoption {
	a := adoption{Director: m.Name, Services: []adoptedService{}}
	if m.Status == nil {
		a.Error = or(m.Error, "no answer")
		return a
	}
	for _, f := range m.Status.Kernel.Foreign {
		if w, ok := want[f.What]; ok && f.Kind == "service" {
			a.Services = append(a.Services, compareRules(f.What, f.Rules, ipvs.Rules([]ipvs.Service{w})))
		}
	}
	return a
}

// compareRules compares a service as ipvsadm prints it with what it will be.
func compareRules(service, have, want string) adoptedService {
	out := adoptedService{Service: service, Verdict: adoptSame}
	differs := func(verdict, format string, args ...any) {
		if out.Verdict != adoptBreak {
			out.Verdict = verdict
		}
		out.Differs = append(out.Differs, fmt.Sprintf(format, args...))
	}
	head, servers, order := takeApart(have)
	wantHead, wantServers, wantOrder := takeApart(want)
	if head != wantHead {
		differs(adoptChange, "it is \"%s\", and will be \"%s\"", head, wantHead)
	}
	for _, s := range order {
		w, stays := wantServers[s]
		switch {
		case !stays:
			differs(adoptBreak, "server %s is in the kernel, and not in the file: its connections would be cut off", s)
		case forwarding(servers[s]) != forwarding(w):
			differs(adoptBreak, "server %s is reached by %s, and would be by %s", s, forwarding(servers[s]), forwarding(w))
		case servers[s] != w:
			differs(adoptChange, "server %s is \"%s\", and will be \"%s\"", s, servers[s], w)
		}
	}
	for _, s := range wantOrder {
		if _, there := servers[s]; !there {
			differs(adoptChange, "server %s is not in the kernel (keepalived may have found it down) and comes in until the checks say otherwise", s)
		}
	}
	return out
}

// takeApart splits rules into the service's own line, and what is said of each
// server, in order.
func takeApart(rules string) (head string, servers map[string]string, order []string) {
	servers = map[string]string{}
	for line := range strings.Lines(rules) {
		line = strings.TrimSpace(line)
		before, after, isServer := strings.Cut(line, " -r ")
		if !isServer {
			_, head, _ = strings.Cut(before, " ") // without the verb
			continue
		}
		server, how, _ := strings.Cut(after, " ")
		servers[server] = how
		order = append(order, server)
	}
	return head, servers, order
}

// forwarding is ipvsadm's letter for it: -g, -i or -m.
func forwarding(how string) string {
	word, _, _ := strings.Cut(how, " ")
	return word
}

// broken counts what stands against taking over without touching a connection.
func broken(all []adoption) int {
	n := 0
	for _, a := range all {
		if a.Error != "" {
			n++
		}
		for _, s := range a.Services {
			if s.Verdict == adoptBreak {
				n++
			}
		}
	}
	return n
}

func cannotAdopt(n int) error {
	return &hinted{
		fmt.Errorf("%s against taking over without touching a connection: %w", count(n, "reason"), errInput),
		"make the file say what the kernel has and repeat the command, or leave out --adopt: then the services are changed in place",
	}
}

func renderAdoption(all []adoption) string {
	var b strings.Builder
	for _, a := range all {
		if a.Error != "" {
			fmt.Fprintf(&b, "%s does not answer, so nobody knows what its IPVS table has: %s\n", a.Director, a.Error)
			continue
		}
		same := slices.DeleteFunc(slices.Clone(a.Services), func(s adoptedService) bool { return s.Verdict != adoptSame })
		if len(a.Services) == 0 {
			fmt.Fprintf(&b, "%s has none of these services from elsewhere: there is nothing to take over\n", a.Director)
			continue
		}
		fmt.Fprintf(&b, "%s has %s from elsewhere, %d of them as they shall be: those are taken over as they stand\n",
			a.Director, count(len(a.Services), "service"), len(same))
		for _, s := range a.Services {
			switch s.Verdict {
			case adoptChange:
				fmt.Fprintf(&b, "  %s is changed in place, its connections stay:\n", s.Service)
			case adoptBreak:
				fmt.Fprintf(&b, "  %s differs so that connections would be cut off:\n", s.Service)
			}
			for _, d := range s.Differs {
				fmt.Fprintf(&b, "      %s\n", d)
			}
		}
	}
	return b.String()
}
