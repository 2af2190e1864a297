// Package breakglass keeps, on each director's own disk, what a person needs when
// lbcluster cannot help any more: the table as files that can be read and applied, a
// shell script that serves by hand with ipvsadm and ip alone, and, if the settings ask
// for it, snapshots of former times.
//
// The daemon runs one [Keeper]. It follows the table and writes in a goroutine of its
// own: a full disk is logged and tried again, a disk that hangs holds nobody up, not
// even the daemon's end. The files of one revision replace those of the one before at
// once. It reads nothing back but its own snapshots, and never touches the kernel.
package breakglass
