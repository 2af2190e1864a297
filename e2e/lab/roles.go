package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// RealServer adds a host that serves one page, its own name and a newline, at
// "/" on port 80 with nginx, and is set up for direct routing: it has the VIPs
// on lo and neither answers nor asks ARP with them.
func (l *Lab) RealServer(name, prefix string, vips ...string) *Host {
	l.t.Helper()
	h := l.AddHost(name, prefix)
	for _, c := range []string{"all", "lo"} {
		h.Sysctl("net.ipv4.conf."+c+".arp_ignore", "1")
		h.Sysctl("net.ipv4.conf."+c+".arp_announce", "2")
	}
	for _, vip := range vips {
		h.AddAddress("lo", vip+"/32")
	}
	h.ServeName()
	return h
}

// ServeName starts nginx, which serves the host's name and a newline at "/" on
// port 80 of all its addresses.
func (h *Host) ServeName() {
	h.lab.t.Helper()
	h.WriteFile("/etc/nginx.conf", nginxConf)
	h.WriteFile("/run/www/index.html", h.Name+"\n")
	h.StartNginx()
}

// nginxConf runs one process per host, which is what a guest with two CPUs has
// room for.
const nginxConf = `user root;
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid /run/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  access_log off;
  default_type text/plain;
  client_body_temp_path /run/body;
  proxy_temp_path /run/proxy;
  fastcgi_temp_path /run/fastcgi;
  uwsgi_temp_path /run/uwsgi;
  scgi_temp_path /run/scgi;
  server {
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096;
    root /run/www;
  }
}
`

// StartNginx starts the real server's nginx, again if it was stopped, and
// returns when it accepts connections.
func (h *Host) StartNginx() *Proc {
	h.lab.t.Helper()
	p := h.Start("nginx", "nginx", "-c", "/etc/nginx.conf", "-e", "stderr")
	if err := h.waitTCP("127.0.0.1:80", p, 20*time.Second); err != nil {
		h.lab.t.Fatalf("lab: nginx on %s: %v\n%s", h.Name, err, p.Output())
	}
	h.nginx = p
	return p
}

// Nginx is the process that StartNginx started last, or nil.
func (h *Host) Nginx() *Proc { return h.nginx }

func (h *Host) waitTCP(addr string, p *Proc, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := h.do(func() error {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return errors.Join(fmt.Errorf("it ended: %w", p.Wait()), err)
		default:
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// Client adds a host with many addresses, prefix and the ones that follow it,
// n in all. IPVS keeps closed connections for a while, so that 100 connections
// a second from one address would soon reuse a port it still remembers.
func (l *Lab) Client(name, prefix string, n int) *Host {
	l.t.Helper()
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		l.t.Fatalf("lab: client %s: %v", name, err)
	}
	h := l.AddHost(name, prefix)
	h.Sources = []netip.Addr{p.Addr()}
	for a := p.Addr().Next(); len(h.Sources) < n; a = a.Next() {
		h.AddAddress(Interface, netip.PrefixFrom(a, p.Bits()).String())
		h.Sources = append(h.Sources, a)
	}
	return h
}

// Curl asks for a URL and returns the body's first line.
func (h *Host) Curl(ctx context.Context, url string) (string, error) {
	out, err := h.Run(ctx, "curl", "-sS", "--max-time", "5", url)
	line, _, _ := strings.Cut(out, "\n")
	return line, err
}

// StartKeepalived runs keepalived with the configuration, in the foreground,
// its messages in the log.
func (h *Host) StartKeepalived(conf string) *Proc {
	h.lab.t.Helper()
	h.WriteFile("/etc/keepalived/keepalived.conf", conf)
	return h.Start("keepalived", "keepalived", "-n", "-l", "-G", "-D",
		"-f", "/etc/keepalived/keepalived.conf", "-p", "/run/ka.pid", "-r", "/run/ka-vrrp.pid", "-c", "/run/ka-check.pid")
}

// Pids returns all processes of the host.
func (h *Host) Pids() []int { return pidsIn(h.netn) }

// CommandOf returns a process's command line.
func CommandOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

// Eventually calls f every 50 ms until it returns nil, and fails the test with
// its last error after patience.
func (l *Lab) Eventually(patience time.Duration, what string, f func() error) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("lab: %s: not after %v: %v", what, patience, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
