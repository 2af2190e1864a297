package fsm

import (
	"errors"
	"fmt"
	"strings"
)

// The ways in which a command can fail. Errors of Apply and Decode wrap exactly
// one of them, with a text that names the element and what to do about it.
var (
	// ErrConflict: the table is no longer at the revision the writer saw.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the command asks for something that may not be.
	ErrInvalid = errors.New("not valid")
	// ErrNotFound: the command names something that the table does not have.
	ErrNotFound = errors.New("not found")
	// ErrUnknownCommand: this code can't read the command; a newer version
	// made it, or it is damaged. Whoever applies a log must stop there.
	ErrUnknownCommand = errors.New("unknown command")
	// ErrDenied: the token does not allow this enrolment.
	ErrDenied = errors.New("denied")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func notFound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotFound, fmt.Sprintf(format, args...))
}

// Problem is one thing wrong with a configuration.
type Problem struct {
	// Path names the element: "virtual_router VI_1",
	// "virtual_server tcp/1.2.3.4:80 > real_server 1.2.3.5:80".
	Path string `json:"path"`
	Text string `json:"text"`
}

// String is "path: text".
func (p Problem) String() string { return p.Path + ": " + p.Text }

// ConfigError carries everything that is wrong with an applied configuration.
// It is an ErrInvalid.
type ConfigError struct {
	Problems []Problem
}

// Error lists the problems, one a line.
func (e *ConfigError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	lines = append(lines, fmt.Sprintf("%v: %s in the configuration", ErrInvalid, count(len(e.Problems), "problem")))
	for _, p := range e.Problems {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *ConfigError) Unwrap() error { return ErrInvalid }
