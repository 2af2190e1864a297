package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of settings.
const (
	// MaxGuard bounds Settings.Guard.
	MaxGuard = 10 * time.Second
	// MaxSpares bounds Settings.Spares: of seven directors one must work.
	MaxSpares = 6
)

func (e *edit) settings(s SetSettings) error {
	if s == (SetSettings{}) {
		return invalid("the settings command names no setting")
	}
	if e.cmd.Version < 3 && s.Health != "" {
		return oldVersion("there is no health setting")
	}
	if e.cmd.Version < 3 && (s.Scripts != "" || s.Webhooks != nil) {
		return oldVersion("there are no settings of scripts and webhooks")
	}
	if e.cmd.Version < 3 && s.FlapDamping != "" {
		return oldVersion("there is no flap-damping setting")
	}
	if e.cmd.Version < 3 && (s.SnapshotEvery != nil || s.SnapshotsKept != nil) {
		return oldVersion("there are no settings of snapshots")
	}
	is := e.Settings.with(s)
	if bad := is.problem(); bad != "" {
		return invalid("%s", bad)
	}
	for _, r := range e.Routers {
		if bad := is.timing(r); bad != "" {
			return invalid("%s: %s", routerPath(r, 0), bad)
		}
	}
	if texts := e.Settings.changes(is); len(texts) > 0 {
		e.event("settings", "%s", strings.Join(texts, ", "))
	}
	anew := cmp.Or(e.Settings.Health, HealthMajority) != cmp.Or(is.Health, HealthMajority)
	if e.Settings = is; anew {
		e.judgeAll()
	}
	return nil
}

// with is s with what c names put in.
func (s Settings) with(c SetSettings) Settings {
	s.Profile = cmp.Or(c.Profile, s.Profile)
	if c.Guard != nil {
		s.Guard = *c.Guard
	}
	if c.Spares != nil {
		s.Spares = *c.Spares
	}
	// Manual by word and manual by default are one.
	if c.FailBack != "" && c.FailBack != cmp.Or(s.FailBack, FailBackManual) {
		s.FailBack = c.FailBack
	}
	if c.FailBackAfter != nil {
		s.FailBackAfter = *c.FailBackAfter
	}
	if c.Health != "" && c.Health != cmp.Or(s.Health, HealthMajority) {
		s.Health = c.Health
	}
	if c.Webhooks != nil {
		s.Webhooks = *c.Webhooks
	}
	if c.Scripts != "" && c.Scripts != cmp.Or(s.Scripts, ScriptsOnce) {
		s.Scripts = c.Scripts
	}
	if c.FlapDamping != "" && c.FlapDamping != cmp.Or(s.FlapDamping, DampingOff) {
		s.FlapDamping = c.FlapDamping
	}
	if c.SnapshotEvery != nil {
		s.SnapshotEvery = *c.SnapshotEvery
	}
	// Seven by word and seven by default are one.
	if _, kept := s.Snapshots(); c.SnapshotsKept != nil && *c.SnapshotsKept != kept {
		s.SnapshotsKept = *c.SnapshotsKept
	}
	return s
}

// problem says what is wrong with s; "" if nothing is.
func (s Settings) problem() string {
	if !slices.Contains(Profiles, s.Profile) {
		return fmt.Sprintf("profile %q: known are %s", s.Profile, someOf(Profiles, 9))
	}
	if bad := guardProblem(s.Guard); bad != "" {
		return bad
	}
	if s.Spares < 0 || s.Spares > MaxSpares {
		return fmt.Sprintf("spares %d is not within 0 to %d", s.Spares, MaxSpares)
	}
	if s.FailBack != "" && s.FailBack != FailBackManual && s.FailBack != FailBackAuto {
		return fmt.Sprintf("fail-back %q is neither %s nor %s", s.FailBack, FailBackManual, FailBackAuto)
	}
	if after := s.FailBackAfter.D(); after != 0 && (after < time.Second || after > 24*time.Hour) {
		return fmt.Sprintf("fail-back-after %v is not within 1s to 24h (0: one minute)", after)
	}
	if s.Health != "" && s.Health != HealthMajority && s.Health != HealthAnyDown {
		return fmt.Sprintf("health %q is neither %s nor %s", s.Health, HealthMajority, HealthAnyDown)
	}
	if bad := webhooksProblem(s.WebhookURLs()); bad != "" {
		return "webhooks: " + bad
	}
	if s.Scripts != "" && s.Scripts != ScriptsOnce && s.Scripts != ScriptsEach {
		return fmt.Sprintf("server-scripts %q is neither %s nor %s", s.Scripts, ScriptsOnce, ScriptsEach)
	}
	if s.FlapDamping != "" && s.FlapDamping != DampingOff && s.FlapDamping != DampingOn {
		return fmt.Sprintf("flap-damping %q is neither %s nor %s", s.FlapDamping, DampingOff, DampingOn)
	}
	if every := s.SnapshotEvery; every != 0 && (every < leastSnapshotEvery || every > mostSnapshotEvery) {
		return fmt.Sprintf("snapshot-every %v is not within %v to %v (0s: never)", every, leastSnapshotEvery, mostSnapshotEvery)
	}
	if s.SnapshotsKept < 0 || s.SnapshotsKept > mostSnapshots {
		return fmt.Sprintf("snapshots-kept %d is not within 1 to %d", s.SnapshotsKept, mostSnapshots)
	}
	return ""
}

// Snapshots says how often a director writes one (0: never), and how many it keeps.
func (s Settings) Snapshots() (every time.Duration, kept int) {
	return s.SnapshotEvery.D(), cmp.Or(s.SnapshotsKept, snapshotsKept)
}

// Of snapshots that are written by themselves.
const (
	snapshotsKept      = 7
	mostSnapshots      = 1000
	leastSnapshotEvery = Duration(time.Minute)
	mostSnapshotEvery  = Duration(31 * 24 * time.Hour)
)

func guardProblem(guard Duration) string {
	if guard < 0 || guard.D() > MaxGuard {
		return fmt.Sprintf("guard %v is not within 0s to %v", guard, MaxGuard)
	}
	return ""
}

// changes tells what differs: "guard is 2s (was 0s)".
func (s Settings) changes(is Settings) []string {
	var texts []string
	tell := func(name, was, is string) {
		if was != is {
			texts = append(texts, fmt.Sprintf("%s is %s (was %s)", name, is, was))
		}
	}
	_, after := s.FailsBack()
	_, isAfter := is.FailsBack()
	tell("profile", s.Profile, is.Profile)
	tell("guard", s.Guard.String(), is.Guard.String())
	tell("spares", itoa(s.Spares), itoa(is.Spares))
	tell("fail-back", string(cmp.Or(s.FailBack, FailBackManual)), string(cmp.Or(is.FailBack, FailBackManual)))
	tell("fail-back-after", after.String(), isAfter.String())
	tell("webhooks", someHosts(s.WebhookURLs()), someHosts(is.WebhookURLs()))
	tell("server-scripts", string(cmp.Or(s.Scripts, ScriptsOnce)), string(cmp.Or(is.Scripts, ScriptsOnce)))
	tell("health", string(cmp.Or(s.Health, HealthMajority)), string(cmp.Or(is.Health, HealthMajority)))
	tell("flap-damping", string(cmp.Or(s.FlapDamping, DampingOff)), string(cmp.Or(is.FlapDamping, DampingOff)))
	every, kept := s.Snapshots()
	isEvery, isKept := is.Snapshots()
	tell("snapshot-every", every.String(), isEvery.String())
	tell("snapshots-kept", itoa(kept), itoa(isKept))
	return texts
}
