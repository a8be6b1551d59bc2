package metrics_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
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
	scraping  = "../../deploy/prometheus/scrape.yml" // which names the rules
	dashboard = "../../deploy/grafana/dashboard.json"
)

// alerts matches an alert's name.
var alerts = regexp.MustCompile(`(?m)^      - alert: (\w+)(?: #.*)?\n`)

// TestRules tests each alert with and without its fault by promtool, from Debian's package prometheus.
func TestRules(t *testing.T) {
	promtool := promtool(t)
	for _, args := range [][]string{{"check", "config", scraping}, {"test", "rules", ruleTests}, {"test", "rules", dayTests}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tests := read(t, ruleTests) + read(t, dayTests)
	for _, alert := range alerts.FindAllStringSubmatch(read(t, rules), -1) {
		name := alert[1]
		if !strings.Contains(tests, "- name: "+strings.TrimPrefix(name, "ManageSubscriptions")+"\n") ||
			!strings.Contains(tests, `alertname="`+name+`"`) {
			t.Errorf("%s is not tested with its fault", name)
		}
	}
}

func promtool(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		suite.Missing(t, "promtool is not installed: apt-get install prometheus")
	}
	return program
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

// TestDashboard: whoever looks at a panel reads what it means, in which unit, and what to do.
func TestDashboard(t *testing.T) {
	var board struct {
		Panels []struct {
			ID                       int
			Type, Title, Description string
			Options                  struct{ Content string }
			GridPos                  struct{ X, Y, W, H int }
			FieldConfig              struct {
				Defaults struct{ Unit string }
			}
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	var queries []map[string]string
	for _, panel := range board.Panels {
		switch {
		case panel.Type == "text" && panel.Options.Content == "":
			t.Errorf("text panel %d is empty", panel.ID)
		case panel.Type != "text" && (panel.Description == "" || panel.FieldConfig.Defaults.Unit == "" || len(panel.Targets) == 0):
			t.Errorf("panel %q lacks a description, a unit or a query", panel.Title)
		case ids[panel.ID]:
			t.Errorf("panel %q has another one's id", panel.Title)
		}
		ids[panel.ID] = true
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if cells[cell] != "" {
					t.Errorf("panel %q lies on panel %q", panel.Title, cells[cell])
				}
				cells[cell] = panel.Title
			}
		}
		for _, target := range panel.Targets {
			queries = append(queries, map[string]string{"record": "a", "expr": strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")})
			for _, metric := range regexp.MustCompile(`manage_subscriptions_(shop_)?[^}]*}`).FindAllStringSubmatch(target.Expr, -1) {
				if !strings.Contains(metric[0], `job=~"$job"`) || metric[1] != "" && !strings.Contains(metric[0], `shop=~"$store"`) {
					t.Errorf("panel %q does not go by the variables of the dashboard: %s", panel.Title, metric[0])
				}
			}
		}
	}
	asRules, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "queries", "rules": queries}}})
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err = errors.Join(err, os.WriteFile(file, asRules, 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool(t), "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("the dashboard's queries: %v\n%s", err, out)
	}
}

// TestMonitors: what tells Prometheus where to scrape fits the Deployment, and the job that the rules go by.
func TestMonitors(t *testing.T) {
	const label = "app.kubernetes.io/name: manage-subscriptions"
	deployment := read(t, "../../deploy/helm/testdata/one-store.rendered.yaml")
	if !strings.Contains(deployment, "matchLabels:\n      "+label+"\n") || !strings.Contains(deployment, "name: ops, containerPort: 9090") {
		t.Error("the pods have another label, or no port ops")
	}
	if !strings.Contains(read(t, scraping), "job_name: manage-subscriptions ") || !strings.Contains(read(t, rules), `{job="manage-subscriptions"}`) {
		t.Error("scrape.yml and the rules have different jobs")
	}
	for _, file := range []string{"podmonitor.yml", "servicemonitor.yml"} {
		text := read(t, "../../deploy/prometheus/"+file)
		for _, want := range []string{"jobLabel: app.kubernetes.io/name ", "{port: ops, path: /metrics,", label} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q", file, want)
			}
		}
	}
}
