package shopifytest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// codeLife is how long a code may wait to be exchanged. Shopify documents no more than that it is short.
const codeLife = time.Minute

func randomID() string { return strings.ToLower(rand.Text()) }

// grantHMAC is what Shopify signs the app's own addresses with: all parameters but hmac, sorted and joined as they are.
func grantHMAC(secret string, query url.Values) string {
	var pairs []string
	for name, values := range query {
		if name != "hmac" && name != "signature" {
			pairs = append(pairs, name+"="+strings.Join(values, ","))
		}
	}
	slices.Sort(pairs)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strings.Join(pairs, "&")))
	return hex.EncodeToString(mac.Sum(nil))
}

// authorize begins the code grant: it asks the merchant, unless the app is installed already.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	p, ok := s.find(w, query.Get("client_id"))
	switch {
	case !ok:
		return
	case !slices.Contains(p.RedirectURLs, query.Get("redirect_uri")):
		s.adminPage(w, http.StatusBadRequest, "nothing.html", "The redirect_uri is not whitelisted", "", nil)
	case p.Installed:
		s.authorized(w, r)
	default:
		s.adminPage(w, http.StatusOK, "consent.html", "Install "+p.Name, "apps", map[string]any{"App": p, "Action": r.URL.RequestURI()})
	}
}

// authorized is what follows the merchant's consent: the app is installed, and the browser sent back with a code.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	p, ok := s.find(w, asked.Get("client_id"))
	if !ok {
		return
	}
	if !slices.Contains(p.RedirectURLs, asked.Get("redirect_uri")) {
		s.adminPage(w, http.StatusBadRequest, "nothing.html", "The redirect_uri is not whitelisted", "", nil)
		return
	}
	s.Install(p.ClientID)
	code := randomID()
	s.mu.Lock()
	s.partner(p.ClientID).codes[code] = s.opts.Now().Add(codeLife)
	s.mu.Unlock()
	query := url.Values{
		"code": {code}, "host": {s.host()}, "shop": {s.opts.Shop}, "state": {asked.Get("state")}, "timestamp": {fmt.Sprint(s.opts.Now().Unix())},
	}
	query.Set("hmac", grantHMAC(p.Secret, query))
	redirect(w, http.StatusFound, asked.Get("redirect_uri")+"?"+query.Encode())
}

// accessToken exchanges a code, once. What it yields opens nothing: there is no Admin API.
func (s *Server) accessToken(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
		Code         string `json:"code"`
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		_ = json.NewDecoder(r.Body).Decode(&asked) // what cannot be read is refused below
	} else {
		asked.ClientID, asked.ClientSecret, asked.Code = r.PostFormValue("client_id"), r.PostFormValue("client_secret"), r.PostFormValue("code")
	}
	w.Header().Set("Content-Type", "application/json")
	token, ok := s.exchange(asked.ClientID, asked.ClientSecret, asked.Code)
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_request","error_description":"The authorization code was not found or was already used"}`))
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"access_token": token, "scope": "write_app_proxy"})
}

func (s *Server) exchange(clientID, secret, code string) (token string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partner(clientID)
	if p == nil || secret == "" || secret != p.Secret && secret != p.OldSecret {
		return "", false
	}
	ends, ok := p.codes[code]
	delete(p.codes, code)
	if !ok || s.opts.Now().After(ends) {
		return "", false
	}
	token = "shpat_test_" + randomID()
	p.tokens = append(p.tokens, token)
	return token, true
}

// GrantedTokens are the Admin API tokens that the code grant has yielded: nobody should keep one.
func (s *Server) GrantedTokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, p := range s.partners {
		all = append(all, p.tokens...)
	}
	return all
}
