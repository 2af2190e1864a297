package web_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"lbcluster/cluster/api"
	"lbcluster/cluster/api/apitest"
	"lbcluster/e2e/lab/image"
	"lbcluster/fsm"
	"lbcluster/web"
)

// shots is where the pictures go, for people to look at; empty: nowhere.
var shots = os.Getenv("LBCLUSTER_SHOTS")

// served is the page on a server of its own, with a cluster behind it.
func served(t *testing.T, f *apitest.Fake) *httptest.Server {
	t.Helper()
	srv := api.NewServer(f, "dir1", "test", slog.New(slog.DiscardHandler))
	for pattern, h := range web.Handlers() {
		srv.Mount(pattern, h)
	}
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(func() { ts.CloseClientConnections(); ts.Close() })
	return ts
}

// browser starts a headless Chromium: the machine's, or that of Debian's package.
func browser(t *testing.T) context.Context {
	t.Helper()
	dir := os.Getenv("LBCLUSTER_LAB_DIR")
	if dir == "" {
		dir = "../.lab"
	}
	run, err := image.Tool(t.Context(), dir, "chromium", "chromium", true)
	if err != nil {
		t.Fatal(err)
	}
	cmd := run()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(cmd.Path), chromedp.NoSandbox, chromedp.Env(cmd.Env...),
		chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(stop)
	return ctx
}

// view is one tab, and what went wrong in it.
type view struct {
	context.Context
	t      *testing.T
	faults chan string
	asked  chan string // URLs
}

// look opens url in a new tab of a given width; dark: as of who likes it so.
func look(t *testing.T, browser context.Context, url string, width, height int64, dark bool) *view {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(stop)
	v := &view{ctx, t, make(chan string, 100), make(chan string, 1000)}
	chromedp.ListenTarget(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			v.faults <- ev.ExceptionDetails.Error()
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.LevelError {
				v.faults <- ev.Entry.Text
			}
		case *network.EventRequestWillBeSent:
			v.asked <- ev.Request.URL
		}
	})
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	v.do(log.Enable(), network.Enable(),
		emulation.SetDeviceMetricsOverride(width, height, 1, width < 600),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.Navigate(url))
	return v
}

func (v *view) do(actions ...chromedp.Action) {
	v.t.Helper()
	if err := chromedp.Run(v, actions...); err != nil {
		v.t.Fatal(err)
	}
}

// await waits until an expression of the page is true.
func (v *view) await(expression string) {
	v.t.Helper()
	if err := chromedp.Run(v, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(60*time.Second), chromedp.WithPollingInterval(100*time.Millisecond))); err != nil {
		v.t.Fatalf("%s: %v\n%s", expression, err, v.text("body"))
	}
}

// text is what a person reads of an element.
func (v *view) text(selector string) (s string) {
	v.t.Helper()
	v.do(chromedp.Evaluate("document.querySelector("+quote(selector)+").innerText", &s))
	return s
}

func (v *view) eval(expression string, to any) {
	v.t.Helper()
	v.do(chromedp.Evaluate(expression, to))
}

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }

// shoot takes a picture of the whole page.
func (v *view) shoot(name string) {
	v.t.Helper()
	if shots == "" {
		return
	}
	var png []byte
	v.do(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(shots, name+".png"), png, 0o644); err != nil {
		v.t.Fatal(err)
	}
}

// unharmed: no script failed, nothing was refused by the policy, and nothing but its
// own server was asked.
func (v *view) unharmed(server string) {
	v.t.Helper()
	for {
		select {
		case f := <-v.faults:
			v.t.Errorf("the browser says: %s", f)
		case url := <-v.asked:
			if !strings.HasPrefix(url, server) {
				v.t.Errorf("the page asks %s", url)
			}
		default:
			return
		}
	}
}

// wide and narrow are a desktop's and a phone's screen.
const (
	wide, tall         = 1280, 900
	narrow, narrowTall = 390, 844
)

// TestPage: all of a busy cluster is there to read, on a desktop and on a phone, light
// and dark, without a fault.
func TestPage(t *testing.T) {
	f := growing(apitest.NewBusy())
	ts := served(t, f)
	b := browser(t)
	v := look(t, b, ts.URL, wide, tall, false)
	v.await(`document.querySelector("#link").dataset.state === "live" && document.querySelectorAll("svg.plot polyline").length === 4 && document.querySelectorAll("svg.plot polyline")[0].getAttribute("points").split(" ").length > 4`)
	all := v.text("body")
	for _, want := range []string{
		"Survives 1 more failure", "3 of 3 voters answer", "leader dir1",
		"web", "172.25.88.100", "on dir1", "640 ms left", "at worst 61 %",
		"dir2", "dir3", "gate tcx", "172.25.88.250",
		"tcp/172.25.88.100:443", "2 of 3 servers take connections", "172.25.88.4:443", "connection refused", "dir3 down", "dir1 up",
		"New connections", "Bits in", "Last events", "m1",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is nowhere on the page", want)
		}
	}
	v.shoot("desktop")
	v.unharmed(ts.URL)
	p := look(t, b, ts.URL, narrow, narrowTall, true)
	p.await(`document.querySelector("#link").dataset.state === "live" && document.querySelectorAll("svg.plot polyline").length === 4`)
	var over bool
	p.eval(`document.documentElement.scrollWidth > innerWidth`, &over)
	if over {
		t.Error("on a phone the page must be moved sideways")
	}
	p.shoot("phone")
	p.unharmed(ts.URL)
}

