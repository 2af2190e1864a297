// Package probe watches the network.
package probe
