// Package packages holds what "make packages" needs: nfpm, which writes .deb and .rpm
// files, pinned by go.mod as a tool; nfpm.yaml, which says what is in them; the
// maintainer scripts; and build.sh, which compiles and puts it all together.
//
// It is a module of its own so that none of nfpm's dependencies come near lbcluster's.
// It has no code.
package packages
