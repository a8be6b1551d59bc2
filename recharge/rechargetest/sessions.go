package rechargetest

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// session is what a session token stands for.
type session struct {
	customerID int64
	by         *adminToken // made the session; its bucket pays for the session's calls
}

const storefrontKeyID = 30003

// storeID differs from store to store. Otherwise two stores with one SigningKey would make the same
// session token for customers with the same number.
func (s *Server) storeID() uint32 { return crc32.ChecksumIEEE([]byte(s.opts.Shop)) }

func (s *Server) makeSession(c call) answer {
	var body map[string]any
	if err := json.Unmarshal(c.body, &body); err != nil {
		return refusal(http.StatusBadRequest)
	}
	if want := s.opts.StorefrontToken; want != "" && c.header.Get("X-Recharge-Storefront-Access-Token") != want {
		return refusal(http.StatusUnauthorized)
	}
	if c.faults.RefuseSessions {
		return refusal(http.StatusForbidden)
	}
	customer, ok := s.customerOf(c)
	if !ok {
		return refusal(http.StatusNotFound)
	}
	if c.faults.ForeignSession {
		customer = s.somebodyElse(customer)
	}
	token, err := s.signSession(customer.ID, c.token.id, c.now)
	if err != nil {
		return refusal(http.StatusInternalServerError)
	}
	s.mu.Lock()
	s.sessions.add(token, session{customer.ID, c.token}, c.now, c.now.Add(SessionLife))
	s.mu.Unlock()

	key := "apiToken"
	if c.faults.SnakeCaseSession {
		key = "api_token"
	}
	session := map[string]any{key: token, "customer_id": customer.ID}
	return jsonAnswer(http.StatusOK, map[string]any{"customer_session": session})
}

func (s *Server) signSession(customerID, apiTokenID int64, now time.Time) (string, error) {
	claims := jwt.MapClaims{
		"ver":                        1,
		"store_id":                   s.storeID(),
		"api_token_id":               apiTokenID,
		"storefront_access_token_id": nil,
		"iat":                        now.Unix(),
		"exp":                        now.Add(SessionLife).Unix(),
		"scopes":                     []string{"customer_portal_access", "read_customers", "read_subscriptions"},
		"customer_id":                customerID,
		"redact_pii":                 false,
	}
	if s.opts.StorefrontToken != "" {
		claims["storefront_access_token_id"] = storefrontKeyID
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	if s.opts.Unsigned {
		text, err := token.SigningString()
		var signature [256]byte        // as long as one by a key of 2048 bits
		_, _ = rand.Read(signature[:]) // never fails since Go 1.24
		return text + "." + token.EncodeSegment(signature[:]), err
	}
	key, err := s.signingKey()
	if err != nil {
		return "", err
	}
	return token.SignedString(key)
}

// somebodyElse returns another customer's record, or an invented one if there is no other.
func (s *Server) somebodyElse(than Customer) Customer {
	other, ok := s.customer(func(c Customer) bool {
		return c.ID != than.ID && c.Hash != than.Hash && c.ShopifyCustomerID != than.ShopifyCustomerID
	})
	if !ok {
		other = Customer{ID: than.ID + 1, Hash: "ffffeeeeddddcccc"}
	}
	return other
}

// pageOf maps a page_destination to the page of the portal that shows it.
func pageOf() map[string]string {
	return map[string]string{
		"subscriptions":     "subscriptions",
		"delivery_schedule": "schedule",
		"orders":            "orders",
		"shipping":          "addresses",
		"payment_methods":   "payment_methods",
		"overview":          "overview",
	}
}

// portalAccessJSON is the answer of GET /portal_access, which has no wrapper.
type portalAccessJSON struct {
	BaseURL      string `json:"base_url"`
	CustomerHash string `json:"customer_hash"`
	ExpiresAt    string `json:"expires_at"`
	PortalURL    string `json:"portal_url"`
	TempToken    string `json:"temp_token"`
}

func (s *Server) portalAccess(c call) answer {
	shop := c.query.Get("shop_url")
	if shop == "" || s.opts.Shop != "" && shop != s.opts.Shop {
		return invalid("shop_url")
	}
	customer, ok := s.customerByID(c.session.customerID)
	if c.faults.RefusePortalAccess || !ok {
		return refusal(http.StatusUnauthorized)
	}
	if status := c.faults.UnityAccess; s.isUnity() && status != http.StatusOK {
		return refusal(cmp.Or(status, http.StatusNotFound))
	}
	if c.faults.RefuseLocales && c.query.Has("locale") {
		return invalid("locale")
	}
	if c.faults.ForeignPortal {
		customer = s.somebodyElse(customer)
	}
	page, ok := pageOf()[c.query.Get("page_destination")]
	if !ok {
		page = DefaultPage
	}
	token := newLinkToken()
	expires := c.now.Add(LinkLife)

	s.mu.Lock()
	s.links.add(token, customer.ID, c.now, expires)
	base := s.portalBase
	s.mu.Unlock()

	return jsonAnswer(http.StatusOK, portalAccessJSON{
		BaseURL:      base,
		CustomerHash: customer.Hash,
		ExpiresAt:    expires.UTC().Format(expiryLayout(c.faults)),
		PortalURL:    base + url.PathEscape(customer.Hash) + "/" + page + "?" + linkQuery(token, c.query.Get("locale")),
		TempToken:    token,
	})
}

func expiryLayout(f Faults) string {
	if f.ZonedExpiry {
		return "2006-01-02T15:04:05-07:00"
	}
	return "2006-01-02T15:04:05"
}

// newLinkToken returns the token of a new portal link: 32 hex digits.
func newLinkToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// linkQuery returns the query of a portal page. The token comes first, as at Recharge.
func linkQuery(token, locale string) string {
	q := make([]string, 0, 2)
	if token != "" {
		q = append(q, "token="+url.QueryEscape(token))
	}
	if locale != "" {
		q = append(q, "locale="+url.QueryEscape(locale))
	}
	return strings.Join(q, "&")
}
