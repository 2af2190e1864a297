package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"lbcluster/e2e/lab"
)

// The addresses of the site.
const (
	VIP     = "172.25.88.100"
	Target  = VIP + ":80"
	Example = "/src/deploy/keepalived-pair.conf" // as every host of the lab sees it
)

// Site is the network.
type Site struct {
	*lab.Lab
	T       lab.T
	Dirs    []*lab.Host
	Daemons map[*lab.Host]*lab.Director // those that were started
	Web1    *lab.Host
	Web2    *lab.Host
	Client  *lab.Host
	Watcher *lab.Host

	initArgs []string // for init, in addition
}

// New makes the hosts; the real servers serve, nothing else runs.
func New(t lab.T, directors int) *Site {
	t.Helper()
	s := &Site{Lab: lab.New(t), T: t, Daemons: map[*lab.Host]*lab.Director{}}
	for i := range directors {
		s.Dirs = append(s.Dirs, s.AddHost(fmt.Sprintf("dir%d", i+1), fmt.Sprintf("172.25.88.%d/24", 11+i)))
	}
	s.Web1 = s.RealServer("web1", "172.25.88.2/24", VIP)
	s.Web2 = s.RealServer("web2", "172.25.88.3/24", VIP)
	s.Client = s.Lab.Client("client", "172.25.88.200/24", 32)
	s.Watcher = s.AddHost("watcher", "172.25.88.60/24")
	return s
}

// Start starts the daemon on a director and waits for its socket.
func (s *Site) Start(h *lab.Host, args ...string) *lab.Director {
	s.T.Helper()
	return s.Started(h, h.StartDirector(args...))
}

// Started waits for the socket of a daemon that was started on a director.
func (s *Site) Started(h *lab.Host, d *lab.Director) *lab.Director {
	s.T.Helper()
	s.Daemons[h] = d
	s.Eventually(20*time.Second, h.Name+"'s daemon answers", func() error {
		select {
		case <-d.Done():
			return fmt.Errorf("it ended: %s", d.Output())
		default:
		}
		_, err := s.Local(h)
		return err
	})
	return d
}

var tokenWord = regexp.MustCompile(`lbc1-[A-Za-z0-9_-]+`)

// Form starts all directors, an odd number, founds the cluster on the first,
// enrols the others, and waits until all of them vote. initArgs are given to
// init in addition ("--profile", "fast").
func (s *Site) Form(initArgs ...string) {
	s.T.Helper()
	s.initArgs = initArgs
	s.Found()
}

// AwaitVoters waits until every director counts n voters.
func (s *Site) AwaitVoters(n int) {
	s.T.Helper()
	s.Eventually(60*time.Second, fmt.Sprintf("%d voters", n), func() error {
		for _, h := range s.Dirs {
			st, err := s.Local(h)
			if err != nil {
				return err
			}
			if len(st.Raft.Voters) != n {
				return fmt.Errorf("%s counts %v", h.Name, st.Raft.Voters)
			}
		}
		return nil
	})
}

// Serve applies the example and waits until a director owns the VIP and all
// have the same table.
func (s *Site) Serve() {
	s.T.Helper()
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", Example, "--yes")
	s.AwaitOwner()
	s.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
}

// Up is all of it: a cluster that serves; see Form for initArgs.
func Up(t lab.T, directors int, initArgs ...string) *Site {
	t.Helper()
	s := New(t, directors)
	s.Form(initArgs...)
	s.Serve()
	return s
}

// Lease is what a member says of one lease.
type Lease struct {
	Router uint64 `json:"router"`
	State  string `json:"state"`
	Holder string `json:"holder"`
	Unfit  string `json:"unfit"`
	// EmbargoMS is how long this member's voter, just started, promises nothing yet.
	EmbargoMS int64 `json:"embargo_ms"`
	// HeldSince and Lost are of the holder's tenures; the others of the present one,
	// as parts of the whole deadline.
	HeldSince time.Time `json:"held_since"`
	Lost      uint64    `json:"lost"`
	Renewals  uint64    `json:"renewals"`
	LeastLeft float64   `json:"least_left"`
	MeanLeft  float64   `json:"mean_left"`
}

