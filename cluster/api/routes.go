package api

import (
	_ "embed"
	"net/http"

	"lbcluster/fsm"
	"lbcluster/journal"
)

// route is one request that the API answers. The document in openapi.json is made
// from these and the types that they name.
type route struct {
	method, path string
	do           func(*http.Request) (any, error)
	summary      string // a sentence without its full stop
	query        []query
	body, reply  any // values of the types; nil: none
	// compares: it takes If-Match, because it is one command to the table.
	compares bool
	// tagged: its answer follows from the table alone and has an ETag.
	tagged bool
}

// query is a parameter of the query string.
type query struct {
	name, format, about string // format: "integer", "duration" or "date-time"
}

// none is the answer of what has nothing to say but that it is done.
type none struct{}

// routes are all of them but the stream; see each method.
func (s *Server) routes() []route {
	get, post, patch, put, del := http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete
	return []route{
		{method: get, path: "/v1/version", do: s.getVersion, summary: "Which lbcluster answers", reply: VersionReply{}},
		{method: get, path: "/v1/status", do: s.getStatus, summary: "The whole cluster with conclusions; asks every member and waits a second for those that do not answer", reply: StatusReport{}},
		{method: get, path: "/v1/status/local", do: s.getLocal, summary: "What this member alone knows; waits for nothing", reply: DirectorStatus{}},
		{method: get, path: "/v1/table", do: s.getTable, summary: "All that is replicated, but for secrets of join tokens and former configurations", reply: fsm.Table{}, tagged: true,
			query: []query{{"revision", "integer", "wait until this member has this revision"}}},
		{method: get, path: "/v1/events", do: s.getEvents, summary: "The history of the table", reply: EventsReply{}, query: []query{
			{"after", "integer", "only events of revisions behind this one"}, {"since", "date-time", "only events from this time on"},
			{"wait", "duration", "if there is none, wait so long for one; at most 60s"}}},
		{method: get, path: "/v1/journal", do: s.getJournal, summary: "What every member recorded of itself", reply: []journal.Record{},
			query: []query{{"from", "date-time", "from this time on"}, {"to", "date-time", "up to this time"}}},
		{method: get, path: "/v1/members", do: s.getMembers, summary: "The members", reply: []fsm.Member{}, tagged: true},
		{method: patch, path: "/v1/members/{id}", do: s.patchMember, summary: "Drain a director or make it fit again", body: MemberRequest{}, reply: fsm.Result{}, compares: true},
		{method: del, path: "/v1/members/{id}", do: s.deleteMember, summary: "Remove a member from the cluster", reply: none{}},
		{method: post, path: "/v1/moves", do: s.postMove, summary: "Say where a router or sync group should be", body: fsm.Move{}, reply: fsm.Result{}, compares: true},
		{method: get, path: "/v1/settings", do: s.getSettings, summary: "The cluster's settings", reply: fsm.Settings{}, tagged: true},
		{method: patch, path: "/v1/settings", do: s.patchSettings, summary: "Change settings; what is not named stays", body: fsm.SetSettings{}, reply: fsm.Result{}, compares: true},
		{method: post, path: "/v1/init", do: s.postInit, summary: "Found a cluster on this machine", body: InitRequest{}, reply: InitReply{}},
		{method: post, path: "/v1/join", do: s.postJoin, summary: "Enrol this machine into a cluster", body: JoinRequest{}, reply: JoinReply{}},
		{method: post, path: "/v1/leave", do: s.postLeave, summary: "Hand over and take this machine out of its cluster", reply: none{}},
		{method: post, path: "/v1/tokens", do: s.postToken, summary: "Make a token with which machines join", body: TokenRequest{}, reply: TokenReply{}},
		{method: post, path: "/v1/plan", do: s.postPlan, summary: "What an apply would change", body: ApplyRequest{}, reply: Plan{}},
		{method: post, path: "/v1/apply", do: s.postApply, summary: "Apply a configuration, whole or not at all, if the table is still at the revision of the plan (if_revision or If-Match)", body: ApplyRequest{}, reply: ApplyReply{}, compares: true},
		{method: get, path: "/v1/history", do: s.getHistory, summary: "What was applied, oldest first", reply: HistoryReply{}, tagged: true},
		{method: get, path: "/v1/history/{rev}", do: s.getRevision, summary: "One applied configuration, and the one that the set had before", reply: RevisionReply{}, tagged: true,
			query: []query{{"set", "", "which set, where a restored snapshot changed several at once"}}},
		{method: get, path: "/v1/snapshot", do: s.getSnapshot, summary: "What operators decided (sets, settings, drains and weights, pins) as a file with a checksum; it has passwords in it", reply: fsm.Saved{}, tagged: true},
		{method: post, path: "/v1/snapshot/plan", do: s.postSnapshotPlan, summary: "What restoring a snapshot would change", body: SnapshotRequest{}, reply: Plan{}},
		{method: post, path: "/v1/snapshot/restore", do: s.postSnapshot, summary: "Restore a snapshot, whole or not at all, if the table is still at the revision of the plan (if_revision or If-Match)", body: SnapshotRequest{}, reply: ApplyReply{}, compares: true},
		{method: post, path: "/v1/confirm", do: s.postConfirm, summary: "Keep the change that waits for its confirmation", body: PendingRequest{}, reply: PendingReply{}, compares: true},
		{method: post, path: "/v1/undo", do: s.postUndo, summary: "Take back the change that waits for its confirmation", body: PendingRequest{}, reply: PendingReply{}, compares: true},
		{method: put, path: "/v1/overrides", do: s.putOverride, summary: "Drain, disable or enable a real server, or set its weight", body: OverrideRequest{}, reply: fsm.Result{}, compares: true},
		{method: post, path: "/v1/force-own", do: s.postForce, summary: "Have this director own a router although a majority is gone for good; root only", body: ForceRequest{}, reply: ForceReply{}},
		{method: post, path: "/v1/eject", do: s.postEject, summary: "Take lbcluster off this machine and leave IPVS as it is; root only", body: EjectRequest{}, reply: EjectReply{}},
	}
}

// document is the OpenAPI document; a test holds it to the routes.
//
//go:embed openapi.json
var document []byte

// openAPI: GET /v1/openapi.json.
func openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(document) // an error here means that the client has gone
}
