package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/lab/image"
)

func fetchCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("lab fetch", flag.ContinueOnError)
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, err := openHost(ctx)
	if err != nil {
		return err
	}
	defer h.unlock()
	u, _, _, err := h.base(ctx)
	if err != nil {
		return err
	}
	h.progress("ready: Linux %s, tools in %s", u.Kernel, u.Root)
	return nil
}

func testCommand(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("lab test", flag.ContinueOnError)
	run := fs.String("run", "", "run only the tests that match this `regexp`")
	again := fs.Bool("again", false, "run tests that failed once more, in a fresh guest; who fails twice has failed")
	count := fs.Int("count", 1, "run each test this many times")
	timeout := fs.Duration("timeout", 20*time.Minute, "stop the guest after this time")
	var more []string
	fs.Func("arg", "give the test binaries this `flag` too (may be repeated)", func(s string) error {
		more = append(more, s)
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return err
	}
	patterns := fs.Args()
	if len(patterns) == 0 {
		patterns = []string{"./e2e"}
	}
	testArgs := []string{"-test.v", fmt.Sprint("-test.timeout=", *timeout), fmt.Sprint("-test.count=", *count)}
	if *run != "" {
		testArgs = append(testArgs, "-test.run="+*run)
	}
	testArgs = append(testArgs, more...)
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("the tests took longer than %v", *timeout))
	defer cancel()
	return runTests(ctx, patterns, testArgs, *again)
}

func runTests(ctx context.Context, patterns, testArgs []string, again bool) error {
	h, err := openHost(ctx)
	if err != nil {
		return err
	}
	defer h.unlock()
	overlay, err := h.overlay(ctx)
	if err != nil {
		return err
	}
	tests, err := h.buildTests(ctx, patterns, testArgs, overlay)
	if err != nil {
		return err
	}
	if len(tests) == 0 {
		return fmt.Errorf("no tests in %s", strings.Join(patterns, " "))
	}
	first, err := h.runJob(ctx, tests, overlay)
	if err != nil || !first.bad {
		return err
	}
	second := first.count.again(tests)
	if !again || len(second) == 0 {
		return exitStatus(1)
	}
	h.progress("%d failed; the machine may have been busy, so they are run once more: %v", first.count.fail, first.count.failed)
	last, err := h.runJob(ctx, second, overlay)
	if err == nil && last.bad {
		return exitStatus(1)
	}
	return err
}

// outcome is how a run of tests ended.
type outcome struct {
	count *tally
	bad   bool
}

// runJob runs tests in a fresh guest.
func (h *host) runJob(ctx context.Context, tests []guest.Test, overlay *image.Tree) (outcome, error) {
	count := &tally{w: os.Stdout}
	status, results, err := h.run(ctx, &guest.Job{Tests: tests}, overlay, console{out: count})
	count.Flush()
	if err != nil {
		return outcome{}, err
	}
	h.progress("%d passed, %d failed, %d skipped; logs in %s", count.pass, count.fail, count.skip, results)
	if status == 0 && count.pass == 0 {
		return outcome{}, errors.New("no test ran")
	}
	return outcome{count, status != 0 || count.fail > 0}, nil
}

// entryCommand runs a named entry in the guest with the terminal connected.
// Arguments behind the flags are for the entry.
func entryCommand(ctx context.Context, name string, args []string) error {
	fs := flag.NewFlagSet("lab "+name, flag.ContinueOnError)
	timeout := fs.Duration("timeout", 0, "stop the guest after this time (0: never)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if _, ok := entries[name]; !ok {
		return fmt.Errorf("there is no %s in this build", name)
	}
	if *timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	h, err := openHost(ctx)
	if err != nil {
		return err
	}
	defer h.unlock()
	overlay, err := h.overlay(ctx)
	if err != nil {
		return err
	}
	job := &guest.Job{Entry: name, Env: []string{guest.EntryArgs + "=" + strings.Join(fs.Args(), " ")}}
	c, restore := console{out: os.Stdout}, func() {}
	job.Interactive = interactive[name]
	if job.Interactive && !native() {
		if c, restore, err = terminal(job); err != nil {
			return err
		}
	}
	defer restore()
	status, results, err := h.run(ctx, job, overlay, c)
	if err != nil {
		return err
	}
	restore()
	h.progress("logs in %s", results)
	if status != 0 {
		return exitStatus(status)
	}
	return nil
}