// Local is one member's own view.
type Local struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	TableRevision uint64   `json:"table_revision"`
	Warnings      []string `json:"warnings"`
	Raft          struct {
		State      string   `json:"state"`
		Leader     string   `json:"leader"`
		Applied    uint64   `json:"applied"` // log index
		Voters     []string `json:"voters"`
		DiskErrors uint64   `json:"disk_errors"`
	} `json:"raft"`
	Kernel struct {
		Applied  bool   `json:"applied"`
		Revision uint64 `json:"revision"`
		Repairs  uint64 `json:"repairs"`
		Foreign  []struct{ Kind, What, Fix string }
	} `json:"kernel"`
	Leases []Lease `json:"leases"`
	Gate   struct {
		Mode      string `json:"mode"`
		Error     string `json:"error"`
		Addresses []struct {
			ARPDropped uint64 `json:"arp_dropped"`
		} `json:"addresses"`
	} `json:"gate"`
	VRRP []struct {
		State    string            `json:"state"`
		Sent     uint64            `json:"sent"`
		Rejected map[string]uint64 `json:"rejected"`
		Heard    []struct {
			Addr  string `json:"addr"`
			Count uint64 `json:"count"`
		} `json:"heard"`
	} `json:"vrrp"`
	Dropped   map[string]uint64 `json:"dropped"`
	Addresses []struct {
		On       bool   `json:"on"`
		Restored uint64 `json:"restored"`
	} `json:"addresses"`
}

// Local asks a host's daemon for its own view.
func (s *Site) Local(h *lab.Host) (Local, error) {
	var l Local
	out, err := h.Run(context.Background(), "curl", "-sS", "--max-time", "2", "--unix-socket", "/run/lbcluster/lbcluster.sock", "http://lbcluster/v1/status/local")
	if err != nil {
		return l, fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		return l, fmt.Errorf("%s: %w: %s", h.Name, err, out)
	}
	return l, nil
}

// Owner is the one director that says it holds the lease and has the VIP on an
// interface; nil and a reason: there is none.
func (s *Site) Owner() (*lab.Host, error) {
	var owner *lab.Host
	for _, h := range s.Dirs {
		d := s.Daemons[h]
		if d == nil || !h.HasAddress(VIP) {
			continue
		}
		l, err := s.Local(h)
		if err != nil || len(l.Leases) == 0 || l.Leases[0].State != "holder" {
			continue
		}
		if owner != nil {
			return nil, fmt.Errorf("%s and %s both say that they own it", owner.Name, h.Name)
		}
		owner = h
	}
	if owner == nil {
		return nil, errors.New("nobody owns the VIP")
	}
	return owner, nil
}

// AwaitOwner waits for an owner.
func (s *Site) AwaitOwner() *lab.Host {
	s.T.Helper()
	var owner *lab.Host
	s.Eventually(30*time.Second, "a director owns the VIP", func() (err error) {
		owner, err = s.Owner()
		return err
	})
	return owner
}

// stay is the hidden service with which a director keeps IPVS in the packets' way
// when somebody else removes the others; a director that adopted none has none.
var stay = regexp.MustCompile(`(?m)^-A -f 1818361858( -6)? -s rr\n`)

// Rules is a director's IPVS table as ipvsadm -Sn prints it, without the hidden
// service.
func (s *Site) Rules(h *lab.Host) string {
	out, err := h.Run(context.Background(), "ipvsadm", "-Sn")
	if err != nil {
		return "ipvsadm: " + err.Error()
	}
	return stay.ReplaceAllString(out, "")
}

// AwaitTables waits until all directors have the same IPVS table and ok likes it.
func (s *Site) AwaitTables(ok func(rules string) bool) string {
	s.T.Helper()
	var rules string
	s.Eventually(60*time.Second, "all directors have the table wanted", func() error {
		rules = s.Rules(s.Dirs[0])
		for _, h := range s.Dirs[1:] {
			if r := s.Rules(h); r != rules {
				return fmt.Errorf("%s has\n%s%s has\n%s", s.Dirs[0].Name, rules, h.Name, r)
			}
		}
		if !ok(rules) {
			return fmt.Errorf("all have\n%s", rules)
		}
		return nil
	})
	return rules
}

// Others are the directors but one.
func (s *Site) Others(h *lab.Host) []*lab.Host {
	var out []*lab.Host
	for _, o := range s.Dirs {
		if o != h {
			out = append(out, o)
		}
	}
	return out
}
