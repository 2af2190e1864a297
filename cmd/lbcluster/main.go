package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, errOut: errOut}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		printError(errOut, err)
	}
	return exitCode(err)
}

// buildVerbs are verbs that only programs built with special tags have.
var buildVerbs []func() *cobra.Command

// root is the table of contents.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lbcluster",
		Short: "A clustered LVS load balancer",
		Long: `lbcluster makes 3 to 7 directors, and small witnesses, one load balancer:
one replicated IPVS table, agreed health checks, and virtual IPs that one
director at a time may hold.

Start with: lbcluster init   on the first machine, then
            lbcluster join   on the others, then
            lbcluster apply -f /etc/keepalived/keepalived.conf`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.errOut)
	a.globalFlags(root)
	root.AddGroup(
		&cobra.Group{ID: groupCluster, Title: "Making a cluster:"},
		&cobra.Group{ID: groupConfig, Title: "Configuring it:"},
		&cobra.Group{ID: groupLook, Title: "Looking at it:"},
		&cobra.Group{ID: groupOperate, Title: "Operating it:"},
	)
	root.AddCommand(
		a.runCommand(), a.fenceCommand(),
		a.initCommand(), a.joinCommand(), a.leaveCommand(), a.tokenCommand(), a.memberCommand(), a.recoverCommand(),
		a.checkCommand(), a.applyCommand(), a.confirmCommand(), a.historyCommand(), a.diffCommand(), a.rollbackCommand(), a.exportCommand(), a.snapshotCommand(),
		a.statusCommand(), a.whyCommand(), a.eventsCommand(), a.routerCommand(),
		a.serverCommand(), a.realServerCommand(), a.forceCommand(), a.ejectCommand(), a.directorCommand(), a.settingsCommand(),
		a.portsCommand(), a.versionCommand(), exitCodesTopic(),
	)
	for _, verb := range buildVerbs {
		root.AddCommand(verb())
	}
	return root
}
