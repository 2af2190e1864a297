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

// withPeer puts the user at the other end of a unix socket into the context of
// its requests (http.Server.ConnContext).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerName(c))
}

// peerOf is the user who asks: a login name, "uid 1234" for one without, or
// "unknown" if the kernel did not say.
func peerOf(ctx context.Context) string {
	if name, ok := ctx.Value(peerKey{}).(string); ok {
		return name
	}
	return "unknown"
}

// peerName reads SO_PEERCRED: who had connected, as the kernel saw it then.
func peerName(c net.Conn) string {
	var uc *net.UnixConn
	switch c := c.(type) {
	case *conn:
		uc = c.UnixConn
	case *net.UnixConn:
		uc = c
	default:
		return "unknown"
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return "unknown"
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return "unknown"
	}
	uid := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}
