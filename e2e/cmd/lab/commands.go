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
	return runTests(ctx, patterns, testArgs)
}

func runTests(ctx context.Context, patterns, testArgs []string) error {
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
	count := &tally{w: os.Stdout}
	status, results, err := h.run(ctx, &guest.Job{Tests: tests}, overlay, console{out: count})
	count.Flush()
	if err != nil {
		return err
	}
	h.progress("%d passed, %d failed, %d skipped; logs in %s", count.pass, count.fail, count.skip, results)
	switch {
	case status != 0 || count.fail > 0:
		return exitStatus(1)
	case count.pass == 0:
		return errors.New("no test ran")
	}
	return nil
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
