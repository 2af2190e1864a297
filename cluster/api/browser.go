package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guardBrowsers lets a browser that was led here (ssh -L to the socket) show the page,
// and no page of somebody else use it: requests that change something must not come
// from another origin, and a name that could be made to point anywhere, which is how
// a foreign page becomes the same origin, is not answered.
func guardBrowsers(h http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &Problem{Status: http.StatusForbidden, Code: CodeDenied, Title: "refused", Detail: "a page of another origin asked for this"})
	}))
	inner := origin.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if publicName(r.Host) {
			writeProblem(w, &Problem{
				Status: http.StatusForbidden, Code: CodeDenied, Title: "refused",
				Detail: r.Host + " is not a name of this socket", Hint: "ask for http://lbcluster/ or http://localhost/",
			})
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// publicName reports whether a Host header has a name that public DNS could resolve.
func publicName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	return strings.Contains(strings.TrimSuffix(host, "."), ".")
}
