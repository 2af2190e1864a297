// Package guest is the inside of the lab's machine.
//
// Init is its process 1: it mounts what programs expect, loads the kernel
// modules, starts the job as a child, collects orphans until the job has ended,
// writes the results folder to the disk and powers the machine off. It does the
// same as process 1 of a PID namespace where the lab runs natively, without
// modules and power-off.
//
// A Job is what the host asked for: a list of test binaries, or a named entry
// (a function of the lab command, such as the demo, or a shell). It is a JSON
// file in the image.
//
// Called by the lab command only.
package guest
