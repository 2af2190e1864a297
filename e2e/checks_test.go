package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// checkedConf has a checker of most kinds; %s is the digest of web1's page.
const checkedConf = `
virtual_server 172.25.88.100 80 {
    delay_loop 1
    retry 0
    lb_algo rr
    lb_kind DR
    protocol TCP
    virtualhost www.example.com
    real_server 172.25.88.2 80 {
        HTTP_GET {
            connect_timeout 2
            url {
                path /
                digest %s
            }
            url {
                path /health
                status_code 200
                regex "^ok \\d+$"
                regex_options multiline
            }
        }
        PING_CHECK {
            connect_timeout 2
        }
    }
    real_server 172.25.88.3 80 {
        TCP_CHECK {
            connect_timeout 2
        }
        MISC_CHECK {
            misc_path "/usr/bin/test ! -e /run/web2-is-bad"
            misc_timeout 2
            user root
        }
    }
}
virtual_server 172.25.88.100 443 {
    delay_loop 1
    retry 0
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 172.25.88.2 443 {
        SSL_GET {
            enable_sni
            connect_timeout 2
            url {
                path /who
                virtualhost shop.example.com
                regex "shop.example.com"
            }
        }
    }
}
`

// secureServer is nginx's part that the SSL_GET asks.
const secureServer = `
  server {
    listen 443 ssl;
    ssl_certificate /etc/web.pem;
    ssl_certificate_key /etc/web.key;
    location /who { return 200 "$ssl_server_name\n"; }
  }
}
`

