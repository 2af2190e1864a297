// Package image makes the file tree the lab's guest runs in, out of Debian
// packages that are downloaded and unpacked but never installed.
//
// Fetch asks apt-get, with a state and a cache of its own below the lab's
// folder, for the complete closure of the packages the lab needs: the machine's
// own package database is neither read nor written, nothing is started, and a
// package that the machine happens to have does not hide a missing dependency.
// Base picks from the unpacked tree the tools with the shared libraries they
// need and the kernel modules with the ones they need. A Tree is the set of
// files of an image; it can be written as a newc cpio archive (an initramfs) or
// into a folder (for running natively).
//
// Used by package qemu and by the lab command. Nothing here boots or runs
// anything in the image.
package image
