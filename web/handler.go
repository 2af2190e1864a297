package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
)

//go:embed page
var files embed.FS

// policy lets the page run its own script and style and ask its own server, and
// nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// paths says which file answers which pattern.
var paths = map[string]string{
	"GET /{$}":       "index.html",
	"GET /app.js":    "app.js",
	"GET /plot.js":   "plot.js",
	"GET /style.css": "style.css",
	"GET /icon.svg":  "icon.svg",
}

// Handlers are the page's files by the patterns of http.ServeMux that they answer.
func Handlers() map[string]http.Handler {
	out := map[string]http.Handler{}
	for pattern, name := range paths {
		out[pattern] = file(name)
	}
	return out
}

// file serves one of them.
func file(name string) http.Handler {
	body, err := files.ReadFile(path.Join("page", name))
	if err != nil {
		panic(err) // it is embedded, or the program was not built from this source
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	kind := mime.TypeByExtension(path.Ext(name))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache") // asked each time, by its tag: an upgrade must not mix old and new
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", kind)
		w.Write(body) // an error here means that the browser has gone
	})
}
