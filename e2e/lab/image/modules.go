package image

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// bootModules are loaded by the guest's init, in this order, each with what it
// needs before it. Names ending in "*" stand for all modules with that prefix.
var bootModules = []string{
	"virtio_pci", "virtio_blk",
	"veth", "bridge", "br_netfilter", "macvlan", "8021q", "bonding", "ipip",
	"ip_vs", "ip_vs_*",
	"nf_tables", "nft_ct", "nft_meta_bridge", "nft_reject_bridge", "nft_reject_inet", "nft_limit", "nft_nat", "nft_dynset",
	"sch_netem", "sch_ingress", "sch_prio", "sch_tbf", "cls_bpf", "cls_u32", "act_bpf",
	"dm_mod", "dm_delay", "loop",
}

// optional: the recipe works without these, so a kernel that has them built in
// or lacks them is no error.
func moduleOptional(name string) bool {
	return name != "virtio_blk" && name != "ip_vs" && name != "veth" && name != "bridge"
}

// moduleDeps is modules.dep: a module's path to the paths it needs, which
// depmod lists so that the last must be loaded first.
type moduleDeps map[string][]string

func readModuleDeps(file string) (moduleDeps, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("module index: %w", err)
	}
	defer f.Close()
	deps := moduleDeps{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		mod, rest, ok := strings.Cut(sc.Text(), ":")
		if ok {
			deps[mod] = strings.Fields(rest)
		}
	}
	return deps, sc.Err()
}

// moduleName is the kernel's name of a module file: without folder and suffix,
// "-" as "_".
func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// loadOrder returns the files of the wanted modules and of all they need, each
// once, dependencies first.
func (d moduleDeps) loadOrder(wanted []string) ([]string, error) {
	var order []string
	done := map[string]bool{}
	add := func(mod string) {
		for i := len(d[mod]) - 1; i >= 0; i-- {
			if dep := d[mod][i]; !done[dep] {
				done[dep] = true
				order = append(order, dep)
			}
		}
		if !done[mod] {
			done[mod] = true
			order = append(order, mod)
		}
	}
	for _, w := range wanted {
		found := d.match(w)
		if len(found) == 0 && !moduleOptional(w) {
			return nil, fmt.Errorf("the kernel has no module %s", w)
		}
		for _, mod := range found {
			add(mod)
		}
	}
	return order, nil
}

func (d moduleDeps) match(pattern string) []string {
	var found []string
	prefix, wild := strings.CutSuffix(pattern, "*")
	for mod := range d {
		name := moduleName(mod)
		if name == pattern || wild && strings.HasPrefix(name, prefix) {
			found = append(found, mod)
		}
	}
	sortStrings(found)
	return found
}

// addModules puts the boot modules into the tree with the index files modprobe
// wants, and their load order into /etc/lab/modules, one path a line.
func (u *Unpacked) addModules(t *Tree) error {
	dir := filepath.Join("lib/modules", u.Kernel)
	deps, err := readModuleDeps(filepath.Join(u.Root, dir, "modules.dep"))
	if err != nil {
		return err
	}
	order, err := deps.loadOrder(bootModules)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, mod := range order {
		rel := filepath.Join(dir, mod)
		t.File("/"+rel, filepath.Join(u.Root, rel), 0o644)
		fmt.Fprintln(&list, "/"+rel)
	}
	t.Text("/etc/lab/modules", list.String(), 0o644)
	index, err := filepath.Glob(filepath.Join(u.Root, dir, "modules.*"))
	if err != nil {
		return fmt.Errorf("module index: %w", err)
	}
	for _, f := range index {
		t.File("/"+filepath.Join(dir, filepath.Base(f)), f, 0o644)
	}
	return nil
}
