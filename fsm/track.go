package fsm

// TrackKind is a kind of thing that a virtual router depends on.
type TrackKind string

const (
	TrackInterface TrackKind = "interface" // up with carrier (keepalived: track_interface)
	TrackScript    TrackKind = "script"    // a program's exit status (track_script)
	TrackFile      TrackKind = "file"      // a number in a file (track_file)
	TrackProcess   TrackKind = "process"   // processes that run (track_process)
)

// Tracker is one thing that each director watches for a virtual router. It says
// everything that is needed to watch, as [Check] does: equal trackers of several
// routers are watched once.
type Tracker struct {
	Kind TrackKind `json:"kind"`
	// Name is the interface's, or that of the vrrp_script, vrrp_track_file or
	// vrrp_track_process block of the file.
	Name string `json:"name"`
	// Weight 0: a failure is a FAULT, the director can't hold the router. Else,
	// as in keepalived, a positive weight is added to the director's score while
	// the tracker is well and a negative one while it fails; -253 to 253. A file's
	// weight is multiplied by the number in it.
	Weight  int  `json:"weight,omitempty"`
	Reverse bool `json:"reverse,omitempty"` // well and failed change places

	// Of scripts: Command is run without a shell, split into words as keepalived
	// does; Fall failures in a row make it fail, Rise successes make it well.
	Command  string   `json:"command,omitempty"`
	Interval Duration `json:"interval,omitempty"`
	Timeout  Duration `json:"timeout,omitempty"`
	Rise     int      `json:"rise,omitempty"`
	Fall     int      `json:"fall,omitempty"`
	User     string   `json:"user,omitempty"`
	InitFail bool     `json:"init_fail,omitempty"` // counts as failed until it has run

	Path string `json:"path,omitempty"` // of files

	// Of processes: Process is the program's name or path, with its arguments;
	// well while at least Quorum and at most QuorumMax (0: any number, -1: none) run.
	Process      string   `json:"process,omitempty"`
	FullCommand  bool     `json:"full_command,omitempty"`
	Quorum       int      `json:"quorum,omitempty"`
	QuorumMax    int      `json:"quorum_max,omitempty"`
	Delay        Duration `json:"delay,omitempty"` // before a change counts, both ways
	TerminDelay  Duration `json:"terminate_delay,omitempty"`
	StartupDelay Duration `json:"fork_delay,omitempty"`
}

// Script is a program to run, with the user it runs as (empty: the daemon's
// default, keepalived_script if there is one, else root).
type Script struct {
	Command string `json:"command"`
	User    string `json:"user,omitempty"`
}

// Notify are the programs that a director runs when its state for a virtual
// router, or a sync group, changes. They get keepalived's arguments: INSTANCE or
// GROUP, the name, the state and the priority.
type Notify struct {
	Master *Script `json:"master,omitempty"`
	Backup *Script `json:"backup,omitempty"`
	Fault  *Script `json:"fault,omitempty"`
	Stop   *Script `json:"stop,omitempty"`
	Any    *Script `json:"any,omitempty"` // keepalived: notify
}

// SyncGroup is a vrrp_sync_group: its routers move together, under one lease.
type SyncGroup struct {
	// ID names the group's lease. Invariant: from the same counter as router
	// ids, never reused, kept when a group of the same name is applied again.
	ID      uint64    `json:"id"`
	Name    string    `json:"name"` // unique among groups
	Set     string    `json:"set"`
	Routers []string  `json:"routers"` // names, of the same set; at least one; each in one group only
	Track   []Tracker `json:"track,omitempty"`
	Notify  Notify    `json:"notify,omitzero"`
	// Alert: as the routers'.
	Alert bool `json:"smtp_alert,omitempty"`
}
