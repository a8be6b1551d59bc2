package rechargetest

import (
	"maps"
	"net/http"
)

// visitCookie marks the browser that opened the portal by a token. Its value is the token.
const visitCookie = "rechargetest_visit"

// TokenUses returns how many visits each portal token has opened. Tokens that opened none are missing.
func (s *Server) TokenUses() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.uses)
}

// beginVisit counts a visit by a live token, unless the browser is already on one. It reports false if the token
// is used up.
func (s *Server) beginVisit(w http.ResponseWriter, r *http.Request, token string) bool {
	cookie, err := r.Cookie(visitCookie)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch used := s.uses[token]; {
	case used > 0 && err == nil && cookie.Value == token:
		return true
	case used > 0 && s.faults.OneVisit:
		return false
	case r.Method != http.MethodGet:
		return true
	}
	if len(s.uses) >= 2*maxGrants { // at least half are dead
		maps.DeleteFunc(s.uses, func(token string, _ int) bool { return s.links.grants[token].to == 0 })
	}
	s.uses[token]++
	http.SetCookie(w, &http.Cookie{
		Name: visitCookie, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return true
}
