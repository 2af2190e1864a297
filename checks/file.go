package checks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lbcluster/fsm"
)

// maxNumber bounds how much is read of a file that holds a number.
const maxNumber = 127

// readFile reads a number from a file of this director, and makes of it what
// keepalived's FILE_CHECK does (track_file.c): with a weight it is multiplied and
// added to the server's weight, and fails only at the least number of 32 bits
// (IPVS_WEIGHT_FAULT): below 0 a server is up with weight 0. Without one, anything but 0 fails, or 0 if it is reversed. No file, and no number, is 0.
func readFile(c fsm.Check) (fsm.Weighing, error) {
	n, err := numberIn(c.File.Path)
	if err != nil {
		return fsm.Weighing{}, err
	}
	weight := c.File.Weight
	if c.File.Reverse {
		weight = -weight
	}
	sum := n * weight
	if c.File.Weight == 0 && (n != 0) != c.File.Reverse || sum <= math.MinInt32 {
		return fsm.Weighing{}, fmt.Errorf("%s holds %d", c.File.Path, n)
	}
	return fsm.Weighing{Sum: max(-fsm.MaxWeight, min(sum, fsm.MaxWeight))}, nil
}

// number is what strtol reads at the beginning of a text.
var number = regexp.MustCompile(`^[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)`)

func numberIn(path string) (int, error) {
	// A FIFO that nobody writes to must not hold up the check.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read a file: %w", err)
	}
	defer f.Close()
	b := make([]byte, maxNumber)
	read, err := f.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.EAGAIN) {
		return 0, fmt.Errorf("read a file: %w", err)
	}
	n, err := strconv.ParseInt(number.FindString(strings.TrimSpace(string(b[:max(read, 0)]))), 0, 32)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s holds no number of 32 bits", path)
	}
	return int(n), nil
}
