package handlers

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/labstack/echo/v4"

	"manage-subscriptions/shopify"
)

// stateLife is how long a merchant may take to approve the installation.
const stateLife = 10 * time.Minute

// install begins the authorization code grant, for an installation outside of
// the admin's frame. It only proves whose shop it is.
func (a *Admin) install(c echo.Context) error {
	shop, err := shopify.ParseShop(strings.ToLower(strings.TrimSpace(c.QueryParam("shop"))))
	if err != nil {
		return a.outside(c, http.StatusBadRequest, "That is not the myshopify.com name of a store, such as my-store.myshopify.com.")
	}
	return a.toInstall(c, shop)
}

// toInstall binds a state to the shop and, by a cookie, to this browser, and sends
// it to Shopify. Nothing is kept here: anybody can ask for this.
func (a *Admin) toInstall(c echo.Context, shop shopify.Shop) error {
	state := rand.Text()
	c.SetCookie(a.stateCookie(state+"."+a.Proofs.bind(shop, state), int(stateLife/time.Second)))
	c.Response().Header().Set(echo.HeaderLocation, a.Grant.AuthorizeURL(shop, state))
	return c.NoContent(http.StatusFound)
}

// installed is where Shopify sends the browser back to.
func (a *Admin) installed(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), 15*time.Second)
	defer cancel()
	cookie, _ := c.Cookie(a.stateCookie("", 0).Name)
	c.SetCookie(a.stateCookie("", -1))
	callback, err := a.Grant.VerifyCallback(c.Request().URL.RawQuery)
	if err != nil {
		a.refused(c, err.Error())
		return a.notInstalled(c)
	}
	shop, want := callback.Shop, callback.State+"."+a.Proofs.bind(callback.Shop, callback.State)
	if cookie == nil || subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(want)) != 1 {
		a.refused(c, "the state is not this browser's, or another shop's")
		return a.notInstalled(c)
	}
	first, err := a.Store.UseNonce(ctx, shop, "state "+callback.State, a.Now().Add(stateLife))
	if err != nil || !first {
		a.refused(c, "the state was used before, or that is not known")
		return a.notInstalled(c)
	}
	if err := a.Grant.Redeem(ctx, shop, callback.Code); err != nil {
		a.refused(c, err.Error())
		return a.notInstalled(c)
	}
	proof, err := a.Proofs.Sign(shop, a.Now())
	if err != nil {
		return err
	}
	return a.drawHome(c, shop, proof)
}

func (a *Admin) notInstalled(c echo.Context) error {
	return a.outside(c, http.StatusForbidden, "The installation could not be completed. Start it again.")
}

// stateCookie comes back with Shopify's redirect, which is another site's: hence
// Lax.
func (a *Admin) stateCookie(value string, seconds int) *http.Cookie {
	cookie := &http.Cookie{Name: "ms_state", Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if a.AppURL.Scheme == "https" { // else a loopback address, which is a test
		cookie.Name, cookie.Secure = "__Host-ms_state", true
	}
	return cookie
}

// Proofs are for who has shown, by the grant, that a shop is theirs, and is not
// in the admin, where App Bridge would vouch for them. They are made and read like
// Shopify's session tokens, with a key of their own.
type Proofs struct {
	ClientID string
	Key      string // signs
	Tokens   *shopify.SessionTokens
	Now      func() time.Time
}

// proofLife is that of Shopify's own session tokens: the page that has one asks for
// something every few seconds, and is given a new one with each answer. One of
// before an uninstall must be over before that is forgotten.
const proofLife = time.Minute

// renew gives the page a proof for its next call. It is as old as the grant was,
// and so never older than a session may be: what comes after is asked of Shopify.
func (a *Admin) renew(c echo.Context, session shopify.Session) error {
	proof, err := a.Proofs.Sign(session.Shop, session.Issued)
	if err != nil {
		return err
	}
	c.Response().Header().Set("X-Proof", proof)
	return nil
}

// Sign makes one, for a shop that was granted then.
func (p *Proofs) Sign(shop shopify.Shop, granted time.Time) (string, error) {
	now := p.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "https://" + string(shop) + "/admin", "dest": "https://" + string(shop), "aud": p.ClientID, "sub": "grant",
		"iat": granted.Unix(), "nbf": now.Unix(), "exp": now.Add(proofLife).Unix(),
	}).SignedString([]byte(p.Key))
}

// bind is what only this server can put behind a state.
func (p *Proofs) bind(shop shopify.Shop, state string) string {
	mac := hmac.New(sha256.New, []byte(p.Key))
	mac.Write([]byte("state " + string(shop) + " " + state))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Verify reads one.
func (p *Proofs) Verify(token string) (shopify.Session, error) { return p.Tokens.Verify(token) }
