package conf

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// unicastFile is a file of a node that speaks from src with peers.
func unicastFile(src string, peers ...string) string {
	text := fmt.Sprintf(tiny, 100, "BACKUP")
	more := ""
	if src != "" {
		more = "unicast_src_ip " + src + "\n"
	}
	if len(peers) > 0 {
		more += "unicast_peer {\n" + strings.Join(peers, "\n") + "\n}\n"
	}
	return strings.Replace(text, "virtual_ipaddress", more+"virtual_ipaddress", 1)
}

func peersOf(r fsm.Router) string {
	var all []string
	for _, p := range r.Peering.Peers {
		s := p.Addr.String()
		if p.MinTTL != 0 {
			s += fmt.Sprintf("/%d", p.MinTTL)
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// Nodes whose unicast peers are each other do not differ; what else differs in
// the lists somebody decides.
func TestMergeUnicastPeers(t *testing.T) {
	const a, b, c, x = "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.99"
	for _, tt := range []struct {
		name  string
		files []string
		want  string
		open  int
	}{
		{"a pair", []string{unicastFile(a, b), unicastFile(b, a)}, b + " " + a, 0},
		{"a pair and a stranger", []string{unicastFile(a, b, x), unicastFile(b, x, a)}, b + " " + x + " " + a, 0},
		{"three", []string{unicastFile(a, b, c), unicastFile(b, a, c), unicastFile(c, a, b)}, b + " " + c + " " + a, 0},
		{"bounds of the TTL stay", []string{unicastFile(a, b+" min_ttl 9"), unicastFile(b, a+" min_ttl 8")}, b + "/9 " + a + "/8", 0},
		{"a stranger of one file alone", []string{unicastFile(a, b, x), unicastFile(b, a)}, b + " " + x, 1},
		{"a stranger of the other alone", []string{unicastFile(a, b), unicastFile(b, a, x)}, b, 1},
		{"a stranger with other bounds", []string{unicastFile(a, b, x), unicastFile(b, a, x+" min_ttl 3")}, b + " " + x, 1},
		{"not each other's", []string{unicastFile(a, x), unicastFile(b, a)}, x, 1},
		{"one source for both", []string{unicastFile(a, b), unicastFile(a, x)}, b, 1},
		{"no source", []string{unicastFile("", b), unicastFile("", a)}, b, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sources []Source
			for i, text := range tt.files {
				sources = append(sources, source(t, fmt.Sprint(i), text))
			}
			m, err := Merge(sources, nil)
			if err != nil {
				t.Fatal(err)
			}
			open := 0
			for _, d := range m.Differences {
				if d.Open() {
					open++
				}
			}
			if got := peersOf(m.Config.Routers[0]); got != tt.want || open != tt.open {
				t.Errorf("peers %s with %d to decide, want %s with %d: %v", got, open, tt.want, tt.open, m.Differences)
			}
		})
	}
}

func TestSources(t *testing.T) {
	two := unicastFile("10.0.0.11", "10.0.0.9") +
		strings.NewReplacer("VI_1", "VI_2", "51", "52", "10.0.0.1\n", "10.0.0.2\n").Replace(unicastFile("10.0.0.11", "10.0.0.9")) +
		strings.NewReplacer("VI_1", "VI_3", "51", "53", "10.0.0.1\n", "10.0.0.3\n", "unicast_src_ip", "mcast_src_ip").Replace(unicastFile("10.0.0.77"))
	r := source(t, "f", two).Result
	if got := fmt.Sprint(r.Sources()); got != "[10.0.0.11 10.0.0.77]" {
		t.Error(got)
	}
	if got := source(t, "f", fmt.Sprintf(tiny, 1, "BACKUP")).Result.Sources(); got != nil {
		t.Error(got)
	}
}

// A node's file has its own address, and all others as peers.
func TestWriteSourceForNode(t *testing.T) {
	const a, b, x = "10.0.0.11", "10.0.0.12", "10.0.0.99"
	addr := netip.MustParseAddr
	own := func(s string, others ...netip.Addr) Node {
		n := Node{Name: "n", Sources: map[string]netip.Addr{"VI_1": {}}, Others: map[string][]netip.Addr{"VI_1": others}}
		if s != "" {
			n.Sources["VI_1"] = addr(s)
		}
		return n
	}
	for _, tt := range []struct {
		name, file, want string
		node             Node
	}{
		{"its own", unicastFile(a, x), b + " from " + x + " " + a, own(b, addr(a))},
		{"not named so far", unicastFile("", x), b + " from " + x + " " + a, own(b, addr(a))},
		{"itself is no peer", unicastFile(a, b, a, x), b + " from " + a + " " + x, own(b, addr(a))},
		{"listed already", unicastFile(a, x+" min_ttl 3", a), b + " from " + x + "/3 " + a, own(b, addr(a), addr(x))},
		{"unknown", unicastFile(a, x), "invalid IP from " + x, own("")},
		{"nobody else", unicastFile(a, b), b + " from " + b, own(b)},
		{"multicast", strings.Replace(unicastFile(a), "unicast_src", "mcast_src", 1), b + " from ", own(b, addr(a))},
		{"multicast without a source", unicastFile(""), "invalid IP from ", own(b, addr(a))},
		{"nothing is known of the node", unicastFile(a, x), a + " from " + x, Node{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := source(t, "f", tt.file).Result
			text, err := WriteKeepalivedFor(r.Config, tt.node)
			if err != nil {
				t.Fatal(err)
			}
			back := source(t, "back", string(text)).Result.Config.Routers[0]
			if got := back.Peering.Source.String() + " from " + peersOf(back); got != tt.want {
				t.Errorf("%s, want %s\n%s", got, tt.want, text)
			}
		})
	}
}

// What is written for the nodes of a cluster that speaks by unicast merges into
// one configuration, with nothing to decide.
func TestUnicastNodesMergeAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawConfig(t)
		n := rapid.IntRange(2, 4).Draw(t, "nodes")
		at := func(i, six int) netip.Addr {
			if six == 3 {
				return netip.MustParseAddr(fmt.Sprintf("fe80::a:%d", i+1))
			}
			return netip.AddrFrom4([4]byte{10, 9, 8, byte(i + 1)})
		}
		var sources []Source
		for i := range n {
			node := Node{Name: fmt.Sprint("dir", i), Sources: map[string]netip.Addr{}, Others: map[string][]netip.Addr{}}
			for _, r := range cfg.Routers {
				node.Sources[r.Name] = at(i, int(r.Version))
				for j := range n {
					if j != i {
						node.Others[r.Name] = append(node.Others[r.Name], at(j, int(r.Version)))
					}
				}
			}
			text, err := WriteKeepalivedFor(cfg, node)
			if err != nil {
				t.Fatal(err)
			}
			read, problems := Parse(node.Name, func(string) ([]byte, error) { return text, nil }, nil)
			if len(problems) > 0 {
				t.Fatal(lines(problems))
			}
			sources = append(sources, Source{node.Name, read})
		}
		m, err := Merge(sources, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.Differences {
			if d.Open() {
				t.Fatalf("to decide: %s", d)
			}
		}
		for i, r := range m.Config.Routers {
			if want := len(cfg.Routers[i].Peering.Peers) + n; r.Peering.Unicast && len(r.Peering.Peers) != want {
				t.Fatalf("%s has %d peers, not %d", r.Name, len(r.Peering.Peers), want)
			}
		}
	})
}
