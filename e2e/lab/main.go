package lab

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// Main runs body with a T of its own, for programs that are no tests: the demo,
// the benchmarks, the shell. logf gets what body logs. It returns when body and
// all cleanups have ended, with the failures as an error.
func Main(name string, logf func(format string, args ...any), body func(T)) error {
	m := &mainT{name: name, logf: logf}
	done := make(chan struct{})
	go func() { // Fatalf ends this goroutine
		defer close(done)
		defer m.cleanup()
		body(m)
	}()
	<-done
	return errors.Join(m.failures...)
}

// mainT is a T outside the testing package.
type mainT struct {
	name string
	logf func(string, ...any)

	mu       sync.Mutex
	failures []error
	cleanups []func()
}

func (m *mainT) Helper()                         {}
func (m *mainT) Name() string                    { return m.name }
func (m *mainT) Logf(format string, args ...any) { m.logf(format, args...) }

func (m *mainT) Errorf(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures = append(m.failures, fmt.Errorf(format, args...))
}

func (m *mainT) Fatalf(format string, args ...any) {
	m.Errorf(format, args...)
	runtime.Goexit()
}

func (m *mainT) Failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.failures) > 0
}

func (m *mainT) Cleanup(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cleanups = append(m.cleanups, f)
}

// cleanup runs the cleanups, the last one first, each even if another fails.
func (m *mainT) cleanup() {
	m.mu.Lock()
	fs := slices.Clone(m.cleanups)
	m.mu.Unlock()
	for _, f := range slices.Backward(fs) {
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		<-done
	}
}
