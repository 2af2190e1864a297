package image

import (
	"fmt"
	"io"
	"io/fs"
)

// File types of the mode field, as in stat(2).
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000
	cpioLink = 0o120000
)

// WriteCPIO writes the tree as a newc archive ("070701", see the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst). Everything
// belongs to root. Archives may be concatenated: the kernel unpacks one after
// the other, later files replacing earlier ones.
func (t *Tree) WriteCPIO(w io.Writer) error {
	c := &cpioWriter{w: w}
	for _, name := range t.names() {
		c.entry(name[1:], t.entries[name])
	}
	c.header("TRAILER!!!", 0, 0)
	c.pad(512)
	if c.err != nil {
		return fmt.Errorf("cpio: %w", c.err)
	}
	return nil
}

// cpioWriter remembers the first error, so that callers need not look.
type cpioWriter struct {
	w   io.Writer
	n   int64
	ino int
	err error
}

func (c *cpioWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}

func (c *cpioWriter) entry(name string, e entry) {
	r, size, err := e.open()
	if err != nil {
		c.fail(err)
		return
	}
	defer r.Close()
	typ := cpioFile
	switch {
	case e.mode.IsDir():
		typ = cpioDir
	case e.mode&fs.ModeSymlink != 0:
		typ = cpioLink
	}
	c.header(name, typ|int(e.mode.Perm()), size)
	if n, err := io.Copy(c, r); err != nil || n != size {
		c.fail(fmt.Errorf("%s: %d of %d bytes: %v", name, n, size, err))
	}
	c.pad(4)
}

func (c *cpioWriter) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// header writes one; the fields are inode, mode, uid, gid, links, mtime, size,
// device major and minor, rdev major and minor, length of the name with its
// NUL, and a checksum that newc leaves 0.
func (c *cpioWriter) header(name string, mode int, size int64) {
	c.ino++
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0)
	io.WriteString(c, name+"\x00")
	c.pad(4)
}

func (c *cpioWriter) pad(to int64) {
	if rest := c.n % to; rest != 0 {
		c.Write(make([]byte, to-rest))
	}
}
