package handlers_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/internal/servertest"
	"github.com/manage-subscriptions/manage-subscriptions/internal/storetest"
	"github.com/manage-subscriptions/manage-subscriptions/recharge/rechargetest"
)

// described is docs/openapi-headless.yaml, with the answers that have occurred so far.
type described struct {
	t      *testing.T
	doc    *openapi3.T
	router routers.Router
	codes  map[string]map[string]bool // by method and path
	types  map[string]int             // the status of each problem
}

func headlessDoc(t *testing.T) *described {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../docs/openapi-headless.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc.Servers = openapi3.Servers{{URL: "http://app.test"}}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &described{t, doc, router, map[string]map[string]bool{}, map[string]int{}}
}

// hold checks a request and its answer against the document. The document must accept exactly the
// requests that the server accepts.
func (d *described) hold(request *http.Request, status int, header http.Header, body string) {
	d.t.Helper()
	route, parameters, err := d.router.FindRoute(request)
	if err != nil {
		d.t.Fatal(err)
	}
	asked := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	wrong := openapi3filter.ValidateRequest(d.t.Context(), asked)
	if taken := status != http.StatusBadRequest && status != http.StatusForbidden; taken && wrong != nil {
		d.t.Errorf("the server takes (%d) what is not described: %v", status, wrong)
	} else if status == http.StatusBadRequest && wrong == nil {
		d.t.Errorf("the server refuses what is described: %s", body)
	}
	answer := &openapi3filter.ResponseValidationInput{RequestValidationInput: asked, Status: status, Header: header, Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	answer.SetBodyBytes([]byte(body))
	if err := openapi3filter.ValidateResponse(d.t.Context(), answer); err != nil {
		d.t.Errorf("%d %s is not described: %v", status, body, err)
	}
	operation := route.Method + " " + route.Path
	if d.codes[operation] == nil {
		d.codes[operation] = map[string]bool{}
	}
	d.codes[operation][strconv.Itoa(status)] = true
}

// holdCampaigns holds requests about campaigns.
func (d *described) holdCampaigns() {
	d.t.Helper()
	openapi3filter.RegisterBodyDecoder("text/csv", openapi3filter.PlainBodyDecoder)
	f := servertest.StartWithImport(d.t, 3, servertest.WithAPIKeys)
	f.WaitForImport()
	off := servertest.StartWithImport(d.t, 0, servertest.WithAPIKeys, func(s *config.Settings) { s.Prepare = "off" })
	unconnected := servertest.StartWithImport(d.t, 0, servertest.WithAPIKeys, func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" })
	send := func(f *servertest.Fixture, method, path, media, body string) campaignAnswer {
		var got campaignAnswer
		for _, key := range []string{servertest.APIKey + "x", servertest.APIKey} {
			got = campaign(f, method, path, key, media, body)
			d.hold(got.Sent, got.Status, got.Header, got.Body)
			if got.Type != "" {
				d.types[got.Type] = got.Status
			}
		}
		return got
	}
	starts := f.Clock.Now().Add(time.Hour)
	query := "?" + url.Values{"name": {"Few"}, "starts_at": {starts.UTC().Format(time.RFC3339)}}.Encode()
	for _, audience := range []string{`"active"`, `"renewals"`, `["` + servertest.Pat + `","gid://shopify/Customer/1"]`, `"list"`, `[]`, `["x"]`, `[1]`, `null`} {
		for _, more := range []string{"", `,"dry_run":true`, `,"dry_run":1`, `,"other":1`, `,"ends_at":"tomorrow"`} {
			send(f, http.MethodPost, "", inJSON, spring(starts, audience, more))
		}
	}
	send(f, http.MethodPost, "", inJSON, `{"name":"","audience":"renewals"}`)
	send(f, http.MethodPost, "", inJSON, `{"name":"Always","audience":"renewals","dry_run":true}`)
	send(f, http.MethodPost, query+"&dry_run=true", inCSV, servertest.Pat)
	send(f, http.MethodPost, query+"&dry_run=yes", inCSV, servertest.Pat)
	made := send(f, http.MethodPost, query, inCSV, servertest.Pat)
	send(f, http.MethodGet, "/"+made.ID, "", "")
	send(f, http.MethodGet, "", "", "")
	send(unconnected, http.MethodPost, "", inJSON, spring(starts, `"active"`, ""))
	send(off, http.MethodPost, "", inJSON, spring(starts, `"active"`, ""))
	kept := made.ID
	for range 2 { // the first deletes it
		send(f, http.MethodDelete, "/"+kept, "", "")
		send(f, http.MethodGet, "/"+kept, "", "")
	}
	kept = send(f, http.MethodPost, query, inCSV, servertest.Pat).ID
	f.Redis.Stop()
	send(f, http.MethodPost, query, inCSV, servertest.Pat)
	send(f, http.MethodGet, "/"+kept, "", "")
	send(f, http.MethodGet, "", "", "")
	send(f, http.MethodDelete, "/"+kept, "", "")
}

// tellsProblems checks that a document's table lists all problems that have occurred.
func (d *described) tellsProblems(file string) {
	d.t.Helper()
	doc, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	for problem, status := range d.types {
		row := fmt.Sprintf("| `%s` | %d |", strings.TrimPrefix(problem, "urn:manage-subscriptions:problem:"), status)
		if !strings.Contains(string(doc), row) {
			d.t.Errorf("%s lacks %s", file, row)
		}
	}
}

// TestHeadlessOpenAPI checks docs/openapi-headless.yaml against the server, both ways. Every answer
// is described, and every described answer occurs.
func TestHeadlessOpenAPI(t *testing.T) {
	storetest.Redis(t) // skips the whole test if there is none
	openapi3filter.RegisterBodyDecoder("application/problem+json", openapi3filter.JSONBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	d := headlessDoc(t)
	connected := servertest.Start(t, servertest.WithAPIKeys)
	unconnected := servertest.Start(t, servertest.WithAPIKeys, func(s *config.Settings) { s.RechargeAPIToken, s.RechargeStorefrontToken = "", "" })
	down := servertest.Start(t, servertest.WithAPIKeys)
	down.Recharge.SetFaults(func(x *rechargetest.Faults) { x.Down = true })
	byHash := servertest.Start(t, servertest.WithAPIKeys, func(s *config.Settings) { s.PortalLink = "hash" })
	long := `{"shopify_customer_id":"` + servertest.Pat + `","destination":"subscriptions/50500600/cancel","locale":"pt-BR","country":"BR","return_to":"https://` + servertest.Shop + `/account"}`
	examples := d.doc.Paths.Value("/api/portal-links").Post.RequestBody.Value.Content["application/json"].Examples
	bodies := []string{servertest.ByShopifyID(servertest.Pat), long, servertest.ByShopifyID("gid://shopify/Customer/" + servertest.Pat), servertest.ByShopifyID(servertest.Robin), `{"recharge_customer_id":null}`, `{}`, `[]`, servertest.ByShopifyID("x"), `{"recharge_customer_id":0}`, `{"other":1}`, `{"shopify_customer_id":"1","recharge_customer_id":1}`, `{"shopify_customer_id":"` + servertest.Pat + `","locale":null}`, `{"shopify_customer_id":"` + servertest.Pat + `","country":null,"return_to":null}`, `{"shopify_customer_id":"` + servertest.Pat + `","country":7}`}
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		raw, err := examples[name].Value.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, strings.TrimSuffix(strings.TrimPrefix(string(raw), `{"value":`), "}"))
	}
	for _, f := range []*servertest.Fixture{connected, unconnected, down, byHash} {
		for _, body := range bodies {
			for _, key := range []string{servertest.APIKey, "not-a-key-at-all-0"} {
				got := f.PostLink(key, body)
				request := httptest.NewRequest(http.MethodPost, "http://app.test/api/portal-links", strings.NewReader(body))
				request.Header.Set("Content-Type", "application/json")
				d.hold(request, got.Status, got.Header, got.Body)
				if got.Type != "" {
					d.types[got.Type] = got.Status
				}
			}
		}
	}
	for i, customer := range []string{servertest.Pat, "gid://shopify/Customer/" + servertest.Pat, "recharge:70100200", servertest.Robin} {
		path := connected.SignLink(servertest.APIKey, connected.SignedLink(strconv.Itoa(i), customer))
		for _, browser := range []string{"one", "another"} {
			got := connected.FollowLink(path, "User-Agent", browser)
			d.hold(httptest.NewRequest(http.MethodGet, "http://app.test"+path, nil), got.Status, got.Header, got.Body)
		}
	}
	d.holdCampaigns()
	for path, item := range d.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			described := slices.Sorted(maps.Keys(operation.Responses.Map()))
			if given := slices.Sorted(maps.Keys(d.codes[method+" "+path])); !slices.Equal(described, given) {
				t.Errorf("%s %s is described to answer %v; the server answers %v", method, path, described, given)
			}
		}
	}
	var enum []string
	for _, one := range d.doc.Components.Schemas["Problem"].Value.Properties["type"].Value.Enum {
		enum = append(enum, one.(string))
	}
	slices.Sort(enum)
	if given := slices.Sorted(maps.Keys(d.types)); !slices.Equal(enum, given) {
		t.Errorf("the problems %v are described; the server gives %v", enum, given)
	}
	d.tellsProblems("../docs/headless.md")
	signed, err := url.ParseQuery(strings.TrimPrefix(connected.SignLink(servertest.APIKey, connected.SignedLink("z", servertest.Pat)), "/go?"))
	if err != nil {
		t.Fatal(err)
	}
	signed["destination"], signed["locale"], signed["country"], signed["return_to"] = nil, nil, nil, nil // left out of a link if empty
	var parameters []string
	for _, parameter := range d.doc.Paths.Value("/go").Get.Parameters {
		parameters = append(parameters, parameter.Value.Name)
	}
	slices.Sort(parameters)
	if names := slices.Sorted(maps.Keys(signed)); !slices.Equal(parameters, names) {
		t.Errorf("a link is described to have %v; it has %v", parameters, names)
	}
}
