package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Somebody on the LAN has recorded lease datagrams and adverts, and sends them
// again whenever it may hurt; adverts also with other priorities, well formed
// and with the right password.
func TestAttackerOnTheLAN(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	attacker := e.AddHost("mallory", "172.25.88.66/24")
	end := e.judged(t)
	record := func(name string) [][]byte {
		stop := e.Capture(nil, name, "udp port 7500 or ip proto 112")
		time.Sleep(3 * time.Second)
		stop()
		frames, err := readPcap(filepath.Join(e.Results(), name+".pcap"))
		if err != nil || len(frames) < 20 {
			t.Fatalf("recorded %d frames: %v", len(frames), err)
		}
		return frames
	}
	e.AwaitCalm()
	frames := record("leases")
	send := func(t *testing.T, frames [][]byte) {
		t.Helper()
		if err := attacker.Do(func() error { return inject(attacker.MAC, frames) }); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("at once", func(t *testing.T) {
		owner, from := e.AwaitOwner(), probe.Now()
		before := map[*lab.Host]uint64{}
		for _, h := range e.Dirs {
			before[h] = e.dropsOf(h, "lease_replay")
		}
		send(t, frames)
		for _, h := range e.Dirs {
			e.await(h.Name+" counts replays", 5*time.Second, func() bool { return e.dropsOf(h, "lease_replay") >= before[h]+10 })
		}
		e.wantUndisturbed(t, owner, from, pause(2*time.Second))
		e.wantOwnerAlone(t, owner)
	})
	t.Run("forged adverts", func(t *testing.T) {
		adverts := append(forge(frames, nil, 255, 0, 100, 254), forge(frames, attacker.Addr.AsSlice(), 255, 0)...)
		if len(adverts) == 0 {
			t.Fatal("no advert was recorded")
		}
		owner, from := e.AwaitOwner(), probe.Now()
		for range 10 {
			send(t, adverts)
			time.Sleep(200 * time.Millisecond)
		}
		e.wantUndisturbed(t, owner, from, pause(2*time.Second))
		e.wantOwnerAlone(t, owner)
		// Well formed: else this would test nothing but checksums.
		e.AwaitFinding(owner, attacker.Addr.String()+", which is no member, sends VRRP adverts for VRID 51", "")
	})
	t.Run("while the owner is frozen, and after", func(t *testing.T) {
		old := e.AwaitOwner()
		if err := e.Daemons[old].Freeze(); err != nil {
			t.Fatal(err)
		}
		send(t, frames)
		next := e.AwaitSuccessor(old)
		from := e.served()
		send(t, frames)
		e.wantUndisturbed(t, next, from, pause(2*time.Second))
		if err := e.Daemons[old].Thaw(); err != nil {
			t.Fatal(err)
		}
		send(t, frames)
		e.await(old.Name+", thawed, takes the address off", 5*time.Second, func() bool { return !old.HasAddress(site.VIP) })
		e.AwaitCalm()
		e.wantUndisturbed(t, next, from, pause(time.Second))
		e.wantOwnerAlone(t, next)
	})
	t.Run("after the voters' restarts", func(t *testing.T) {
		owner := e.AwaitOwner()
		for _, h := range e.Others(owner) {
			from := probe.Now()
			e.Daemons[h].Kill() // its voter forgets, and promises nothing at first
			e.Start(h)
			send(t, frames)
			e.AwaitVoter(h)
			send(t, frames)
			e.AwaitCalm()
			e.wantUndisturbed(t, owner, from, pause(time.Second))
		}
		e.wantOwnerAlone(t, owner)
	})
	end()
}

// readPcap reads the whole frames of a file that tcpdump wrote.
func readPcap(file string) ([][]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(b) < 24 || binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 {
		return nil, fmt.Errorf("%s: no pcap file of this machine", file)
	}
	var frames [][]byte
	for b = b[24:]; len(b) >= 16; {
		n, whole := int(binary.LittleEndian.Uint32(b[8:])), int(binary.LittleEndian.Uint32(b[12:]))
		if len(b) < 16+n {
			break
		}
		if n == whole {
			frames = append(frames, b[16:16+n])
		}
		b = b[16+n:]
	}
	return frames, nil
}

// inject sends frames as they were, but from a hardware address of its own: with
// the members' the switch itself would be misled, which is another attack.
func inject(mac net.HardwareAddr, frames [][]byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	dev, err := net.InterfaceByName(lab.Interface)
	if err != nil {
		return err
	}
	for i, f := range frames {
		if i%20 == 19 {
			time.Sleep(5 * time.Millisecond) // a flood would fill the kernel's queues, and lose everybody's packets
		}
		f = append([]byte(nil), f...)
		copy(f[6:12], mac)
		if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil {
			return fmt.Errorf("%d bytes: %w", len(f), err)
		}
	}
	return nil
}

const ipProtoVRRP = 112

// forge makes adverts of other priorities out of a recorded one (version 2), by
// the same sender or another.
func forge(frames [][]byte, sender []byte, priorities ...byte) [][]byte {
	var out [][]byte
	for _, f := range frames {
		if len(f) < 34+20 || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IP || f[14] != 0x45 || f[23] != ipProtoVRRP {
			continue
		}
		end := 14 + int(binary.BigEndian.Uint16(f[16:])) // behind it is padding
		for _, p := range priorities {
			g := append([]byte(nil), f[:end]...)
			copy(g[26:30], sender)
			g[24], g[25] = 0, 0
			binary.BigEndian.PutUint16(g[24:], internetSum(g[14:34]))
			v := g[34:]
			v[2] = p
			v[6], v[7] = 0, 0
			binary.BigEndian.PutUint16(v[6:], internetSum(v))
			out = append(out, g)
		}
		break
	}
	return out
}

// internetSum is the checksum of RFC 1071.
func internetSum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
