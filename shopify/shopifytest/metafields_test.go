package shopifytest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// admins sends a body to the Admin API, as the page around the app's frame does.
func admins(t *testing.T, s *Server, client, body string) (status int, answer string) {
	t.Helper()
	res, err := http.Post(s.URL+"/admin/apps/"+client+"/graphql", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(text))
}

func graphQL(t *testing.T, query string, variables any) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestMetafields(t *testing.T) {
	s := start(t, Options{Extension: extension(map[string]string{
		"it": "[[{{ app.metafields.ours.path.value }}]]{% render 'app' %}",
	}), Blocks: []Block{{ID: "b1", Name: "it", Page: "/"}}}, func(http.ResponseWriter, *http.Request) {})
	s.Register(PartnerApp{ClientID: "us", Secret: "hush", PathPrefix: "/apps/us"})
	s.Install("us")
	ours := func(owner, kind, value string) map[string]any {
		return map[string]any{"metafields": []map[string]string{{
			"ownerId": owner, "namespace": "ours", "key": "path", "type": kind, "value": value,
		}}}
	}
	const text, mistake = "single_line_text_field", `{"data":{"metafieldsSet":{"userErrors":[{"message"`
	for _, tt := range []struct {
		name, body string
		status     int
		want       string // the beginning of the answer
		saved      string
	}{
		{"nothing yet", graphQL(t, readMetafield, map[string]string{"namespace": "ours", "key": "path"}), 200,
			`{"data":{"currentAppInstallation":{"id":"gid://shopify/AppInstallation/1","metafield":null}}}`, ""},
		{"another owner's", graphQL(t, writeMetafield, ours("gid://shopify/Shop/1", text, "/a/b")), 200, mistake, ""},
		{"another type", graphQL(t, writeMetafield, ours(installationID, "url", "/a/b")), 200, mistake, ""},
		{"empty", graphQL(t, writeMetafield, ours(installationID, text, "")), 200, mistake, ""},
		{"written", graphQL(t, "\n"+strings.ReplaceAll(writeMetafield, " {", "\n  {"), ours(installationID, text, "/a/b")), 200,
			`{"data":{"metafieldsSet":{"userErrors":[]}}}`, "/a/b"},
		{"read", graphQL(t, readMetafield, map[string]string{"namespace": "ours", "key": "path"}), 200,
			`{"data":{"currentAppInstallation":{"id":"gid://shopify/AppInstallation/1","metafield":{"value":"/a/b"}}}}`, "/a/b"},
		{"the shop", graphQL(t, readShop, nil), 200, `{"data":{"shop":{"contactEmail":"` + s.opts.Email + `","ianaTimezone":"Asia/Tokyo","name":"` + s.opts.Name + `","primaryDomain":{"url":"` + s.URL + `"}}}}`, "/a/b"},
		{"another operation", graphQL(t, "{ shop { name } }", nil), 200, `{"errors":[{"message":"shopifytest answers only`, "/a/b"},
		{"no JSON", "x", 400, "invalid character", "/a/b"},
	} {
		status, answer := admins(t, s, "us", tt.body)
		if status != tt.status || !strings.HasPrefix(answer, tt.want) || s.Metafield("ours.path") != tt.saved {
			t.Errorf("%s: %d %s, %q saved; want %d %s, %q", tt.name, status, answer, s.Metafield("ours.path"), tt.status, tt.want, tt.saved)
		}
	}
	if _, page := get(t, browser(t), s.URL); !strings.Contains(page, "[[/a/b]]()") {
		t.Errorf("page = %s; want the metafield in the block, and nothing in its snippet", page)
	}
	s.SetFaults(func(f *Faults) { f.NoDirectAPI = true })
	if status, _ := admins(t, s, "us", graphQL(t, writeMetafield, ours(installationID, text, "/a/c"))); status != 403 {
		t.Errorf("without direct access: %d; want 403", status)
	}
	s.SetFaults(func(f *Faults) { f.NoDirectAPI = false })
	if status, _ := admins(t, s, "them", "{}"); status != 404 {
		t.Errorf("an app that is not known: %d; want 404", status)
	}
	s.Uninstall("us")
	if status, _ := admins(t, s, "us", "{}"); status != 403 || s.Metafield("ours.path") != "" {
		t.Errorf("uninstalled: %d, %q saved; want 403, nothing", status, s.Metafield("ours.path"))
	}
}
