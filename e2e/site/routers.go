package site

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lbcluster/e2e/lab"
)

// Router is what lbcluster router list says of one virtual router.
type Router struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Owner     string   `json:"owner_name"` // empty: nobody that answers
	Home      string   `json:"home_name"`
	Pinned    bool     `json:"pinned"`
	Away      string   `json:"away"` // why it is not at home
	StandBy   []struct {
		Name, Why string
	} `json:"stand_by"`
}

// Routers asks a member for the virtual routers, by name.
func (s *Site) Routers(h *lab.Host) (map[string]Router, error) {
	out, status := s.Command(h, "router", "list", "-o", "json")
	if status != 0 {
		return nil, fmt.Errorf("%s: router list: exit status %d: %s", h.Name, status, out)
	}
	var list []Router
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("%s: router list: %w: %s", h.Name, err, out)
	}
	byName := map[string]Router{}
	for _, r := range list {
		byName[r.Name] = r
	}
	return byName, nil
}

// AwaitRouters waits until what a member says of the virtual routers is as
// wanted, and returns it.
func (s *Site) AwaitRouters(h *lab.Host, patience time.Duration, what string, wanted func(map[string]Router) bool) map[string]Router {
	s.T.Helper()
	var got map[string]Router
	s.Eventually(patience, what, func() (err error) {
		if got, err = s.Routers(h); err == nil && !wanted(got) {
			err = fmt.Errorf("%s says %+v", h.Name, got)
		}
		return err
	})
	return got
}

// Found starts the directors and the witnesses, founds a cluster of them, and
// waits until as many vote as it wants: an odd number.
func (s *Site) Found(witnesses ...*lab.Host) {
	s.T.Helper()
	all := append(append([]*lab.Host{}, s.Dirs...), witnesses...)
	for _, h := range all {
		if s.Daemons[h] == nil {
			s.Start(h)
		}
	}
	out := s.Dirs[0].MustRun(append([]string{"lbcluster", "init", "--guard", "0s"}, s.initArgs...)...)
	token := tokenWord.FindString(out)
	if token == "" {
		s.T.Fatalf("init printed no token:\n%s", out)
	}
	for i, h := range all[1:] {
		args := []string{"join", s.Dirs[0].Addr.String(), "--token", token}
		if i+1 >= len(s.Dirs) {
			args = append(args, "--witness", "--force")
		}
		h.MustRun(append([]string{"lbcluster"}, args...)...)
	}
	s.AwaitVoters((len(all)-1)/2*2 + 1)
}

// FoundRobust is Found with the profile that bears most: for what takes more of
// an emulated machine than it has to spare, and is not about speed.
func (s *Site) FoundRobust(witnesses ...*lab.Host) {
	s.T.Helper()
	s.initArgs = []string{"--profile", "robust"}
	s.Found(witnesses...)
}

// Named is the host of a director's name, or nil.
func (s *Site) Named(name string) *lab.Host {
	for _, h := range s.Dirs {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Several is an example like Example with a router and a service for each
// address, VI_1 first.
func Several(example string, addresses ...string) string {
	var b strings.Builder
	_, rest, _ := strings.Cut(example, "vrrp_instance VI_1 {")
	body := "vrrp_instance VI_1 {" + rest
	for i, a := range addresses {
		r := strings.NewReplacer("VI_1", fmt.Sprintf("VI_%d", i+1), "virtual_router_id 51", fmt.Sprintf("virtual_router_id %d", 51+i), VIP, a)
		b.WriteString(r.Replace(body) + "\n")
	}
	return b.String()
}
