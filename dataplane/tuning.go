package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"lbcluster/dataplane/ipvs"
	"lbcluster/fsm"
)

// tuning is what the reconcile loop knows of the settings that hold for IPVS as a
// whole: sysctls, timeouts and the daemons that synchronise connections.
type tuning struct {
	told     fsm.IPVS      // what was last looked at
	crossed  bool          // a service then had a real server of the other family
	due      time.Duration // next look
	index    int           // of the interface when our daemons were started there
	problems []string
}

// tuned is a setting of the kernel's that we changed.
type tuned struct {
	Was string `json:"was"`
	Is  string `json:"is"`
}

// flushed is how long the kernel keeps a message that is not full, and some for
// the way (IPVS_SYNC_FLUSH_TIME, 2 s).
const flushed = 3 * time.Second

// SyncStatus is how this host synchronises connections with the others.
type SyncStatus struct {
	Interface string `json:"interface,omitempty"`
	ID        uint8  `json:"id"`
	Sends     bool   `json:"sends"`
	Receives  bool   `json:"receives"`
	// Since is when it began to receive; CaughtUp when it has heard of every
	// living connection, which each director tells of again and again.
	Since    time.Time `json:"since,omitzero"`
	CaughtUp time.Time `json:"caught_up,omitzero"`
	Problem  string    `json:"problem,omitempty"`
}

// Syncing is how long this host will still have connections to hear of; 0: it knows
// them, or never will.
func (p *Plane) Syncing() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status.Sync
	if s == nil || s.Problem != "" {
		return 0
	}
	if s.CaughtUp.IsZero() {
		return flushed // it is about to begin
	}
	return max(0, time.Until(s.CaughtUp))
}

// wantDaemons are the daemons that a director runs: it tells the others of its
// connections and hears of theirs, for any of them may be next. They share one
// id: what a host sends does not come back to it.
func wantDaemons(s fsm.ConnSync, iface string) []ipvs.Daemon {
	d := ipvs.Daemon{Interface: iface, ID: s.ID, Group: s.Group, Port: s.Port, TTL: s.TTL, MaxLen: s.MaxLen}
	sends, receives := d, d
	sends.Role, receives.Role = ipvs.Sends, ipvs.Receives
	return []ipvs.Daemon{sends, receives}
}

// planDaemons says which daemons to stop and then which to start. What others
// started stays, and is as good if it is what is wanted; else it is in the way.
func planDaemons(have, want []ipvs.Daemon, ours []ipvs.Role) (stop []ipvs.Role, start, inTheWay []ipvs.Daemon) {
	for _, r := range []ipvs.Role{ipvs.Sends, ipvs.Receives} {
		of := func(d ipvs.Daemon) bool { return d.Role == r }
		h, w := slices.IndexFunc(have, of), slices.IndexFunc(want, of)
		switch {
		case h >= 0 && w >= 0 && want[w].Same(have[h]):
			continue
		case h >= 0 && slices.Contains(ours, r):
			stop = append(stop, r)
		case h >= 0 && w >= 0:
			inTheWay = append(inTheWay, have[h])
			continue
		}
		if w >= 0 {
			start = append(start, want[w])
		}
	}
	return stop, start, inTheWay
}

// crosses reports whether a service has a real server of the other family, which
// the messages of the daemons cannot name.
func crosses(s ipvs.Service) bool {
	return slices.ContainsFunc(s.Dests, func(d ipvs.Dest) bool { return d.Addr.Is6() != s.Is6() })
}

// makeRoom stops our daemons before the kernel is given a service that it refuses
// while they run: serving goes before synchronising.
func (p *Plane) makeRoom(want []ipvs.Service) error {
	if len(p.record.get().Sync) == 0 || !slices.ContainsFunc(want, crosses) {
		return nil
	}
	_, err := p.runDaemons(nil)
	return err
}

// tune brings the settings to what the table asks for: at once when that changed,
// and every driftEvery. What fails is told and tried again; the services stand
// without it.
func (p *Plane) tune(t *fsm.Table, want []ipvs.Service) {
	v := p.wantSettings(t)
	crossed := slices.ContainsFunc(want, crosses)
	if p.since() < p.tuning.due && crossed == p.tuning.crossed && reflect.DeepEqual(v, p.tuning.told) {
		return
	}
	p.tuning.told, p.tuning.crossed, p.tuning.problems = v, crossed, nil
	for _, err := range []error{p.setKnobs(knobsOf(v)), p.synchronise(t, v)} {
		if err != nil {
			p.failed("tune IPVS", err)
		}
	}
	p.tuning.due = p.since() + driftEvery
	p.mu.Lock()
	p.status.Tuning = p.tuning.problems
	p.mu.Unlock()
}

// wantSettings are the table's. Where others have had their hands on services, those
// may vanish for a moment, and the connections through them are to outlast it: unless
// the table says so, they do not end with their real servers there.
func (p *Plane) wantSettings(t *fsm.Table) fsm.IPVS {
	const ends = "expire_nodest_conn"
	v := t.IPVS()
	if len(p.record.get().Shared) > 0 && !t.SaysIPVSSysctl(ends) {
		delete(v.Sysctls, ends)
	}
	return v
}

