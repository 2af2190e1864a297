package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/farm"
	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/lab/probe"
)

const usage = `usage: lab COMMAND

  fetch                          download and unpack what the lab is made of
  test [-run RE] [PACKAGE...]    run the packages' tests in the lab
  demo                           show the product on a terminal
  shell                          a shell in the lab
  bench [EVENT...]               measure, beside keepalived; "bench list" names the events

Flags come before packages; "lab COMMAND -h" lists them. LBCLUSTER_LAB_DIR is
the folder the lab is kept in (default: .lab in the repository).
`

func main() {
	if guest.IsInit() {
		os.Exit(guest.Init())
	}
	if filepath.Base(os.Args[0]) == "on" { // a link in the guest: on HOST PROGRAM
		os.Exit(lab.On(os.Args[1:]))
	}
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	os.Exit(dispatch(os.Args[1], os.Args[2:]))
}

func dispatch(verb string, args []string) int {
	switch verb {
	case "guest-job":
		return guest.RunJob(entries)
	case "probe":
		return probe.Main(args)
	case "farm":
		return farm.Main(args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := command(ctx, verb, args)
	var failed exitStatus
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &failed):
		return int(failed)
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	return 1
}

func command(ctx context.Context, verb string, args []string) error {
	switch verb {
	case "fetch":
		return fetchCommand(ctx, args)
	case "test":
		return testCommand(ctx, args)
	case "demo", "bench", "shell":
		return entryCommand(ctx, verb, args)
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	}
	fmt.Fprint(os.Stderr, usage)
	return exitStatus(2)
}

// exitStatus is an error that was told already and only sets the exit status.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }
