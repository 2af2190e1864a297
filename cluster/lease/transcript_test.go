package lease

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew: read the difference before you keep it")

// A transcript is a story: a line of command, "----", what came of it, an
// empty line. Lines that start with # are the author's. Commands:
//
//	at 10ms                        time, since the start
//	voter [fresh]                  a new voter m1, profile default (voter/ only)
//	floor 3                        the voter's configuration
//	ask|probe|release m2.a r1 seq=1 [ttl=800ms] [tag=1] [addrs=A,B]
//	want r1 [rank=0] [addrs=A,B]   one router; "want nothing": none (holder/ only)
//	voters 3 m1,m2,m3              the committed configuration
//	fit yes | fit no REASON | tick | resign | closed [no] | removed
//	grant|deny|free|busy|ack m2 [seq=N] [left=100ms] [boot=b]
//
// seq=last is the number of the latest message sent.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimPrefix(f, "testdata/"), func(t *testing.T) { play(t, f) })
	}
}

func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tell := newTeller(t)
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		head, _, _ := strings.Cut(block+"\n", "----\n")
		fmt.Fprintf(&out, "%s", head)
		if cmd := lastLine(head); cmd != "" {
			fmt.Fprintf(&out, "----\n%s", tell.do(cmd))
		}
		out.WriteString("\n")
	}
	got := strings.TrimSpace(out.String()) + "\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(text) {
		t.Errorf("%s reads differently now (-rewrite writes it anew):\n%s", file, got)
	}
}

// lastLine is the command of a block: its last line, unless that is a remark.
func lastLine(head string) string {
	lines := strings.Split(strings.TrimSpace(head), "\n")
	if l := lines[len(lines)-1]; !strings.HasPrefix(l, "#") {
		return l
	}
	return ""
}

// teller plays one transcript.
type teller struct {
	t       *testing.T
	now     int64
	p       Params
	voter   *Voter
	holder  *Holder
	voters  fsm.VoterSet
	routers []Router
	last    uint64
	shut    CloseGate
}

func newTeller(t *testing.T) *teller {
	p := profile(t, "default")
	return &teller{
		t: t, p: p, voter: NewVoter("m1", Nonce{0xf1}, p, 0, true),
		holder: NewHolder("m1", Nonce{0xa}, p, rand.New(rand.NewPCG(1, 1))),
		voters: voterSet(1, 1, "m1", "m2", "m3"),
	}
}

// opt finds key=value among the words.
func opt(words []string, key string) string {
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			return v
		}
	}
	return ""
}

func (x *teller) number(s string) uint64 {
	if s == "last" || s == "" {
		return x.last
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		x.t.Fatal(err)
	}
	return n
}

func (x *teller) span(s string) int64 {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		x.t.Fatal(err)
	}
	return int64(d)
}

func (x *teller) addrs(s string) (out []netip.Addr) {
	for _, a := range strings.Split(s, ",") {
		if a != "" {
			out = append(out, netip.MustParseAddr("10.0.0."+a))
		}
	}
	return out
}

func (x *teller) do(cmd string) string {
	w := strings.Fields(cmd)
	switch w[0] {
	case "at":
		x.now = x.span(w[1])
		return ""
	case "voter":
		x.voter = NewVoter("m1", Nonce{0xf1}, x.p, x.now, len(w) > 1)
		return fmt.Sprintf("embargo %v\n", time.Duration(x.voter.EmbargoLeft(x.now)))
	case "floor":
		x.voter.SetFloor(fsm.ConfigTag{Index: x.number(w[1])})
		return ""
	case "ask", "probe", "release":
		return x.request(w)
	case "voters":
		x.voters = voterSet(1, x.number(w[1]), ids(w[2])...)
		return x.step(Wanted{Committed: x.voters, Routers: x.routers})
	case "want":
		x.want(w)
		return x.step(Wanted{Committed: x.voters, Routers: x.routers})
	case "fit":
		return x.step(Fit{w[1] == "yes", strings.Join(w[2:], " ")})
	case "tick":
		return x.step(Tick{})
	case "stretch":
		return x.step(Stretch{})
	case "resign":
		return x.step(Resign{})
	case "closed":
		return x.step(GateClosed{x.shut.Router, x.shut.Addrs, len(w) == 1})
	case "removed":
		return x.step(Removed{1})
	case "promised":
		return x.step(Promised{1, fsm.MemberID(strings.TrimPrefix(w[1], "-")), x.span(opt(w, "left"))})
	}
	return x.step(Received{x.reply(w)})
}

func ids(s string) (out []fsm.MemberID) {
	for _, id := range strings.Split(s, ",") {
		out = append(out, fsm.MemberID(id))
	}
	return out
}

