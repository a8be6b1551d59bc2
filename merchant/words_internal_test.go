package merchant

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/manage-subscriptions/manage-subscriptions/portal"
	"github.com/manage-subscriptions/manage-subscriptions/recharge"
	"github.com/manage-subscriptions/manage-subscriptions/store"
	"github.com/manage-subscriptions/manage-subscriptions/templates"
)

// TestWords checks that every reason has its own words, and that any other error is reported as a
// fault of this server, without its text.
func TestWords(t *testing.T) {
	ours := Words("other").String()
	seen := map[string]bool{ours: true}
	for _, reason := range []recharge.Reason{
		recharge.FilterIgnored, recharge.Foreign, recharge.LinkRefused, recharge.Ambiguous, recharge.NoCustomer,
		recharge.Unauthorized, recharge.Forbidden, recharge.Limited, recharge.OverBudget, recharge.Tripped, recharge.TooSlow,
		recharge.Unreachable, recharge.Unavailable, recharge.Malformed, recharge.TwoFactor, recharge.NotFound, recharge.Invalid,
	} {
		cause := fmt.Errorf("context: %w", &recharge.Error{Endpoint: recharge.Customers, Reason: reason})
		if got := Words(portal.Reason(cause)).String(); seen[got] || got != Words(string(reason)).String() {
			t.Errorf("Words of %q = %q; want words of its own", reason, got)
		}
		seen[Words(string(reason)).String()] = true
	}
	if got := Words(portal.Reason(errors.Join(portal.ErrRedisDown, nil))).String(); got != NoDatabase().String() || seen[got] {
		t.Errorf("Words without Redis = %q; want %q", got, NoDatabase())
	}
	for _, text := range []string{"", "bad token", "the log said: bad token"} {
		if got := Words(portal.Reason(errors.New(text))).String(); got != ours {
			t.Errorf("Words of the error %q = %q; want %q", text, got, ours)
		}
	}
}

// TestSentences checks that the catalogue has a text for each key, and that code or a page asks for each text.
func TestSentences(t *testing.T) {
	var words map[string]string
	raw, err := os.ReadFile("../templates/admin/locales/en.json")
	if err = errors.Join(err, json.Unmarshal(raw, &words)); err != nil {
		t.Fatal(err)
	}
	ours, theirs := literals(t, ".", "../handlers", "../server", "../templates"), literals(t, "../recharge", "../portal", "../store", "../importer")
	ways := []string{"passed", "skipped", "otherwise", "new", "legacy", "signed_in", "hash", "account"}
	known := func(word string) bool {
		last := strings.LastIndex(word, " ") + 1
		return theirs[word] || slices.Contains(ways, word) || last > 0 && theirs[word[:last-1]] && slices.Contains(ways, word[last:])
	}
	asked := func(key string) bool {
		begin, end, found := strings.Cut(key, " ")
		for found && (!ours[begin+" "] || !known(end) && !ours[end]) {
			var word string
			word, end, found = strings.Cut(end, " ")
			begin += " " + word
		}
		return found
	}
	for key := range keysOfPages(t) {
		ours[key] = true
		if !strings.HasSuffix(key, " ") && words[key] == "" {
			t.Errorf("en.json has no text at %q", key)
		}
	}
	for key, text := range words {
		if text == "" || strings.TrimSpace(text) != text && key != "list" {
			t.Errorf("en.json has no text at %q", key)
		}
		key = strings.TrimSuffix(key, " one")
		kind, way, _ := strings.Cut(key, " ")
		check, how, _ := strings.Cut(strings.TrimSuffix(way, " do"), " ")
		switch {
		case kind == "script":
		case kind == "check" && theirs[check] && (how == "" || known(how)):
		case kind != "check" && asked(strings.TrimSuffix(key, " do")):
		case kind == "outcome" && ours[kind+" "] && theirs[way]:
		case kind == "scope" && ours[kind+" "] && theirs[way]:
		case !ours[key] && !ours[strings.TrimSuffix(key, " do")]:
			t.Errorf("nothing asks for the sentence at %q", key)
		}
	}
}

// keysOfPages returns the keys that are written in the templates of the app home.
func keysOfPages(t *testing.T) map[string]bool {
	t.Helper()
	pages, err := filepath.Glob("../templates/admin/*.html")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`[{( ]t (\(printf )?"([^"]*)"`).FindAllSubmatch(raw, -1) {
			all[strings.TrimSuffix(string(found[2]), "%s")] = true
		}
	}
	return all
}

