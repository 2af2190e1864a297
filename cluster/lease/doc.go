// Package lease decides which member may hold a virtual router now.
package lease