// synchronise starts and stops the daemons.
func (p *Plane) synchronise(t *fsm.Table, v fsm.IPVS) error {
	var want []ipvs.Daemon
	var st *SyncStatus
	index := 0
	if v.Sync != nil {
		st = &SyncStatus{ID: v.Sync.ID}
		name, at, err := p.syncInterface(t, *v.Sync)
		switch {
		case err != nil:
			st.Problem = err.Error()
		case p.tuning.crossed:
			st.Problem = "connections are not synchronised: " + ipvs.ErrMixed.Error()
		default:
			st.Interface, index = name, at
			want = wantDaemons(*v.Sync, name)
		}
	}
	if p.tuning.index != 0 && index != p.tuning.index { // another interface of that name: the daemons hang on the old one
		if _, err := p.runDaemons(nil); err != nil {
			return err
		}
	}
	began, err := p.runDaemons(want)
	p.tuning.index = index
	if st != nil {
		p.describeSync(st, want, began, refreshOf(v))
		if err != nil {
			st.Problem = err.Error()
		}
	}
	p.mu.Lock()
	p.status.Sync = st
	p.mu.Unlock()
	return err
}

// refreshOf is how long it takes until every living connection is told again.
func refreshOf(v fsm.IPVS) time.Duration {
	n, err := strconv.Atoi(v.Sysctls["sync_refresh_period"])
	if err != nil || n == 0 {
		n = 10
	}
	return time.Duration(n)*time.Second + flushed
}

// describeSync tells what runs now.
func (p *Plane) describeSync(st *SyncStatus, want []ipvs.Daemon, began time.Time, refresh time.Duration) {
	have, err := p.cfg.IPVS.Daemons()
	if err != nil || st.Problem != "" {
		return // the caller has the error, or the next look does
	}
	for _, d := range have {
		ok := slices.ContainsFunc(want, d.Serves)
		st.Sends = st.Sends || ok && d.Role == ipvs.Sends
		st.Receives = st.Receives || ok && d.Role == ipvs.Receives
		if !ok {
			st.Problem = fmt.Sprintf("connections are not synchronised as the table says: somebody else runs ipvsadm %s; ipvsadm --stop-daemon %s ends it", d, d.Role)
		}
	}
	if st.Receives && !began.IsZero() {
		st.Since, st.CaughtUp = began, began.Add(refresh)
	}
}

// runDaemons makes want what runs of ours, and says since when. The record has a
// daemon before it is started.
func (p *Plane) runDaemons(want []ipvs.Daemon) (began time.Time, err error) {
	r := p.record.get()
	if len(want) == 0 && len(r.Sync) == 0 {
		return time.Time{}, nil
	}
	have, err := p.cfg.IPVS.Daemons()
	if err != nil {
		return time.Time{}, err
	}
	stop, start, _ := planDaemons(have, want, r.Sync)
	for _, role := range stop {
		if err := p.cfg.IPVS.StopDaemon(role); err != nil {
			return time.Time{}, err
		}
		p.log.Info("dataplane: IPVS", "ipvsadm", "--stop-daemon "+role.String())
	}
	roles := ours(r.Sync, want, start)
	began = r.SyncSince
	if len(stop)+len(start) > 0 || began.IsZero() {
		began = time.Now().UTC().Round(0)
	}
	if len(want) == 0 {
		began = time.Time{}
	}
	p.record.update(func(r *recorded) { r.Sync, r.SyncSince = roles, began })
	if err := p.record.save(recordLimit); err != nil {
		p.failed("record", err)
	}
	for _, d := range start {
		if err := p.cfg.IPVS.StartDaemon(d); err != nil {
			return time.Time{}, err
		}
		p.log.Info("dataplane: IPVS", "ipvsadm", d.String())
	}
	return began, nil
}

// ours are the roles whose daemons are ours from now on: those that were and are
// wanted still, and those that are started.
func ours(were []ipvs.Role, want, start []ipvs.Daemon) (out []ipvs.Role) {
	for _, d := range want {
		started := slices.ContainsFunc(start, func(o ipvs.Daemon) bool { return o.Role == d.Role })
		if started || slices.Contains(were, d.Role) {
			out = append(out, d.Role)
		}
	}
	return out
}

// syncInterface finds the interface to the other directors.
func (p *Plane) syncInterface(t *fsm.Table, s fsm.ConnSync) (name string, index int, err error) {
	snap, err := p.cfg.VIPs.Snapshot()
	if err != nil {
		return "", 0, err
	}
	if s.Interface == "" {
		me, _ := t.Member(p.cfg.Self)
		for _, a := range snap.Addrs {
			if l, ok := snap.Link(a.Index); ok && a.Prefix.Addr() == me.Addr.Addr() {
				return l.Name, l.Index, nil
			}
		}
		return "", 0, fmt.Errorf("connections are not synchronised: no interface has this member's address %s", me.Addr.Addr())
	}
	local, mapped := p.cfg.NodeInterfaces[s.Interface]
	if !mapped {
		local = s.Interface
	}
	l, ok := snap.Named(local)
	if !ok {
		return "", 0, fmt.Errorf("connections are not synchronised: this host has no interface %s: if it has another name here, say so under interfaces in this host's configuration", local)
	}
	return l.Name, l.Index, nil
}