// Checks of a real nginx: what it serves decides, on all directors alike, and people
// read why.
func TestChecksOfEveryKind(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	web := s.Web1
	conf := strings.TrimSpace(web.MustRun("cat", "/etc/nginx.conf"))
	web.WriteFile("/etc/nginx.conf", strings.TrimSuffix(conf, "}")+secureServer)
	certificate(t, web)
	web.WriteFile("/run/www/health", "all is well\nok 42\n")
	if err := web.Nginx().Stop(); err != nil {
		t.Fatal(err)
	}
	web.StartNginx()
	s.Form()
	e := open(s)
	e.applied(t, poolRouter+fmt.Sprintf(checkedConf, fmt.Sprintf("%x", md5.Sum([]byte("web1\n")))))
	s.AwaitOwner()
	e.wantServers(t, "all are well", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")

	web.WriteFile("/run/www/health", "not well\n")
	e.wantServers(t, "the page says that it is not well", "172.25.88.2:443", "172.25.88.3:80")
	e.wantTold(t, "/health: the page does not match the regex")
	web.WriteFile("/run/www/health", "ok 1\n")
	web.WriteFile("/run/www/index.html", "other\n")
	e.wantTold(t, "www.example.com/: the page's MD5 digest is "+fmt.Sprintf("%x", md5.Sum([]byte("other\n"))))
	web.WriteFile("/run/www/index.html", "web1\n")
	e.wantServers(t, "the pages are as they were", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")

	// One director alone finds it: nothing changes. Two do: it goes everywhere.
	e.Dirs[0].WriteFile("/run/web2-is-bad", "")
	e.wantTold(t, "exit status 1")
	pause(3 * time.Second)
	e.wantServers(t, "one of three says otherwise", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")
	e.ordered(t, "settings", "set", "health=any-down")
	e.wantServers(t, "one of three is enough now", "172.25.88.2:80", "172.25.88.2:443")
	e.ordered(t, "settings", "set", "health=majority")
	e.wantServers(t, "the majority again", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")
	e.Dirs[1].WriteFile("/run/web2-is-bad", "")
	e.wantServers(t, "two of three say so", "172.25.88.2:80", "172.25.88.2:443")
	e.Dirs[0].MustRun("rm", "/run/web2-is-bad")
	e.wantServers(t, "and one again", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")

	if err := web.Nginx().Stop(); err != nil {
		t.Fatal(err)
	}
	e.wantServers(t, "nginx is stopped", "172.25.88.3:80")
	e.wantTold(t, "connection refused")
	web.StartNginx()
	e.wantServers(t, "nginx runs again", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")
	web.CutLink()
	e.wantServers(t, "its link is cut", "172.25.88.3:80")
	web.RestoreLink()
	e.wantServers(t, "its link is back", "172.25.88.2:80", "172.25.88.2:443", "172.25.88.3:80")
	e.wantNoOverlap(t)
}

// dynamicConf has a server whose script says its weight.
const dynamicConf = `
virtual_server 172.25.88.100 80 {
    delay_loop 1
    retry 0
    lb_algo wrr
    lb_kind DR
    protocol TCP
    real_server 172.25.88.2 80 {
        weight 10
        MISC_CHECK {
            misc_path "/bin/sh -c '. /run/load'"
            misc_timeout 2
            misc_dynamic
            user root
        }
    }
    real_server 172.25.88.3 80 {
        weight 10
        TCP_CHECK {
            connect_timeout 2
        }
    }
}
`

// The weight that a script says is what keepalived makes of it when all directors
// find the same, and their median when they do not.
func TestDynamicWeights(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	peer := s.AddHost("peer", "172.25.88.40/24") // keepalived, for its table alone
	s.Form()
	e := open(s)
	say := func(status int, hosts ...*lab.Host) {
		for _, h := range hosts {
			h.WriteFile("/run/load", fmt.Sprintf("exit %d\n", status))
		}
	}
	all := append([]*lab.Host{peer}, e.Dirs...)
	say(0, all...)
	ka := peer.StartKeepalived(dynamicConf)
	e.applied(t, poolRouter+dynamicConf)
	s.AwaitOwner()
	for _, status := range []int{0, 42, 255, 2, 1, 3, 0} {
		say(status, all...)
		e.wantAsPeer(t, peer, fmt.Sprintf("exit status %d", status), -1)
	}
	if err := ka.Stop(); err != nil {
		t.Error(err)
	}
	weight := func(when, want string) {
		t.Helper()
		e.await(when+": "+want, 20*time.Second, func() bool {
			for _, h := range e.Dirs {
				if !strings.Contains(e.Rules(h), "-r 172.25.88.2:80 -g "+want) {
					return false
				}
			}
			return true
		})
	}
	say(22, e.Dirs[0])
	say(32, e.Dirs[1])
	say(92, e.Dirs[2])
	weight("the median", "-w 30")
	e.wantTold(t, "weight 30 set by its checks")
	say(0, e.Dirs[0], e.Dirs[1])
	weight("most say nothing of it", "-w 10")
	e.wantNoOverlap(t)
}

// fileConf has servers that depend on files: one by a weight, one on nothing but 0.
const fileConf = `
track_file load {
    file /run/load
    weight 2
}
track_file off {
    file /run/off
}
virtual_server 172.25.88.100 80 {
    delay_loop 1
    lb_algo wrr
    lb_kind DR
    protocol TCP
    real_server 172.25.88.2 80 {
        weight 10
        FILE_CHECK {
            track_file load
        }
    }
    real_server 172.25.88.3 80 {
        weight 10
        FILE_CHECK {
            track_file off
            weight 0
        }
    }
}
`

// What the files say is what keepalived makes of them.
func TestFileChecks(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	peer := s.AddHost("peer", "172.25.88.40/24") // keepalived, for its table alone
	s.Form()
	e := open(s)
	all := append([]*lab.Host{peer}, e.Dirs...)
	say := func(load, off string) {
		for _, h := range all {
			h.WriteFile("/run/load", load)
			h.WriteFile("/run/off", off)
		}
	}
	say("0\n", "0\n")
	ka := peer.StartKeepalived(fileConf)
	e.applied(t, poolRouter+fileConf)
	s.AwaitOwner()
	for _, c := range []struct {
		load, off string
		up        int
	}{{"0", "0", 2}, {"3\n", "0", 2}, {"-2", "1", 1}, {"-4 and more", "-7", 1}, {"-7", "0", 1}, {"-40000", "0", 1}, {"5", "0", 2}} {
		say(c.load, c.off)
		e.wantAsPeer(t, peer, fmt.Sprintf("%q and %q", c.load, c.off), c.up)
	}
	if err := ka.Stop(); err != nil {
		t.Error(err)
	}
	e.wantNoOverlap(t)
}

// wantServers waits until every director's kernel has these real servers.
func (e *eyes) wantServers(t *testing.T, when string, servers ...string) {
	t.Helper()
	e.await(when, 20*time.Second, func() bool {
		for _, h := range e.Dirs {
			rules := e.Rules(h)
			if strings.Count(rules, "-a ") != len(servers) {
				return false
			}
			for _, s := range servers {
				if !strings.Contains(rules, "-r "+s+" ") {
					return false
				}
			}
		}
		return true
	})
}

// wantTold waits until the list of servers, or a director's votes, say so.
func (e *eyes) wantTold(t *testing.T, says string) {
	t.Helper()
	e.await("people read: "+says, 20*time.Second, func() bool {
		out, _ := e.Command(e.Dirs[2], "status", "-o", "json")
		return strings.Contains(out, says)
	})
}

// certificate gives a host one for its nginx.
func certificate(t *testing.T, h *lab.Host) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	h.WriteFile("/etc/web.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	h.WriteFile("/etc/web.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}
