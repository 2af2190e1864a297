package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"lbcluster/e2e/lab"
)

// teller prints the story and remembers what did not hold.
type teller struct {
	out   io.Writer
	start time.Time
	rows  [][2]string // of the summary
	wrong []string
}

func (t *teller) chapter(title string) {
	fmt.Fprintf(t.out, "\n━━ %s %s\n", title, strings.Repeat("━", max(3, 72-len([]rune(title)))))
}

func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, "%6.1fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}

// show prints text as evidence, indented.
func (t *teller) show(text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(t.out, "           %s\n", line)
	}
}

// typed runs a command on a host as a person would, prints both, and returns
// what the command printed.
func (t *teller) typed(h *lab.Host, argv ...string) string {
	fmt.Fprintf(t.out, "         %s# %s\n", h.Name, shorten(strings.Join(argv, " ")))
	out, err := h.Run(context.Background(), argv...)
	t.show(shorten(out))
	if err != nil {
		t.expect(false, "%s on %s: %v", argv[0], h.Name, err)
	}
	return out
}

// typedWithout is typed that leaves the lines with a word out.
func (t *teller) typedWithout(h *lab.Host, word string, argv ...string) {
	fmt.Fprintf(t.out, "         %s# %s | grep -v '%s'\n", h.Name, strings.Join(argv, " "), word)
	out, err := h.Run(context.Background(), argv...)
	for line := range strings.Lines(out) {
		if !strings.Contains(line, word) {
			t.show(line)
		}
	}
	if err != nil {
		t.expect(false, "%s on %s: %v", argv[0], h.Name, err)
	}
}

// shorten cuts tokens, which nobody reads.
func shorten(s string) string {
	words := strings.SplitAfter(s, "lbc1-")
	for i := 1; i < len(words); i++ {
		end := strings.IndexAny(words[i], " \n")
		if end < 0 {
			end = len(words[i])
		}
		if end > 12 {
			words[i] = words[i][:6] + "…" + words[i][end:]
		}
	}
	return strings.Join(words, "")
}

// expect states what should hold, and whether it did.
func (t *teller) expect(ok bool, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	mark := "✔"
	if !ok {
		mark = "✘"
		t.wrong = append(t.wrong, what)
	}
	fmt.Fprintf(t.out, "      %s  %s\n", mark, what)
}

// count adds a row to the summary.
func (t *teller) count(what, format string, args ...any) {
	t.rows = append(t.rows, [2]string{what, fmt.Sprintf(format, args...)})
}

// summary ends the story; the error says what did not hold.
func (t *teller) summary() error {
	t.chapter("Summary")
	for _, r := range t.rows {
		fmt.Fprintf(t.out, "  %-52s %s\n", r[0], r[1])
	}
	fmt.Fprintln(t.out)
	if len(t.wrong) == 0 {
		fmt.Fprintf(t.out, "Every expectation held. (%.0f s)\n", time.Since(t.start).Seconds())
		return nil
	}
	fmt.Fprintf(t.out, "%d expectation(s) did not hold:\n", len(t.wrong))
	for _, w := range t.wrong {
		fmt.Fprintf(t.out, "  ✘ %s\n", w)
	}
	return fmt.Errorf("%d expectation(s) did not hold", len(t.wrong))
}