func (x *teller) request(w []string) string {
	node, boot, _ := strings.Cut(w[1], ".")
	router := x.number(w[2][1:])
	m := Message{
		Kind: map[string]Kind{"ask": Ask, "probe": Probe, "release": Release}[w[0]], Router: router,
		From: fsm.MemberID(node), Seq: x.number(opt(w, "seq")), TTL: x.span(opt(w, "ttl")),
		Tag: fsm.ConfigTag{Index: x.number("0" + opt(w, "tag"))}, Addrs: x.addrs(opt(w, "addrs")),
	}
	copy(m.Boot[:], boot)
	if w[0] == "ask" && m.TTL == 0 {
		m.TTL = int64(x.p.TTL)
	}
	var b strings.Builder
	if m.Kind == Ask && opt(w, "cookie") == "" { // most stories are not about it
		m.Cookie = x.voter.cookies.of(identity{m.From, m.Boot})
	}
	outs := x.voter.Step(x.now, m)
	if len(outs) == 0 {
		b.WriteString("no answer\n")
	}
	for _, o := range outs {
		fmt.Fprintf(&b, "%v seq=%d to %s.%s", o.Msg.Kind, o.Msg.Seq, o.To, strings.TrimRight(string(o.Msg.Echo[:]), "\x00"))
		if o.Msg.Reason != Free {
			fmt.Fprintf(&b, ": %v", o.Msg.Reason)
			if o.Msg.Remaining > 0 {
				fmt.Fprintf(&b, " %s for %v", o.Msg.Holder, time.Duration(o.Msg.Remaining))
			}
		}
		b.WriteString("\n")
	}
	if s := x.voter.seats[router]; s != nil && x.now < s.until {
		fmt.Fprintf(&b, "  promise: %s.%s seq=%d until %v", s.to.node, strings.TrimRight(string(s.to.boot[:]), "\x00"), s.seq, time.Duration(s.until))
		for _, c := range s.addrs {
			fmt.Fprintf(&b, " %v@%v", c.addr, time.Duration(c.until))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (x *teller) want(w []string) {
	x.routers = nil
	if w[1] != "nothing" {
		rank, _ := strconv.Atoi(opt(w, "rank"))
		x.routers = []Router{{ID: x.number(w[1][1:]), Rank: rank, Addrs: x.addrs(opt(w, "addrs"))}}
	}
}

func (x *teller) reply(w []string) Message {
	m := Message{Router: 1, From: fsm.MemberID(w[1]), Echo: Nonce{0xa}, Seq: x.number(opt(w, "seq")), Remaining: x.span(opt(w, "left"))}
	if opt(w, "boot") != "" {
		m.Echo = Nonce{0xb}
	}
	switch w[0] {
	case "grant":
		m.Kind = Grant
	case "deny":
		m.Kind, m.Reason, m.Holder = Deny, Taken, "m9"
	case "free":
		m.Kind = ProbeReply
	case "busy":
		m.Kind, m.Reason, m.Holder = ProbeReply, Taken, "m9"
	case "ack":
		m.Kind = ReleaseAck
	default:
		x.t.Fatalf("no such command: %v", w)
	}
	return m
}

// step shows what the holder wants done. Equal sends to several are one line.
func (x *teller) step(ev Event) string {
	var lines []string
	for _, out := range x.holder.Step(x.now, ev) {
		switch o := out.(type) {
		case Send:
			s := fmt.Sprintf("%v seq=%d", o.Msg.Kind, o.Msg.Seq)
			if o.Msg.Router == 0 {
				s = "greet"
			} else {
				x.last = o.Msg.Seq
			}
			if o.Msg.Kind == Ask {
				s += fmt.Sprintf(" ttl=%v %v", time.Duration(o.Msg.TTL), o.Msg.Addrs)
			}
			s += " to "
			if n := len(lines) - 1; n >= 0 && strings.HasPrefix(lines[n], s) {
				lines[n] += " " + string(o.To)
			} else {
				lines = append(lines, s+string(o.To))
			}
		case Arm:
			lines = append(lines, fmt.Sprintf("arm %v until %v by round %d", o.Addrs, time.Duration(o.Deadline), o.Round))
		case Acquired:
			lines = append(lines, fmt.Sprintf("acquired %v", o.Addrs))
		case CloseGate:
			x.shut = o
			lines = append(lines, fmt.Sprintf("close the gate of %v, whole %v", o.Addrs, o.Whole))
		case Lost:
			lines = append(lines, "lost: "+o.Why)
		}
	}
	if c := x.holder.routers[1]; c != nil {
		lines = append(lines, "  "+c.phase.String())
	} else {
		lines = append(lines, "  nothing")
	}
	return strings.Join(lines, "\n") + "\n"
}
