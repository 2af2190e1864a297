package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lbcluster/cluster/api"
)

// Groups of verbs in the help.
const (
	groupCluster = "cluster"
	groupConfig  = "config"
	groupLook    = "look"
	groupOperate = "operate"
)

// socketEnv names the socket where no --socket is given.
const socketEnv = "LBCLUSTER_SOCKET"

// app is one run of the program: its streams and global flags.
type app struct {
	in          io.Reader
	out, errOut io.Writer
	config      string // --config
	socket      string // --socket
	output      string // --output: "text" or "json"
}

// globalFlags are those of every verb.
func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", defaultConfig, "this machine's own `FILE`")
	f.StringVar(&a.socket, "socket", "", "the daemon's socket (default: $"+socketEnv+", the one in the --config file, or "+api.DefaultSocket+")")
	f.StringVarP(&a.output, "output", "o", "text", "text or json")
}

// verb wraps a verb's body: what it returns is a failure, not a mistake in the
// command line.
func (a *app) verb(fn func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if a.output != "text" && a.output != "json" {
			return fmt.Errorf("--output %s: only text and json are known", a.output)
		}
		if err := fn(cmd, args); err != nil {
			return &failure{err}
		}
		return nil
	}
}

// client talks to this machine's daemon.
func (a *app) client() *api.Client { return api.NewClient(a.socketPath()) }

// socketPath follows the order that --socket's help tells.
func (a *app) socketPath() string {
	if a.socket != "" {
		return a.socket
	}
	if s := os.Getenv(socketEnv); s != "" {
		return s
	}
	if raw, err := readNodeFile(a.config); err == nil && raw.Socket != "" {
		return raw.Socket
	}
	return api.DefaultSocket
}

func (a *app) json() bool { return a.output == "json" }

// print writes v as JSON with -o json, else what text returns.
func (a *app) print(v any, text func() string) error {
	if !a.json() {
		_, err := io.WriteString(a.out, text())
		return err
	}
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// logger writes what a long-running verb tells.
func (a *app) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.errOut, &slog.HandlerOptions{ReplaceAttr: noTime()}))
}

// say tells a person something besides the result.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.errOut, format+"\n", args...) }

// interactive reports whether a person sits at standard input.
func (a *app) interactive() bool {
	f, ok := a.in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// confirm asks a yes-or-no question; only "y" and "yes" are a yes.
func (a *app) confirm(question string) (bool, error) {
	fmt.Fprintf(a.errOut, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
