package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// DefaultSocket is where the daemon listens unless told otherwise.
const DefaultSocket = "/run/lbcluster/lbcluster.sock"

// Group is the Unix group whose members may use the socket, where it exists.
const Group = "lbcluster"

// maxConns bounds the connections served at once; more wait in the kernel.
const maxConns = 64

// Listen opens the daemon's socket at path: mode 0660 for root and Group, or
// 0600 without that group. A socket left by a dead daemon is replaced; one that
// somebody answers on is an error. The socket appears with its final mode in
// one step, so that nobody slips in before.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: another lbcluster daemon answers there", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("listen on %s: there is a file that is no socket; remove it or choose another path", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	tmp := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	if err := publish(tmp, path); err != nil {
		ln.Close()
		os.Remove(tmp)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &listener{UnixListener: ln, path: path, slots: make(chan struct{}, maxConns), done: make(chan struct{})}, nil
}

// publish gives the socket its owner and mode, then its name.
func publish(tmp, path string) error {
	mode := fs.FileMode(0o600)
	if gid, ok := groupID(Group); ok {
		if err := os.Chown(tmp, -1, gid); err == nil {
			mode = 0o660
		}
	}
	if err := os.Chmod(tmp, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// groupID looks a group up by name.
func groupID(name string) (int, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	gid, err := strconv.Atoi(g.Gid)
	return gid, err == nil
}

// listener serves at most cap(slots) connections at once and removes its
// socket when closed.
type listener struct {
	*net.UnixListener
	path  string
	slots chan struct{}
	done  chan struct{}
	close sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.AcceptUnix()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{UnixConn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.close.Do(func() {
		close(l.done)
		os.Remove(l.path)
		err = l.UnixListener.Close()
	})
	return err
}

// conn gives its slot back when closed.
type conn struct {
	*net.UnixConn
	free func()
}

func (c *conn) Close() error {
	c.free()
	return c.UnixConn.Close()
}
