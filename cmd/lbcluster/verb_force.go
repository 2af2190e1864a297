package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lbcluster/cluster/api"
	"lbcluster/fsm"
)

func (a *app) forceCommand() *cobra.Command {
	var off []string
	var length time.Duration
	var yes bool
	cmd := &cobra.Command{
		Use:   "force-own ROUTER --powered-off A,B",
		Short: "Own a router without a majority, on your word that the others are off",
		Long: `Have this director own a virtual router although no majority of the cluster
answers. You say, with your own eyes on their power switches, that the members
named are off: one that is only cut off from here may own the VIP at the same
time, and then two machines answer for it.

It is for root at the console of a director that is left alone. It is refused
while a majority answers, while a member named answers on any path, while one
that is not named does not answer, and while anybody on the VIP's own network
answers for the VIP. It begins once all that the others may have been granted
has run out, and ends by itself: after --for, when a member named is heard, and
when the daemon stops.`,
		Example: `  lbcluster force-own VI_1 --powered-off dir2,dir3
  lbcluster force-own VI_1 --powered-off dir2,dir3 --for 2h`,
		Args:    cobra.ExactArgs(1),
		GroupID: groupOperate,
		RunE: a.verb(func(cmd *cobra.Command, args []string) error {
			req := api.ForceRequest{Router: args[0], PoweredOff: off, For: fsm.Duration(length), Check: true}
			r, err := a.client().ForceOwn(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("own %s by force: %w", args[0], err)
			}
			if !yes {
				if err := a.swear(r); err != nil {
					return err
				}
			}
			req.Check = false
			if r, err = a.client().ForceOwn(cmd.Context(), req); err != nil {
				return fmt.Errorf("own %s by force: %w", args[0], err)
			}
			return a.print(r, func() string {
				return fmt.Sprintf("This director stands for %s without %s until %s; in about %s it owns it.\nlbcluster status shows it. Do not switch the others on before you have ended it or are sure that they find each other.\n",
					r.Router, strings.Join(r.PoweredOff, ", "), r.Until.Local().Format("15:04:05"), shortDuration(r.After.D()))
			})
		}),
	}
	cmd.Flags().StringSliceVar(&off, "powered-off", nil, "`MEMBERS` that are switched off: all that do not answer")
	cmd.Flags().DurationVar(&length, "for", 10*time.Minute, "how long at most")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask (for scripts that have switched them off themselves)")
	_ = cmd.MarkFlagRequired("powered-off")
	return cmd
}

// swear has the person type what he says.
func (a *app) swear(r api.ForceReply) error {
	if !a.interactive() {
		return needsYes("--yes")
	}
	want := strings.Join(r.PoweredOff, " ") + " off"
	fmt.Fprintf(a.errOut, "Nothing here speaks against it, but only you can see whether they are off.\nIf one of them runs, two machines may answer for %s.\nTo go on type: %s\n> ", r.Router, want)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.Join(strings.Fields(line), " ") != want {
		return errDeclined
	}
	return nil
}
