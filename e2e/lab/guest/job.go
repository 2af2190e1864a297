package guest

import (
	"encoding/json"
	"fmt"
	"os"
)

// Paths in the guest that host and guest agree on.
const (
	JobFile    = "/etc/lab/job.json"
	Results    = "/results"
	ExitFile   = "exit"      // in Results: the job's exit status as a number
	ProgramBin = "/sbin/lab" // the lab command
	SourceDir  = "/src"      // the repository without Go files
	TestDir    = "/tests"    // test binaries
	Director   = "/usr/sbin/lbcluster"
)

// EntryArgs is the environment variable with an entry's arguments, separated by
// blanks.
const EntryArgs = "LBCLUSTER_LAB_ARGS"

// Job is what a guest does.
type Job struct {
	Tests []Test `json:"tests,omitempty"` // run these, or
	Entry string `json:"entry,omitempty"` // run this entry of the lab command

	// Interactive connects the job with the console as a terminal of Rows by
	// Cols characters; otherwise bytes pass the console unchanged.
	Interactive bool   `json:"interactive,omitempty"`
	Term        string `json:"term,omitempty"`
	Rows        int    `json:"rows,omitempty"`
	Cols        int    `json:"cols,omitempty"`

	Native bool     `json:"native,omitempty"` // in namespaces of this machine's kernel
	Env    []string `json:"env,omitempty"`    // NAME=value
}

// PackageMark begins the line before a package's tests, and the one that says
// how they ended, which has a colon behind the package.
const PackageMark = "=== LAB   "

// BrokenMark is in what a test says of an invariant that must hold however busy
// the machine is: two directors never answer at a time, no acknowledged write is
// lost. Such a test gets no second run.
const BrokenMark = "BROKEN: "

// Test is one test binary.
type Test struct {
	Package string   `json:"package"` // import path, to name it in messages
	Binary  string   `json:"binary"`  // absolute path in the guest
	Dir     string   `json:"dir"`     // working folder
	Args    []string `json:"args"`
}

// Marshal is the content of JobFile.
func (j *Job) Marshal() (string, error) {
	b, err := json.MarshalIndent(j, "", " ")
	return string(b), err
}

func readJob() (*Job, error) {
	b, err := os.ReadFile(JobFile)
	if err != nil {
		return nil, fmt.Errorf("the guest's job: %w", err)
	}
	j := new(Job)
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("the guest's job: %w", err)
	}
	return j, nil
}
