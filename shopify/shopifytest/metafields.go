package shopifytest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
)

// installationID owns the app-data metafields. The emulator has one app with an extension.
const installationID = "gid://shopify/AppInstallation/1"

// timeZone is the store's. It has no summer time.
const timeZone = "Asia/Tokyo"

// The operations of the Admin API that it answers, with single spaces.
const (
	readMetafield = "query ($namespace: String!, $key: String!) " +
		"{ currentAppInstallation { id metafield(namespace: $namespace, key: $key) { value } } }"
	writeMetafield = "mutation ($metafields: [MetafieldsSetInput!]!) " +
		"{ metafieldsSet(metafields: $metafields) { userErrors { message } } }"
	readShop = "query { shop { name contactEmail ianaTimezone primaryDomain { url } } }"
)

type metafield struct {
	OwnerID   string `json:"ownerId"`
	Namespace string `json:"namespace"`
	Key       string `json:"key"`
	Type      string `json:"type"`
	Value     string `json:"value"`
}

// adminAPI answers the page around an app's frame, which passes on what the app's page sends with App Bridge.
func (s *Server) adminAPI(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r.PathValue("id"))
	if !ok {
		return
	}
	if !p.Installed || s.Faults().NoDirectAPI {
		http.Error(w, "This app has no direct access to the Admin API.", http.StatusForbidden)
		return
	}
	var asked struct {
		Query     string
		Variables struct {
			metafield
			Metafields []metafield
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := map[string]any{}
	switch strings.Join(strings.Fields(asked.Query), " ") {
	case readMetafield:
		installation := map[string]any{"id": installationID, "metafield": nil}
		if value := s.Metafield(asked.Variables.Namespace + "." + asked.Variables.Key); value != "" {
			installation["metafield"] = map[string]any{"value": value}
		}
		answer["data"] = map[string]any{"currentAppInstallation": installation}
	case writeMetafield:
		answer["data"] = map[string]any{"metafieldsSet": map[string]any{
			"userErrors": s.setMetafields(asked.Variables.Metafields),
		}}
	case readShop:
		answer["data"] = map[string]any{"shop": map[string]any{
			"name": s.opts.Name, "contactEmail": s.opts.Email,
			"ianaTimezone": timeZone, "primaryDomain": map[string]any{"url": s.domain()},
		}}
	default:
		text := "shopifytest answers only the operations in metafields.go, not " + asked.Query
		answer["errors"] = []map[string]any{{"message": text}}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// SetDomain sets the address of the store's own domain, as the Admin API reports it; "" is Server.URL. Nothing answers
// there.
func (s *Server) SetDomain(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ownDomain = address
}

func (s *Server) domain() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.ownDomain, s.URL)
}

// Metafield returns an app-data metafield by "namespace.key", or "".
func (s *Server) Metafield(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metafields[name]
}

// setMetafields saves all or none, and returns what is wrong.
func (s *Server) setMetafields(all []metafield) []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range all {
		text := m.Type == "single_line_text_field" && m.Value != ""
		if m.OwnerID != installationID || !text || m.Namespace == "" || m.Key == "" {
			return []map[string]any{{"message": "shopifytest takes only an installation's own texts"}}
		}
	}
	if s.metafields == nil {
		s.metafields = map[string]string{}
	}
	for _, m := range all {
		s.metafields[m.Namespace+"."+m.Key] = m.Value
	}
	return []map[string]any{}
}

// appObject returns app in a block's Liquid.
func (s *Server) appObject() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	spaces := map[string]any{}
	for name, value := range s.metafields {
		namespace, key, _ := strings.Cut(name, ".")
		if spaces[namespace] == nil {
			spaces[namespace] = map[string]any{}
		}
		spaces[namespace].(map[string]any)[key] = map[string]any{"value": value}
	}
	return map[string]any{"metafields": spaces}
}
