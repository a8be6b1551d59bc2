package shopify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/shopify"
	"github.com/manage-subscriptions/manage-subscriptions/shopify/shopifytest"
)

// difference is a reason why this package and @shopify/shopify-api judge a query differently.
type difference struct {
	reason  string
	applies func(judged) bool
}

// judged is a query with both judgements.
type judged struct {
	query        string
	ours         shopify.Check // "" if accepted
	theirs       string        // "" if accepted
	ordersDiffer bool
}

func (j judged) has(name string, times int) bool {
	found := 0
	for pair := range strings.SplitSeq(j.query, "&") {
		if given, _, _ := strings.Cut(pair, "="); decode(given) == name && pair != "" {
			found++
		}
	}
	return found >= times
}

// differences lists every reason. The first that applies explains a difference.
func differences() []difference {
	accepted := func(j judged) bool { return j.theirs == "" }
	return []difference{
		{"it finds nothing wrong with a repeated logged_in_customer_id or path_prefix; we ask again", func(j judged) bool {
			return accepted(j) && j.ours == shopify.CheckRepeated && (j.has("logged_in_customer_id", 2) || j.has("path_prefix", 2))
		}},
		{"it refuses a repeated shop, signature or timestamp; we ask again if the signature is right", func(j judged) bool {
			return j.ours == shopify.CheckRepeated && strings.Contains(j.theirs, "must not appear more than once")
		}},
		{"it refuses a repeated hmac, which is a name like any other for an app proxy", func(j judged) bool {
			return j.has("hmac", 2) && strings.Contains(j.theirs, "must not appear more than once")
		}},
		{"it never asks whether the text has another reading; we ask again", func(j judged) bool {
			return accepted(j) && j.ours == shopify.CheckAmbiguous
		}},
		{"it does not ask for the shapes of shop, customer and path, nor for their presence", func(j judged) bool {
			return accepted(j) && j.ours == shopify.CheckParameter
		}},
		{"it leaves out hmac from the signed text, which Shopify signs like any other name", func(j judged) bool {
			return j.has("hmac", 1) && j.theirs == "signature" && j.ours != shopify.CheckSignature
		}},
		{"it reads bytes that are not UTF-8 as U+FFFD", func(j judged) bool {
			return !utf8.ValidString(decode(j.query)) && j.theirs == "signature" && j.ours != shopify.CheckSignature
		}},
		{"it sorts names in the order of a language, Shopify sorts pairs by their bytes", func(j judged) bool {
			return j.ordersDiffer && j.theirs == "signature" && j.ours != shopify.CheckSignature
		}},
	}
}

// TestAgainstShopifyAPI compares Verify with Shopify's own library for JavaScript, which refuses
// repeated reserved names since 15.0. Each difference must have one of the reasons above.
func TestAgainstShopifyAPI(t *testing.T) {
	if _, err := os.Stat("../node_modules/@shopify/shopify-api"); err != nil {
		suite.Missing(t, "node_modules is not there: npm ci")
	}
	random := rand.New(rand.NewPCG(20, 1))
	queries := make([]string, 10_000)
	for i := range queries {
		queries[i] = drawQuery(random)
	}
	input, err := json.Marshal(map[string]any{"secret": secret, "now": now, "queries": queries})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "node", "testdata/shopify-api.mjs")
	var stderr bytes.Buffer
	command.Stdin, command.Stderr = bytes.NewReader(input), &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, stderr.String())
	}
	var answers []struct {
		Verdict      string
		OrdersDiffer bool
	}
	if err := json.Unmarshal(output, &answers); err != nil || len(answers) != len(queries) {
		t.Fatalf("%d answers, %v; want %d", len(answers), err, len(queries))
	}
	v := verifier(t, time.Unix(now, 0), secret)
	seen := map[string]int{}
	for i, query := range queries {
		_, err := v.Verify(query, "")
		j := judged{query: query, theirs: answers[i].Verdict, ordersDiffer: answers[i].OrdersDiffer}
		if refused := (*shopify.Refused)(nil); errors.As(err, &refused) {
			j.ours = refused.Check
		}
		seen[explain(t, j)]++
	}
	for _, d := range differences() {
		if seen[d.reason] == 0 {
			t.Errorf("no query differs because %s; want each reason seen", d.reason)
		}
		t.Logf("%5d %s", seen[d.reason], d.reason)
	}
	for _, same := range []string{"both accept", "both refuse"} {
		t.Logf("%5d %s", seen[same], same)
		if seen[same] < len(queries)/10 {
			t.Errorf("%d queries: %s; want at least a tenth", seen[same], same)
		}
	}
}

// explain returns how the judgements agree or why they differ.
func explain(t *testing.T, j judged) string {
	t.Helper()
	switch {
	case j.ours == "" && j.theirs == "":
		return "both accept"
	case j.ours != "" && j.ours != shopify.CheckRepeated && j.ours != shopify.CheckAmbiguous && j.theirs != "":
		return "both refuse"
	}
	for _, d := range differences() {
		if d.applies(j) {
			return d.reason
		}
	}
	t.Errorf("%s: we say %q, Shopify's library %q; want a reason in differences", j.query, j.ours, j.theirs)
	return ""
}

// drawQuery returns a forwarded query with what a visitor may add. Most are signed as they are.
func drawQuery(random *rand.Rand) string {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	name := func() string {
		return pick("a", "B", "utm_source", "utm_id", "ref", "order", "note", "z", "shop2", "Shop", "workshop", "é", "%C3%9F", "a-b", "a_b", "a.b", "ids[]", "hmac", "1", "",
			"logged_in_customer_id", "shop", "path_prefix", "timestamp", "signature", "%FF", "path_prefix!", "%73hop")
	}
	value := func() string {
		return pick("1", "x", "", "1,2", "tea,+green", "50%", "%zz", "a;b", "?shop=x", "%E2%82%AC", "é", "%FE", "a=b", "%00", "1735689601", "evil.myshopify.com", "999m=",
			"logged_in_customer_id=999m=", "44012345678901,44012345678902", "2025-01-01", "100%25", "%2B", "a+b")
	}
	own := []string{"shop=" + shop, "logged_in_customer_id=" + pick(customer, customer, ""), "path_prefix=%2Fapps%2Fsubscriptions", "timestamp=1735689600"}
	switch random.IntN(30) {
	case 0:
		i := random.IntN(len(own))
		own[i], _, _ = strings.Cut(own[i], "=")
		own[i] += "=" + value()
	case 1:
		i := random.IntN(len(own))
		own = append(own[:i:i], own[i+1:]...)
	case 2:
		own[3] = "timestamp=" + pick("1735689400", "1735689600.0", "0x6774858", "+1735689600", "1.7356896e9")
	}
	var visitors []string
	for range random.IntN(4) {
		visitors = append(visitors, name()+"="+value())
	}
	query := strings.Join(append(visitors, own...), "&")
	signature := shopifytest.Signature(secret, query)
	switch random.IntN(8) {
	case 0:
		signature = signature[:63] + pick("0", "g", "")
	case 1:
		query += "&late=1"
	}
	return query + "&signature=" + signature
}
