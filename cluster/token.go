package cluster

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// tokenPrefix marks a join token and its version.
const tokenPrefix = "lbc1-"

// maxToken bounds what is decoded, in bytes of text.
const maxToken = 4096

// joinToken is what a token carries: where to go, the secret that proves the
// right to enrol, and the CA that whoever answers must show.
type joinToken struct {
	Addrs  []netip.AddrPort `json:"a"`
	Secret []byte           `json:"s"`
	CA     []byte           `json:"c"` // SHA-256 of the CA's certificate
}

func newSecret() ([]byte, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("drawing a secret: %w", err)
	}
	return b, nil
}

// hashSecret is how the table names a token's secret.
func hashSecret(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// String is the token's text: "lbc1-" and base64url of its JSON.
func (t joinToken) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		return "" // cannot happen: every field marshals
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// parseToken reads a token's text; white space around it, as files and
// terminals add it, is ignored.
func parseToken(text string) (joinToken, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return joinToken{}, fmt.Errorf("%w: %d characters is too long", ErrToken, len(text))
	}
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return joinToken{}, fmt.Errorf("%w: it does not begin with %q", ErrToken, tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return joinToken{}, fmt.Errorf("%w: part of it is missing or changed (%v)", ErrToken, err)
	}
	var t joinToken
	if err := json.Unmarshal(b, &t); err != nil {
		return joinToken{}, fmt.Errorf("%w: part of it is missing or changed (%v)", ErrToken, err)
	}
	if len(t.Secret) != 32 || len(t.CA) != sha256.Size {
		return joinToken{}, fmt.Errorf("%w: its secret or its CA hash does not have 32 bytes", ErrToken)
	}
	return t, nil
}
