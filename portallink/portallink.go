// Package portallink signs links to a customer portal, for storefronts that have
// no Shopify app proxy in front: the middleware knows who is signed in, and makes a
// link to GET /go of a Manage Subscriptions server while it renders the page. No
// call is needed; the portal's own link is made when the shopper clicks.
//
//	signer, err := portallink.NewSigner("https://subscriptions.example.com", os.Getenv("PORTAL_API_KEY"))
//	...
//	address, err := signer.Sign(portallink.Link{Shop: "my-store.myshopify.com", Customer: "7123456789012"})
//
// A link opens one customer's portal, once, within five minutes. Whoever holds it
// is let in: put it into no e-mail, and into no page that a cache keeps.
//
// The package needs nothing but Go's standard library.
package portallink

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Longest is how long a link may be valid at most.
	Longest = 5 * time.Minute
	// usual leaves a minute for clocks that differ.
	usual = Longest - time.Minute
	// version opens the signed text, so that another format can follow, and so that
	// it is never the text of anything else that is signed with the same key.
	version = "manage-subscriptions/go/1"
)

// Link is what a middleware vouches for.
type Link struct {
	// Shop is the store's name at Shopify: my-store.myshopify.com.
	Shop string
	// Customer is who is signed in: Shopify's id, as 7123456789012 or as
	// gid://shopify/Customer/7123456789012; or Recharge's, as recharge:18819267.
	Customer string
	// Destination is a page of the portal, such as "orders"; "" is the default.
	Destination string
	// Locale is a language tag, such as "fr" or "pt-BR"; "" leaves the language to
	// the browser.
	Locale string
}

// Secret is what signs: the SHA-256 of a key. The server keeps this and not the
// key. It is as confidential as the key itself.
type Secret [sha256.Size]byte

// SecretOf returns what a key signs with.
func SecretOf(key string) Secret { return sha256.Sum256([]byte(key)) }

// Format prints "[redacted]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// Signer makes links. It is safe for concurrent use.
type Signer struct {
	base   url.URL
	secret Secret
}

// NewSigner returns a signer for the server at appURL (its APP_URL) with one of the
// store's keys.
func NewSigner(appURL, key string) (*Signer, error) {
	base, err := url.Parse(appURL)
	switch {
	case err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "":
		return nil, errors.New("portallink: the server's address is not a URL such as https://subscriptions.example.com")
	case len(key) < 16:
		return nil, errors.New("portallink: the key is shorter than 16 characters")
	}
	return &Signer{base: *base.JoinPath("go"), secret: SecretOf(key)}, nil
}

// Sign returns the address of a link that is valid for four minutes, which leaves
// one for clocks that differ.
func (s *Signer) Sign(link Link) (string, error) {
	signed := Signed{Link: link, Expires: time.Now().Add(usual), Nonce: rand.Text()}
	query, err := signed.Query(s.secret)
	if err != nil {
		return "", err
	}
	address := s.base
	address.RawQuery = query
	return address.String(), nil
}

// Signed is a link with all that is signed of it.
type Signed struct {
	Link
	Expires time.Time // whole seconds
	Nonce   string    // 16 to 64 letters, digits, "-" and "_", never used before

	signature []byte // of one that was parsed
}

// names are those of the query, in the order in which they are signed.
func names() []string {
	return []string{"shop", "customer", "destination", "locale", "expires", "nonce"}
}

// fields are the values of names.
func (s Signed) fields() []string {
	return []string{s.Shop, s.Customer, s.Destination, s.Locale, strconv.FormatInt(s.Expires.Unix(), 10), s.Nonce}
}

// Text is what is signed: the version and each value, in their order, as its length
// in bytes in decimal, a colon, the value and a comma. So a text says in one way
// only where each value ends.
func (s Signed) Text() string {
	var text strings.Builder
	for _, value := range append([]string{version}, s.fields()...) {
		fmt.Fprintf(&text, "%d:%s,", len(value), value)
	}
	return text.String()
}

func (s Signed) sum(secret Secret) []byte {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte(s.Text()))
	return mac.Sum(nil)
}

// Query returns the query of the link's address, with its signature.
// Errors: a value is not of its shape.
func (s Signed) Query(secret Secret) (string, error) {
	query := url.Values{}
	for i, value := range s.fields() {
		if !shapes()[i].MatchString(value) {
			return "", fmt.Errorf("portallink: %s is not of its shape", names()[i])
		}
		if value != "" {
			query.Set(names()[i], value)
		}
	}
	query.Set("signature", hex.EncodeToString(s.sum(secret)))
	return query.Encode(), nil
}

// The shapes of the values: narrower than what would be safe to sign, so that
// nothing of a link needs a second thought wherever it is written.
var (
	shopShape        = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com$`)
	customerShape    = regexp.MustCompile(`^(gid://shopify/Customer/)?[1-9][0-9]{0,19}$|^recharge:[1-9][0-9]{0,18}$`)
	destinationShape = regexp.MustCompile(`^[a-z0-9/-]{0,64}$`)
	tagShape         = regexp.MustCompile(`^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2})?$`)
	expiresShape     = regexp.MustCompile(`^[1-9][0-9]{9,10}$`)
	nonceShape       = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)
	signatureShape   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func shapes() []*regexp.Regexp {
	return []*regexp.Regexp{shopShape, customerShape, destinationShape, tagShape, expiresShape, nonceShape}
}

var (
	errQuery = errors.New("portallink: not the query of a signed link")
	// ErrOver is a link whose time is over, or that is valid for too long.
	ErrOver = errors.New("portallink: not valid at this time")
)

// Parse reads the raw query of a link. That says nothing of whether it is signed,
// or of its time. Names that are not a link's are left to who puts them there.
func Parse(rawQuery string) (Signed, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Signed{}, errQuery
	}
	values := make([]string, len(names()))
	for i, name := range names() {
		switch given := query[name]; {
		case len(given) > 1:
			return Signed{}, errQuery
		case len(given) == 1:
			values[i] = given[0]
		}
		if !shapes()[i].MatchString(values[i]) {
			return Signed{}, errQuery
		}
	}
	signatures := query["signature"]
	if len(signatures) != 1 || !signatureShape.MatchString(signatures[0]) {
		return Signed{}, errQuery
	}
	seconds, err := strconv.ParseInt(values[slices.Index(names(), "expires")], 10, 64)
	if err != nil {
		return Signed{}, errQuery
	}
	signature, err := hex.DecodeString(signatures[0])
	if err != nil {
		return Signed{}, errQuery
	}
	return Signed{
		Link:    Link{Shop: values[0], Customer: values[1], Destination: values[2], Locale: values[3]},
		Expires: time.Unix(seconds, 0), Nonce: values[5], signature: signature,
	}, nil
}

// Among tells whether a secret is one of several. It compares with all, so that its
// time tells nothing.
func (s Secret) Among(secrets ...Secret) bool {
	found := 0
	for _, one := range secrets {
		found |= subtle.ConstantTimeCompare(s[:], one[:])
	}
	return found == 1
}

// SignedBy tells whether one of the secrets has signed the link. It tries all, so
// that its time tells nothing.
func (s Signed) SignedBy(secrets ...Secret) bool {
	found := false
	for _, secret := range secrets {
		if hmac.Equal(s.sum(secret), s.signature) {
			found = true
		}
	}
	return found
}

// At is nil if the link is valid at a time.
// Errors: ErrOver.
func (s Signed) At(now time.Time) error {
	if left := s.Expires.Sub(now); left <= 0 || left > Longest {
		return ErrOver
	}
	return nil
}
