// Package qemu boots the lab's guest: a stock Debian kernel and an initramfs in
// QEMU, by emulation alone (TCG), since KVM is not to be counted on where tests
// run.
//
// Boot starts QEMU from the unpacked Debian packages, connects the guest's
// serial console with the caller, waits for the guest to power off, and unpacks
// the results the guest wrote as a tar archive onto its only disk. It ends QEMU
// when the context ends, and leaves nothing behind.
//
// The choices that make emulation quick enough for timers of 50 ms were
// measured: a Nehalem CPU (page walks are shorter than with the newest one) and
// tsc=reliable (else the clock source becomes the HPET, and each clock read
// leaves the guest) make it two to three times quicker.
package qemu
