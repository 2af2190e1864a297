// Package farm is a crowd of real servers in one process: one socket accepts
// connections on every address of a network that the host calls its own, and closes
// them at once. It counts them, and those that came later than they should have.
//
// A process of its own ("lab farm FLAGS FILE", see [Main]) in one thread, because the
// checks are what is measured: the farm takes as little of the machine as a server can.
// What it counted lies in a file that the process maps, so that [Read] costs it nothing.
package farm
