//go:build docs

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// With the build tag "docs" the program has one verb more, which writes what the
// packages have from the verbs' own help: manual pages and shell completion.
func init() { buildVerbs = append(buildVerbs, docsCommand) }

func docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "docs FOLDER",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.RemoveCommand(cmd)
			root.DisableAutoGenTag = true
			seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
			if err != nil {
				return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
			}
			date := time.Unix(seconds, 0).UTC()
			man, completion := filepath.Join(args[0], "man"), filepath.Join(args[0], "completion")
			head := &doc.GenManHeader{Title: "LBCLUSTER", Section: "1", Date: &date, Source: "lbcluster", Manual: "lbcluster"}
			if err := doc.GenManTree(root, head, man); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			for name, write := range map[string]func(string) error{
				"lbcluster.bash": func(f string) error { return root.GenBashCompletionFileV2(f, true) },
				"_lbcluster":     root.GenZshCompletionFile,
				"lbcluster.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
			} {
				if err := write(filepath.Join(completion, name)); err != nil {
					return fmt.Errorf("write %s: %w", name, err)
				}
			}
			return nil
		},
	}
}