// timeoutKnob begins the names of the timeouts among the settings.
const timeoutKnob = "ipvs timeout "

const vsSysctl = "net.ipv4.vs."

// knobsOf are the settings of v by name, with their values.
func knobsOf(v fsm.IPVS) map[string]string {
	out := map[string]string{}
	for name, value := range v.Sysctls {
		out[vsSysctl+name] = value
	}
	for name, d := range map[string]fsm.Duration{"tcp": v.TCPTimeout, "tcpfin": v.TCPFINTimeout, "udp": v.UDPTimeout} {
		if d != 0 {
			out[timeoutKnob+name] = strconv.Itoa(int(d.D().Seconds()))
		}
	}
	return out
}

// setKnobs makes the settings what is wanted, noting what they were, and puts back
// those that are wanted no more.
func (p *Plane) setKnobs(want map[string]string) error {
	k := knobs{p.cfg.VIPs, p.cfg.IPVS}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		now, err := k.get(name)
		if errors.Is(err, fs.ErrNotExist) {
			p.tuning.problems = append(p.tuning.problems, fmt.Sprintf("this kernel has no %s, which the table wants to be %s", name, want[name]))
			continue
		}
		if err == nil && now != want[name] {
			err = p.setKnob(k, name, now, want[name])
		}
		if err != nil {
			err = fmt.Errorf("set %s to %s: %w", name, want[name], err)
			p.tuning.problems, errs = append(p.tuning.problems, err.Error()), append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.record.get().Tuned)) {
		if _, wanted := want[name]; wanted {
			continue
		}
		if err := putBack(k, name, p.record.get().Tuned[name]); err != nil {
			p.tuning.problems = append(p.tuning.problems, err.Error())
			errs = append(errs, err)
			continue
		}
		p.log.Info("dataplane: put back", "setting", name)
		p.record.update(func(r *recorded) {
			r.Tuned = maps.Clone(r.Tuned)
			delete(r.Tuned, name)
		})
	}
	return errors.Join(errs...)
}

// setKnob sets one, once the record has what it was.
func (p *Plane) setKnob(k knobs, name, now, value string) error {
	p.record.update(func(r *recorded) {
		r.Tuned = maps.Clone(r.Tuned)
		if r.Tuned == nil {
			r.Tuned = map[string]tuned{}
		}
		t, noted := r.Tuned[name]
		if !noted {
			t.Was = now
		}
		t.Is = value
		r.Tuned[name] = t
	})
	if err := p.record.save(recordWait); err != nil {
		p.failed("record", err)
	}
	p.log.Info("dataplane: set for IPVS", "setting", name, "from", now, "to", value)
	return k.set(name, value)
}

// putBack undoes a setting, unless somebody changed it since.
func putBack(k knobs, name string, t tuned) error {
	now, err := k.get(name)
	if err == nil && now == t.Is {
		err = k.set(name, t.Was)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put back %s: %w", name, err)
	}
	return nil
}

// Tuner is the part of the kernel that tuning changes.
type Tuner interface {
	Daemons() ([]ipvs.Daemon, error)
	StartDaemon(ipvs.Daemon) error
	StopDaemon(ipvs.Role) error
	Timeouts() (ipvs.Timeouts, error)
	SetTimeouts(ipvs.Timeouts) error
}

// sysctls reads and writes settings by their dotted names.
type sysctls interface {
	Sysctl(name string) (string, error)
	SetSysctl(name, value string) error
}

// knobs are sysctls, and the timeouts of IPVS by names of their own.
type knobs struct {
	host sysctls
	ipvs Tuner
}

func (k knobs) get(name string) (string, error) {
	which, timeout := strings.CutPrefix(name, timeoutKnob)
	if !timeout {
		v, err := k.host.Sysctl(name)
		return strings.Join(strings.Fields(v), " "), err
	}
	t, err := k.ipvs.Timeouts()
	return strconv.Itoa(int(t.Of(which).Seconds())), err
}

func (k knobs) set(name, value string) error {
	which, timeout := strings.CutPrefix(name, timeoutKnob)
	if !timeout {
		return k.host.SetSysctl(name, value)
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return err
	}
	return k.ipvs.SetTimeouts(ipvs.Timeout(which, time.Duration(n)*time.Second))
}

// clearTuning stops our daemons and puts back what we set.
func clearTuning(was recorded, k Tuner, host sysctls) error {
	var errs []error
	for _, role := range was.Sync {
		errs = append(errs, k.StopDaemon(role))
	}
	for _, name := range slices.Sorted(maps.Keys(was.Tuned)) {
		errs = append(errs, putBack(knobs{host, k}, name, was.Tuned[name]))
	}
	return errors.Join(errs...)
}
