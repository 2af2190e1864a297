package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Entry is a named thing to run in the guest: the demo, the benchmarks, a
// shell. in and out are the console.
type Entry func(ctx context.Context, in io.Reader, out io.Writer) error

// RunJob is the second stage: it does what the job says and returns the exit
// status.
func RunJob(entries map[string]Entry) int {
	job, err := readJob()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if job.Entry == "" {
		return runTests(job.Tests)
	}
	entry, ok := entries[job.Entry]
	if !ok {
		fmt.Fprintf(os.Stderr, "lab: there is no %q in this build\n", job.Entry)
		return 2
	}
	ctx := context.Background()
	if !job.Interactive {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
	}
	if err := entry(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "lab %s: %v\n", job.Entry, err)
		return 1
	}
	return 0
}

// runTests runs each binary, all of them even if one fails.
func runTests(tests []Test) int {
	status := 0
	for _, t := range tests {
		fmt.Println(PackageMark + t.Package)
		cmd := exec.Command(t.Binary, t.Args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = t.Dir, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Printf("%s%s: %v\n", PackageMark, t.Package, err)
			status = 1
		}
	}
	return status
}

// Shell is an Entry: an interactive shell in the guest's root namespace.
func Shell(ctx context.Context, in io.Reader, out io.Writer) error {
	cmd := exec.CommandContext(ctx, "/bin/bash", "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	cmd.Env = append(os.Environ(), `PS1=lab \w # `)
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); ok {
		return nil // the status of the last command typed
	}
	return err
}
