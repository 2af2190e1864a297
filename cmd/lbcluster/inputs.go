package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lbcluster/fsm"
	"lbcluster/fsm/conf"
)

// fileFlags are the files that make one configuration.
type fileFlags struct {
	names    []string // FILE or NAME=FILE
	take     []string
	configID string
	lenient  bool
}

func (f *fileFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.names, "file", "f", nil, "the `FILE` to read; of several nodes: repeat it, NAME=FILE names the director")
	cmd.Flags().StringArrayVar(&f.take, "take", nil, "where the files differ: the file, or the `PLACE` (FILE:LINE), that counts; may be repeated")
	cmd.Flags().StringVar(&f.configID, "config-id", "", "which @`ID` lines of a keepalived.conf count (default: NAME of NAME=FILE, or this host's short name)")
	cmd.Flags().BoolVar(&f.lenient, "lenient", false, "pass over what keepalived passes over, leave out what the cluster can't hold, and say so")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag was made above
	}
}

// String names the files for people.
func (f fileFlags) String() string {
	var names []string
	for _, s := range f.sources() {
		names = append(names, s.file)
	}
	return strings.Join(names, " and ")
}

// why is what the history says of an apply: from which files.
func (f fileFlags) why() string {
	var names []string
	for _, s := range f.sources() {
		if s.file != "-" {
			names = append(names, s.file)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "from " + strings.Join(names, ", ")
}

// nodeSource is one node's file.
type nodeSource struct {
	file     string
	node     string // the director, as the command line names it; empty: it does not
	routerID string
	from     []netip.Addr // where its routers send adverts from
}

// sources takes NAME=FILE apart, unless that is a file's name itself.
func (f fileFlags) sources() []nodeSource {
	var all []nodeSource
	for _, s := range f.names {
		node, file, named := strings.Cut(s, "=")
		_, err := os.Stat(s)
		if !named || node == "" || strings.Contains(node, "/") || err == nil {
			all = append(all, nodeSource{file: s})
			continue
		}
		all = append(all, nodeSource{file: file, node: node})
	}
	return all
}

// readInputs reads one file, or merges several. The error is one of reading or
// of the command line, not of content.
func (a *app) readInputs(f fileFlags) (input, error) {
	// This process reads, asks and ends: what it could free meanwhile is not worth the
	// third of its time that freeing takes with a large file.
	debug.SetGCPercent(400)
	sources := f.sources()
	if len(sources) == 1 && len(f.take) == 0 {
		in, err := a.readInput(sources[0], f)
		in.sources = sources
		return in, err
	}
	if len(sources) == 1 {
		return input{}, fmt.Errorf("%w: --take chooses between files, and there is one", fsm.ErrInvalid)
	}
	var all input
	var parts []conf.Source
	for i, s := range sources {
		if slices.ContainsFunc(sources[:i], func(o nodeSource) bool { return o.file == s.file }) {
			return input{}, fmt.Errorf("%w: %s is named twice", fsm.ErrInvalid, s.file)
		}
		in, err := a.readInput(s, f)
		if err != nil {
			return input{}, err
		}
		sources[i].routerID = in.result.Config.Globals.RouterID
		sources[i].from = in.result.Sources()
		all.Problems = append(all.Problems, in.Problems...)
		all.Notices = append(all.Notices, in.Notices...)
		parts = append(parts, conf.Source{Name: s.file, Result: in.result})
	}
	if len(all.Problems) > 0 {
		return all, nil
	}
	m, err := conf.Merge(parts, f.take)
	if err != nil {
		return input{}, fmt.Errorf("%w: --take: %w", fsm.ErrInvalid, err)
	}
	// What the parts lead to together can be wrong though each of them is right.
	for _, p := range fsm.ValidateConfig(m.Config) {
		if undecided(m.Differences) == 0 {
			all.Problems = append(all.Problems, m.Locate(p))
		}
	}
	all.result, all.Notices = m.Result, m.Notices
	all.differences, all.homes, all.sources = m.Differences, m.Homes, sources
	return all, nil
}

// undecided counts the differences that somebody must decide.
func undecided(all []conf.Difference) int {
	n := 0
	for _, d := range all {
		if d.Open() {
			n++
		}
	}
	return n
}

// wrong says that the input cannot be applied, once that has been shown in full;
// nil: it can.
func (in input) wrong(name string) error {
	if len(in.Problems) > 0 {
		return badFile(name, len(in.Problems))
	}
	if n := undecided(in.differences); n > 0 {
		return &hinted{
			fmt.Errorf("%s: %s to be decided: %w", name, count(n, "difference"), errInput),
			"make the files equal there, or add what is shown at each: --take FILE:LINE, or --take FILE for all",
		}
	}
	return nil
}

// renderDifferences shows where the files of a pair differ.
func renderDifferences(all []conf.Difference) string {
	var b strings.Builder
	section := func(title string, of func(conf.Difference) bool, say func(conf.Difference) string) {
		for i, d := range slices.Collect(filtered(all, of)) {
			if i == 0 {
				b.WriteString(title + "\n")
			}
			fmt.Fprintf(&b, "  %s\n%s", d, say(d))
		}
	}
	section("The files differ where those of nodes may:", func(d conf.Difference) bool { return d.PerNode },
		func(conf.Difference) string { return "" })
	section("The files differ, and it is decided:", func(d conf.Difference) bool { return !d.PerNode && !d.Open() },
		func(d conf.Difference) string { return "      taken: " + d.Taken + "\n" })
	section("The files differ, and the cluster can have only one:", conf.Difference.Open,
		func(d conf.Difference) string {
			return fmt.Sprintf("      decide: --take %s or --take %s\n", d.A.Place(), d.B.Place())
		})
	return b.String()
}

func filtered(all []conf.Difference, of func(conf.Difference) bool) func(func(conf.Difference) bool) {
	return func(yield func(conf.Difference) bool) {
		for _, d := range all {
			if of(d) && !yield(d) {
				return
			}
		}
	}
}

// homed is a unit's home as the files say it.
type homed struct {
	conf.Home
	Director fsm.MemberID `json:"director,omitempty"` // empty: nobody knows whose file it is
	Name     string       `json:"name,omitempty"`
}

// homesOf finds the directors whose files say that a unit is at home there. Units
// that the cluster has already keep their homes and are left out.
func (a *app) homesOf(ctx context.Context, in input) ([]homed, error) {
	if len(in.homes) == 0 {
		return nil, nil
	}
	t, err := a.client().Table(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for the directors: %w", err)
	}
	owners := map[string]fsm.Member{}
	for _, s := range in.sources {
		m, err := directorOf(t, s)
		if err != nil {
			return nil, err
		}
		owners[s.file] = m
	}
	var all []homed
	for _, h := range in.homes {
		if _, there := t.UnitByName(h.Unit); !there {
			m := owners[h.Source]
			all = append(all, homed{h, m.ID, m.Name})
		}
	}
	return all, nil
}

// directorOf finds whose file it is: as the command line says, else by the
// addresses that it sends adverts from, else by the file's router_id, its name or
// a folder of its path. A zero Member: nobody's.
func directorOf(t *fsm.Table, s nodeSource) (fsm.Member, error) {
	if s.node != "" {
		m, err := findMember(t.Members, s.node)
		if err == nil && m.Role != fsm.Director {
			err = fmt.Errorf("%w: %s is a %s", fsm.ErrInvalid, m.Name, m.Role)
		}
		return m, err
	}
	if m, ok := addressed(t, s.from); ok {
		return m, nil
	}
	words := append([]string{s.routerID}, strings.Split(filepath.ToSlash(strings.TrimSuffix(s.file, filepath.Ext(s.file))), "/")...)
	for _, w := range words {
		for _, m := range t.Members {
			if m.Role == fsm.Director && w != "" && sameHost(w, m.Name) {
				return m, nil
			}
		}
	}
	return fsm.Member{}, nil
}

// sameHost compares host names, one of which may be without its domain.
func sameHost(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+".")
}

func homesByUnit(all []homed) map[string]fsm.MemberID {
	homes := map[string]fsm.MemberID{}
	for _, h := range all {
		if h.Director != "" {
			homes[h.Unit] = h.Director
		}
	}
	return homes
}

// renderHomes says where new units will be at home, or why nobody knows.
func renderHomes(all []homed) string {
	var b strings.Builder
	for _, h := range all {
		if h.Director != "" {
			fmt.Fprintf(&b, "  home of %s: %s (%s); lbcluster router move %s --unpin frees it\n", h.Unit, h.Name, h.Why, h.Unit)
			continue
		}
		fmt.Fprintf(&b, "  home of %s: the cluster chooses; %s was it (%s), but which director's file is that? -f NAME=%s says it\n",
			h.Unit, h.Source, h.Why, h.Source)
	}
	return b.String()
}