// literals returns all texts in the Go code of some folders, without their tests.
func literals(t *testing.T, folders ...string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && folder == "." {
					checkKey(t, call)
				}
				if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING && !strings.HasSuffix(file, "_test.go") {
					text, _ := strconv.Unquote(literal.Value)
					all[text] = true
				}
				return true
			})
		}
	}
	return all
}

// checkKey checks the key in a call of sentence or bad, if it is written there as a whole.
func checkKey(t *testing.T, call *ast.CallExpr) {
	t.Helper()
	function, ok := call.Fun.(*ast.Ident)
	if !ok || function.Name != "sentence" && function.Name != "bad" {
		return
	}
	if literal, ok := call.Args[0].(*ast.BasicLit); ok {
		if key, _ := strconv.Unquote(literal.Value); !templates.Has(key) {
			t.Errorf("en.json has no sentence at %q", key)
		}
	}
}

func TestSaid(t *testing.T) {
	for state, want := range map[recharge.State]string{
		recharge.Passed: "Passed", recharge.Failed: "Failed", recharge.Warned: "Warning", recharge.Skipped: "Not checked",
	} {
		if got := (Step{State: state}).Said().String(); got != want {
			t.Errorf("Said of %q = %q; want %q", state, got, want)
		}
	}
}

// TestTokensOver checks that empty fields stay, except for a replaced Admin token's secret.
func TestTokensOver(t *testing.T) {
	last := store.Connection{APIToken: "sk_1", StorefrontToken: "strfnt_1", ClientSecret: "secret-1", WebhookKey: "KEY"}
	for name, test := range map[string]struct {
		pasted  Tokens
		last    *store.Connection
		want    store.Connection
		problem string
	}{
		"all, the first time":  {Tokens{Admin: " sk_2\n", Storefront: "strfnt_2", Secret: "secret-2"}, nil, store.Connection{APIToken: "sk_2", StorefrontToken: "strfnt_2", ClientSecret: "secret-2"}, ""},
		"nothing":              {Tokens{}, &last, last, ""},
		"nothing, first time":  {Tokens{}, nil, store.Connection{}, "tokens, no admin"},
		"the same Admin token": {Tokens{Admin: "sk_1"}, &last, last, ""},
		"another Admin token":  {Tokens{Admin: "sk_2"}, &last, store.Connection{APIToken: "sk_2", StorefrontToken: "strfnt_1"}, ""},
		"both":                 {Tokens{Admin: "sk_2", Secret: "secret-2"}, &last, store.Connection{APIToken: "sk_2", StorefrontToken: "strfnt_1", ClientSecret: "secret-2"}, ""},
		"a blank inside":       {Tokens{Admin: "sk_2 sk_3"}, nil, store.Connection{APIToken: "sk_2 sk_3"}, "tokens, strange"},
		"not ASCII":            {Tokens{Admin: "sk_2", Secret: "…"}, nil, store.Connection{APIToken: "sk_2", ClientSecret: "…"}, "tokens, strange"},
		"in the wrong field":   {Tokens{Admin: "strfnt_2"}, nil, store.Connection{APIToken: "strfnt_2"}, "tokens, storefront as admin"},
		"in the other":         {Tokens{Admin: "sk_2", Storefront: "sk_3"}, nil, store.Connection{APIToken: "sk_2", StorefrontToken: "sk_3"}, "tokens, admin as storefront"},
	} {
		got, problem, _ := test.pasted.over(test.last)
		if problem != "" && !templates.Has(problem) {
			t.Errorf("%s: there is no sentence at %q", name, problem)
		}
		if diff := cmp.Diff(test.want, got); diff != "" || problem != test.problem {
			t.Errorf("%s: problem %q, want %q; (-want +got):\n%s", name, problem, test.problem, diff)
		}
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Minute: "just now", 5 * time.Minute: "5 minutes ago", 119 * time.Minute: "119 minutes ago", 2 * time.Hour: "2 hours ago",
		47 * time.Hour: "47 hours ago", 49 * time.Hour: "2 days ago",
	} {
		if got := Ago(d).String(); got != want {
			t.Errorf("Ago(%s) = %q; want %q", d, got, want)
		}
	}
	if got := Plural(1, "click").String(); got != "1 click" {
		t.Errorf("Plural(1) = %q", got)
	}
}
