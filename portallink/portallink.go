// Package portallink signs links to a customer portal, for storefronts without a Shopify app proxy. The storefront's
// server knows who is signed in, and makes a link to GET /go of a Manage Subscriptions server while it renders a page.
// Signing makes no network call. The server makes the portal's own link when the shopper clicks.
//
//	signer, err := portallink.NewSigner("https://subscriptions.example.com", os.Getenv("PORTAL_API_KEY"))
//	...
//	address, err := signer.Sign(portallink.Link{Shop: "my-store.myshopify.com", Customer: "7123456789012"})
//
// A link opens one customer's portal, once, within five minutes, for anybody who holds it. Do not put it into an
// e-mail or a cached page. The package needs only Go's standard library.
package portallink

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

const (
	// Longest is the longest that a link may be valid.
	Longest = 5 * time.Minute
	// version starts the signed text. It leaves room for other formats, and keeps other texts that
	// are signed with the same key from passing for a link.
	version = "manage-subscriptions/go/1"
)

// Link is the storefront server's statement that this customer is signed in.
type Link struct {
	Shop string // the store's Shopify domain, such as my-store.myshopify.com
	// Customer is Shopify's id, as 7123456789012 or gid://shopify/Customer/7123456789012,
	// or Recharge's, as recharge:18819267.
	Customer    string
	Destination string // a page of the portal, such as "orders"; "" is the default
	Locale      string // a language tag, such as "fr" or "pt-BR"; "" leaves it to the browser
	Country     string // two letters, such as "FR"; "" leaves it to the portal
	ReturnTo    string // where a page for one task leads back to, on the store's host; "" is its home page
}

// Secret is the SHA-256 of a key, and signs links. The server keeps it instead of the
// key. It is as confidential as the key.
type Secret [sha256.Size]byte

// SecretOf returns the secret of a key.
func SecretOf(key string) Secret { return sha256.Sum256([]byte(key)) }

// Format prints "[redacted]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[redacted]") }

// Among reports whether s is one of secrets. It compares all of them, so that its time
// reveals nothing.
func (s Secret) Among(secrets ...Secret) bool {
	found := false
	for _, one := range secrets {
		found = hmac.Equal(s[:], one[:]) || found
	}
	return found
}

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

// Sign returns the address of a link that is valid for four minutes. The fifth minute allows for
// clocks that differ.
func (s *Signer) Sign(link Link) (string, error) {
	signed := Signed{Link: link, Expires: time.Now().Add(Longest - time.Minute), Nonce: rand.Text()}
	query, err := signed.Query(s.secret)
	if err != nil {
		return "", err
	}
	address := s.base
	address.RawQuery = query
	return address.String(), nil
}

// Signed is a link with everything that its signature covers.
type Signed struct {
	Link
	Expires time.Time // whole seconds
	Nonce   string    // 16 to 64 letters, digits, "-" and "_", never used before

	signature []byte // set by Parse
}

// The shapes of the values. They are narrower than signing requires, so that a value is safe
// wherever it is written.
var (
	shopShape        = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com$`)
	customerShape    = regexp.MustCompile(`^(gid://shopify/Customer/)?[1-9][0-9]{0,19}$|^recharge:[1-9][0-9]{0,18}$`)
	destinationShape = regexp.MustCompile(`^[a-z0-9/-]{0,64}$`)
	tagShape         = regexp.MustCompile(`^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2})?$`)
	countryShape     = regexp.MustCompile(`^([A-Za-z]{2})?$`)
	returnShape      = regexp.MustCompile(`^(https?://[!-~]{1,290})?$`)
	expiresShape     = regexp.MustCompile(`^[1-9][0-9]{9,10}$`)
	nonceShape       = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)
	signatureShape   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// A field is one parameter of the query.
type field struct {
	name  string
	shape *regexp.Regexp
	value string
}

// fields returns the parameters in the order in which they are signed.
func (s Signed) fields() []field {
	return []field{
		{"shop", shopShape, s.Shop},
		{"customer", customerShape, s.Customer},
		{"destination", destinationShape, s.Destination},
		{"locale", tagShape, s.Locale},
		{"expires", expiresShape, strconv.FormatInt(s.Expires.Unix(), 10)},
		{"nonce", nonceShape, s.Nonce},
		{"country", countryShape, s.Country},
		{"return_to", returnShape, s.ReturnTo},
	}
}

// Text returns the text that is signed: the version and each value, in order, written as the
// value's length in bytes in decimal, a colon, the value and a comma. This makes the text
// unambiguous. It ends with the nonce if both of the values after it are empty.
func (s Signed) Text() string {
	text := fmt.Sprintf("%d:%s,", len(version), version)
	for i, f := range s.fields() {
		if i > 5 && s.Country+s.ReturnTo == "" {
			break
		}
		text += fmt.Sprintf("%d:%s,", len(f.value), f.value)
	}
	return text
}

func (s Signed) sum(secret Secret) []byte {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte(s.Text()))
	return mac.Sum(nil)
}

// Query returns the query of the link's address, with its signature. It fails if a
// value does not have its shape.
func (s Signed) Query(secret Secret) (string, error) {
	query := url.Values{}
	for _, f := range s.fields() {
		if !f.shape.MatchString(f.value) {
			return "", fmt.Errorf("portallink: %s does not have the right shape", f.name)
		}
		if f.value != "" {
			query.Set(f.name, f.value)
		}
	}
	query.Set("signature", hex.EncodeToString(s.sum(secret)))
	return query.Encode(), nil
}

var (
	errQuery = errors.New("portallink: not the query of a signed link")
	// ErrOver means that a link has expired.
	ErrOver = errors.New("portallink: expired")
	// ErrTooLong means that a link expires later than it may.
	ErrTooLong = errors.New("portallink: valid for too long")
)

// Parse reads the raw query of a link. It checks neither the signature nor the time:
// see SignedBy and At. It ignores parameters that are not a link's.
func Parse(rawQuery string) (Signed, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Signed{}, errQuery
	}
	for _, f := range append(Signed{}.fields(), field{name: "signature", shape: signatureShape}) {
		if len(query[f.name]) > 1 || !f.shape.MatchString(query.Get(f.name)) {
			return Signed{}, errQuery
		}
	}
	// Their shapes have been checked, so neither can fail.
	seconds, _ := strconv.ParseInt(query.Get("expires"), 10, 64)
	signature, _ := hex.DecodeString(query.Get("signature"))
	return Signed{
		Link: Link{
			Shop: query.Get("shop"), Customer: query.Get("customer"),
			Destination: query.Get("destination"), Locale: query.Get("locale"),
			Country: query.Get("country"), ReturnTo: query.Get("return_to"),
		},
		Expires: time.Unix(seconds, 0), Nonce: query.Get("nonce"), signature: signature,
	}, nil
}

// SignedBy reports whether one of the secrets has signed the link. It tries all of
// them, so that its time reveals nothing.
func (s Signed) SignedBy(secrets ...Secret) bool {
	signed := false
	for _, secret := range secrets {
		signed = hmac.Equal(s.sum(secret), s.signature) || signed
	}
	return signed
}

// At returns ErrOver or ErrTooLong if the link is not valid at a time.
func (s Signed) At(now time.Time) error { return s.Within(now, Longest) }

// Within is At for links that may be valid for another time than Longest.
func (s Signed) Within(now time.Time, longest time.Duration) error {
	switch left := s.Expires.Sub(now); {
	case left <= 0:
		return ErrOver
	case left > longest:
		return ErrTooLong
	}
	return nil
}
