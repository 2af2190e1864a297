package conf

import (
	"fmt"
	"time"

	"lbcluster/fsm"
)

// fileTimers are those of every FILE_CHECK: keepalived knows none, for the kernel tells
// it of a change; here the file is looked at every second.
func fileTimers(c *fsm.Check) {
	c.Retry, c.DelayBeforeRetry, c.Warmup, c.Alpha = 0, 0, 0, false
	c.DelayLoop, c.ConnectTimeout = fsm.Duration(time.Second), fsm.Duration(defaultConnectTimeout)
}

func init() {
	kindRules[fsm.CheckFile] = map[string]rule{
		"track_file": {min: 1, max: 1, do: func(b *builder, n *node) { b.check.file = n }},
		"weight": {min: 1, max: 2, do: func(b *builder, n *node) {
			b.check.fileWeight = &fsm.Tracker{}
			b.readTrackWeight(n, n.args, fsm.MaxWeight, b.check.fileWeight)
		}},
	}
}

// finishFile finds the track_file that a FILE_CHECK names.
func (b *builder) finishFile(draft *checkDraft, c *fsm.Check) {
	f := *c.File
	c.File = &f
	fileTimers(c)
	f.Path = "/" // whatever is wrong is told here
	if draft.file == nil {
		b.problem(draft.at.pos, draft.at.word, "names no track_file")
		return
	}
	d := b.defined(fsm.TrackFile, draft.file.args[0])
	if d == nil {
		b.problem(draft.file.pos, draft.file.word, "there is no track_file %s", draft.file.args[0])
		return
	}
	d.used = true
	f.Path, f.Weight, f.Reverse = d.Path, d.Weight, d.Reverse
	if w := draft.fileWeight; w != nil {
		f.Weight, f.Reverse = w.Weight, w.Reverse
	}
}

// fileNames gives each file that a check reads the name of a track_file: the one that a
// router or group has for it, or a new one.
func fileNames(cfg fsm.Config) (names map[string]string, fresh []fsm.Tracker) {
	names, taken := map[string]string{}, map[string]bool{}
	for _, list := range trackLists(cfg) {
		for _, t := range list {
			if t.Kind == fsm.TrackFile {
				names[t.Path], taken[t.Name] = t.Name, true
			}
		}
	}
	for _, v := range cfg.Services {
		for _, r := range v.RealServers {
			for _, c := range r.Checks {
				if c.File == nil || names[c.File.Path] != "" {
					continue
				}
				n := len(fresh) + 1
				for taken[fmt.Sprintf("file_%d", n)] {
					n++
				}
				t := fsm.Tracker{Kind: fsm.TrackFile, Name: fmt.Sprintf("file_%d", n), Path: c.File.Path}
				names[t.Path], taken[t.Name] = t.Name, true
				fresh = append(fresh, t)
			}
		}
	}
	return names, fresh
}

func (w *writer) fileCheck(f fsm.FileCheck) {
	words := []string{"weight", fmt.Sprint(f.Weight)}
	if f.Reverse {
		words = append(words, "reverse")
	}
	w.line("track_file", w.files[f.Path])
	w.line(words...)
}
