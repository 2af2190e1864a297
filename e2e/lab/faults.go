package lab

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Block is a rule of the switch that drops frames.
type Block struct {
	lab   *Lab
	rules []string
}

// Block drops what the hosts from send to the hosts to, one way. match is an
// nft match that narrows it ("ip protocol 112", "udp dport 7400", "arp"); empty
// drops everything. Frames between other hosts pass.
func (l *Lab) Block(from, to []*Host, match string) *Block {
	l.t.Helper()
	b := &Block{lab: l}
	for _, f := range from {
		for _, t := range to {
			if f != t {
				b.rules = append(b.rules, blockRule(f.Port(), t.Port(), match))
			}
		}
	}
	l.blocks = append(l.blocks, b)
	l.applyBlocks()
	return b
}

// Partition drops what the hosts of one side send to the other, both ways; see
// Block for match.
func (l *Lab) Partition(a, b []*Host, match string) *Block {
	l.t.Helper()
	p := l.Block(a, b, match)
	back := l.Block(b, a, match)
	p.rules = append(p.rules, back.rules...)
	back.rules = nil
	return p
}

// Heal removes the block. Healing twice is no error.
func (b *Block) Heal() {
	b.lab.t.Helper()
	b.lab.blocks = slices.DeleteFunc(b.lab.blocks, func(o *Block) bool { return o == b || len(o.rules) == 0 })
	b.lab.applyBlocks()
}

func blockRule(from, to, match string) string {
	match = strings.TrimSpace(match)
	if match == "arp" {
		match = "ether type arp"
	}
	return strings.Join(strings.Fields(fmt.Sprintf("iifname %q oifname %q %s counter drop", from, to, match)), " ")
}

// blockTable is the whole nft table, which replaces the last one in one step.
// Its priority is before br_netfilter's (0), which takes IP packets away from
// later hooks.
func blockTable(blocks []*Block) string {
	var s strings.Builder
	s.WriteString("table bridge lab\ndelete table bridge lab\ntable bridge lab {\n chain forward {\n  type filter hook forward priority -200; policy accept;\n")
	for _, b := range blocks {
		for _, r := range b.rules {
			fmt.Fprintf(&s, "  %s\n", r)
		}
	}
	s.WriteString(" }\n}\n")
	return s.String()
}

func (l *Lab) applyBlocks() {
	l.t.Helper()
	rules := blockTable(l.blocks)
	err := l.sw.do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s\n%s", err, out, rules)
		}
		return nil
	})
	if err != nil {
		l.t.Fatalf("lab: switch rules: %v", err)
	}
}
