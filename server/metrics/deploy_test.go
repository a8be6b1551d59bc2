package metrics_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
	"github.com/manage-subscriptions/manage-subscriptions/server/metrics"
)

const (
	rules     = "../../deploy/prometheus/alerts.yml"
	ruleTests = "../../deploy/prometheus/alerts_test.yml"
	dayTests  = "../../deploy/prometheus/alerts_days_test.yml"
	dashboard = "../../deploy/grafana/dashboard.json"
)

// alerts matches an alert's name, and all that belongs to it.
var alerts = regexp.MustCompile(`(?m)^      - alert: (\w+\n(?:        .*\n)+)`)

// TestRules tests each alert with and without its fault by promtool, from Debian's package prometheus.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		suite.Missing(t, "promtool is not installed: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", rules}, {"test", "rules", ruleTests}, {"test", "rules", dayTests}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tests := read(t, ruleTests) + read(t, dayTests)
	for _, alert := range alerts.FindAllStringSubmatch(read(t, rules), -1) {
		name, _, _ := strings.Cut(alert[1], "\n")
		if !strings.Contains(tests, "- name: "+strings.TrimPrefix(name, "ManageSubscriptions")+"\n") ||
			!strings.Contains(tests, `alertname="`+name+`"`) {
			t.Errorf("%s is not tested with its fault", name)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestNames: every metric that the rules and the dashboard query exists, and every metric that exists
// is in one of them.
func TestNames(t *testing.T) {
	if !json.Valid([]byte(read(t, dashboard))) {
		t.Fatalf("%s is not JSON", dashboard)
	}
	asked := read(t, rules) + read(t, dashboard)
	m := metrics.New("", full(), everyShop())
	histogram := regexp.MustCompile(`_(bucket|count)$`)
	var are []string
	for _, name := range regexp.MustCompile(`# TYPE (manage_subscriptions_\w+)`).FindAllStringSubmatch(scrape(t, m), -1) {
		are = append(are, name[1])
		if !strings.Contains(asked, name[1]) {
			t.Errorf("%s is in no rule and on no dashboard", name[1])
		}
	}
	for _, name := range regexp.MustCompile(`manage_subscriptions_\w+`).FindAllString(asked, -1) {
		if !slices.Contains(are, histogram.ReplaceAllString(name, "")) {
			t.Errorf("%s is queried but does not exist", name)
		}
	}
}
