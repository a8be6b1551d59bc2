package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// customerAccountAPI emulates Shopify's Customer Account API and its discovery. A token is the name of a customer.
func customerAccountAPI(t *testing.T, broken *atomic.Bool) *httptest.Server {
	t.Helper()
	ids := map[string]string{"token-of-pat": "6100200300400", "token-of-robin": "6100200300500"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/customer-account-api", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"graphql_api": "http://" + r.Host + "/account/customer/api/2026-10/graphql"})
	})
	mux.HandleFunc("POST /account/customer/api/2026-10/graphql", func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Query string }
		id := ids[r.Header.Get("Authorization")]
		err := json.NewDecoder(r.Body).Decode(&asked)
		switch {
		case broken.Load() || err != nil || asked.Query != "{ customer { id } }":
			_, _ = io.WriteString(w, `{"errors":[{"message":"broken"}]}`)
		case id == "":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, `{"data":{"customer":{"id":"gid://shopify/Customer/`+id+`"}}}`)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestMobile: a mobile app's server gets a link for the customer of a Customer Account API token, and for nobody else.
func TestMobile(t *testing.T) {
	s := headlessStore(t)
	var broken atomic.Bool
	t.Setenv("STORE_URL", customerAccountAPI(t, &broken).URL)
	at := serve(t, s, example{"mobile.mjs", []string{"node", "testdata/serve.mjs", "mobile"}, "", ""})
	for _, tt := range []struct {
		name, authorization, want string
		broken                    bool
	}{
		{"a customer", "Bearer token-of-pat", `200 {"url":"http`, false},
		{"not a subscriber", "Bearer token-of-robin", `404 {"error":"no_subscriptions"}`, false},
		{"a token that Shopify does not know", "Bearer token-of-eve", `401 {"error":"sign_in"}`, false},
		{"a customer's ID instead of a token", "Bearer 6100200300400", `401 {"error":"sign_in"}`, false},
		{"no token", "", `401 {"error":"sign_in"}`, false},
		{"Shopify broken", "Bearer token-of-pat", `503 {"error":"try_again"}`, true},
	} {
		broken.Store(tt.broken)
		got, header := send(t, http.MethodPost, at+"/manage-subscriptions", tt.authorization)
		if !strings.HasPrefix(got, tt.want) || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %s, Cache-Control %q; want %s, not cached", tt.name, got, header.Get("Cache-Control"), tt.want)
		}
		if tt.name != "a customer" {
			continue
		}
		var link struct{ URL string }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "200 ")), &link); err != nil {
			t.Fatal(err)
		}
		if page, _ := send(t, http.MethodGet, link.URL, ""); !strings.Contains(page, `data-customer="Pat Doe"`) {
			t.Errorf("the link opens %s; want Pat's portal", page)
		}
	}
}

// send returns an answer's status and body, and its header.
func send(t *testing.T, method, url, authorization string) (string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(response.StatusCode, " ", string(body)), response.Header
}