// growing is a cluster whose traffic goes on by the clock: 10 connections and 80 kbit
// a second, with a wave in it.
func growing(f *apitest.Fake) *apitest.Fake {
	began, busy := time.Now(), f.Edit
	f.Edit = func(s *api.DirectorStatus) {
		busy(s)
		n := time.Since(began).Seconds()
		n += math.Sin(n) / 2
		for i := range s.Kernel.Traffic {
			if tr := &s.Kernel.Traffic[i]; tr.Connections > 0 {
				tr.Connections += uint64(1000 * n)
				tr.InBytes += uint64(10_000_000 * n)
			}
		}
	}
	return f
}

// TestPageLives: what changes in the cluster changes on the page by itself, and a
// daemon that is gone is seen to be gone, and back.
func TestPageLives(t *testing.T) {
	f := apitest.NewBusy()
	ts := served(t, f)
	v := look(t, browser(t), ts.URL, wide, tall, false)
	v.await(`document.querySelector("#link").dataset.state === "live"`)
	v.do(chromedp.Evaluate(`window.row = document.querySelector("#members th[scope=row]"), true`, nil))
	f.Must(fsm.Command{Override: &fsm.SetOverride{Server: f.Table().Services[0].RealServers[0].AddrPort(), State: fsm.Drained}})
	v.await(`document.querySelector("#events").innerText.includes("drain") && document.querySelector("#services").innerText.includes("drained")`)
	f.Set(func(f *apitest.Fake) { f.Dead = map[fsm.MemberID]string{"m3": "no answer within 1s"} })
	v.await(`document.querySelector("#members").innerText.includes("no answer") && document.querySelector("#survival").innerText.includes("one too many")`)
	var kept bool
	if v.eval(`window.row.isConnected && window.row === document.querySelector("#members th[scope=row]")`, &kept); !kept {
		t.Error("what did not change was made anew")
	}
	v.shoot("trouble")
	v.unharmed(ts.URL)
	ts.Config.SetKeepAlivesEnabled(false)
	ts.CloseClientConnections()
	v.await(`document.querySelector("#link").dataset.state === "lost"`)
	v.await(`document.querySelector("#link").dataset.state === "live"`)
}

// TestPageTrustsNothing: whatever members call themselves and servers answer is shown
// as text.
func TestPageTrustsNothing(t *testing.T) {
	f := apitest.NewBusy()
	const evil = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>&lt;b&gt;`
	busy := f.Edit
	f.Edit = func(s *api.DirectorStatus) {
		busy(s)
		s.Warnings, s.Version, s.Kernel.Foreign = []string{evil}, evil, []api.Foreign{{Kind: "service", What: evil, Fix: evil}}
	}
	f.Set(func(f *apitest.Fake) { f.Dead = map[fsm.MemberID]string{"m2": evil} })
	ts := served(t, f)
	v := look(t, browser(t), ts.URL, wide, tall, false)
	v.await(`document.querySelector("#link").dataset.state === "live"`)
	if n := strings.Count(v.text("main"), evil); n < 4 {
		t.Errorf("it is shown %d times as it is", n)
	}
	var harm bool
	if v.eval(`document.title.includes("owned") || document.querySelectorAll("main img, main script").length > 0`, &harm); harm {
		t.Error("a text became a part of the page")
	}
	v.unharmed(ts.URL)
}

// TestPageForAll: who uses a keyboard or a screen reader finds the way: one main
// heading, sections with names, tables with captions and headings, plots with words,
// and a link past the head as the first stop.
func TestPageForAll(t *testing.T) {
	ts := served(t, apitest.NewBusy())
	v := look(t, browser(t), ts.URL, wide, tall, true)
	v.await(`document.querySelector("#link").dataset.state === "live"`)
	v.do(chromedp.KeyEvent("\t"))
	for expression, what := range map[string]string{
		`document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().left >= 0`:                                                         "the first stop is the link past the head, and it is seen",
		`document.querySelectorAll("h1").length === 1 && document.documentElement.lang === "en"`:                                                                          "one main heading, in a language",
		`[...document.querySelectorAll("section")].every((s) => s.getAttribute("aria-label") || document.getElementById(s.getAttribute("aria-labelledby"))?.textContent)`: "each section has a name",
		`[...document.querySelectorAll("table")].every((t) => t.caption?.textContent && [...t.querySelectorAll("th")].every((h) => h.scope))`:                             "each table has a caption and headings with a scope",
		`[...document.querySelectorAll("svg.plot")].every((s) => s.getAttribute("role") === "img" && s.getAttribute("aria-label"))`:                                       "each plot has words",
		`[...document.querySelectorAll("meter, input")].every((m) => m.getAttribute("aria-label") || document.querySelector("label[for=" + m.id + "]"))`:                  "each meter and field has a label",
		`getComputedStyle(document.body).backgroundColor === "rgb(17, 21, 27)"`:                                                                                           "it is dark for who likes it dark",
		lowContrast: "text is read against its ground",
	} {
		var ok bool
		if v.eval(expression, &ok); !ok {
			t.Errorf("not so: %s", what)
		}
	}
	v.do(chromedp.SetValue("#filter", "172.25.88.101"), chromedp.Evaluate(`document.querySelector("#filter").dispatchEvent(new Event("input"))`, nil))
	v.await(`document.querySelectorAll("#services article").length === 1`)
	v.unharmed(ts.URL)
}

// lowContrast is true if each text has a contrast of 4.5 or more (WCAG 2.2, 1.4.3).
const lowContrast = `(() => {
	const rgb = (c) => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
		const a = light(rgb(getComputedStyle(e).color)), b = light(ground(e));
		if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) return false;
	}
	return true;
})()`
