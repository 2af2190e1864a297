package api

import (
	"context"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peerKey is the context key of a connection's peer.
type peerKey struct{}

// peer is the user at the other end of a connection.
type peer struct {
	name string
	root bool
}

// withPeer puts the user at the other end of a unix socket into the context of
// its requests (http.Server.ConnContext).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerAt(c))
}

// peerIsRoot reports whether root asks, as the kernel says.
func peerIsRoot(ctx context.Context) bool {
	p, _ := ctx.Value(peerKey{}).(peer)
	return p.root
}

// peerOf is the user who asks: a login name, "uid 1234" for one without, or
// "unknown" if the kernel did not say.
func peerOf(ctx context.Context) string {
	if p, ok := ctx.Value(peerKey{}).(peer); ok {
		return p.name
	}
	return "unknown"
}

// peerAt reads SO_PEERCRED: who had connected, as the kernel saw it then.
func peerAt(c net.Conn) peer {
	unknown := peer{name: "unknown"}
	var uc *net.UnixConn
	switch c := c.(type) {
	case *conn:
		uc = c.UnixConn
	case *net.UnixConn:
		uc = c
	default:
		return unknown
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return unknown
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return unknown
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return peer{u.Username, cred.Uid == 0}
	}
	return peer{"uid " + uid, cred.Uid == 0}
}
