package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestMobile: a mobile app's server gets a link for the customer of a Customer Account API token, and for nobody else.
func TestMobile(t *testing.T) {
	s := headlessStore(t)
	store, _ := s.Headless()
	at := start(t, "mobile.mjs", settings(s, "STORE_URL="+store))
	for _, tt := range []struct{ name, authorization, want string }{
		{"a customer", "Bearer token-of-pat", `200 {"url":"http`},
		{"not a subscriber", "Bearer token-of-robin", `404 {"error":"no_subscriptions"}`},
		{"a token that Shopify does not know", "Bearer token-of-eve", `401 {"error":"sign_in"}`},
		{"a customer's ID instead of a token", "Bearer 6100200300400", `401 {"error":"sign_in"}`},
		{"no token", "", `401 {"error":"sign_in"}`},
	} {
		got := post(t, tt.name, at, tt.authorization, tt.want)
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
	broken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(broken.Close)
	at = start(t, "mobile.mjs", settings(s, "STORE_URL="+broken.URL))
	post(t, "Shopify broken", at, "Bearer token-of-pat", `503 {"error":"try_again"}`)
}

// post checks the answer to an app's request, and returns its status and body.
func post(t *testing.T, name, url, authorization, want string) string {
	t.Helper()
	got, header := send(t, http.MethodPost, url, authorization)
	if !strings.HasPrefix(got, want) || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %s, Cache-Control %q; want %s, not cached", name, got, header.Get("Cache-Control"), want)
	}
	return got
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
