// Package helm tests the chart with Helm's own packages and without a cluster. It is a module of its own, so that
// Helm's dependencies are not the server's.
package helm

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

const folder = "manage-subscriptions"

// manifests are the objects that a chart makes, each in the type that the cluster has for it.
type manifests struct {
	text       string
	kinds      []string
	settings   core.ConfigMap
	secret     core.Secret
	deployment apps.Deployment
	disruption disruption.PodDisruptionBudget
	service    core.Service
	network    networking.NetworkPolicy
	ingress    networking.Ingress
	route      gateway.HTTPRoute
	monitor    monitoring.PodMonitor
}

// values merges YAML texts; the last wins.
func values(t *testing.T, texts ...string) map[string]any {
	t.Helper()
	merged := map[string]any{}
	for _, text := range texts {
		more, err := chartutil.ReadValues([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		merged = chartutil.CoalesceTables(more, merged)
	}
	return merged
}

// render does what helm template does, with the schema's check of the values.
func render(t *testing.T, v map[string]any) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	release := chartutil.ReleaseOptions{Name: "manage-subscriptions", Namespace: "subscriptions", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, v, release, chartutil.DefaultCapabilities.Copy())
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// decode renders the chart and reads each object strictly: an unknown or doubled field is an error.
func decode(t *testing.T, v map[string]any) (m manifests) {
	t.Helper()
	files, err := render(t, v)
	if err != nil {
		t.Fatal(err)
	}
	into := map[string]any{
		"v1/ConfigMap": &m.settings, "v1/Secret": &m.secret, "v1/Service": &m.service,
		"apps/v1/Deployment": &m.deployment, "policy/v1/PodDisruptionBudget": &m.disruption,
		"networking.k8s.io/v1/NetworkPolicy": &m.network, "networking.k8s.io/v1/Ingress": &m.ingress,
		"gateway.networking.k8s.io/v1/HTTPRoute": &m.route, "monitoring.coreos.com/v1/PodMonitor": &m.monitor,
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(file, ".yaml") {
			continue
		}
		for text := range strings.SplitSeq(files[file], "\n---\n") {
			var of struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal([]byte(text), &of); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, text)
			}
			object := into[of.APIVersion+"/"+of.Kind]
			if object == nil {
				t.Fatalf("%s has %s/%s twice, or this test does not know it", file, of.APIVersion, of.Kind)
			}
			if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
				t.Errorf("%s, %s: %v\n%s", file, of.Kind, err, text)
			}
			delete(into, of.APIVersion+"/"+of.Kind)
			m.kinds = append(m.kinds, of.Kind)
			m.text += "---\n" + strings.TrimSpace(text) + "\n"
		}
	}
	return m
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func oneStore(t *testing.T) string { return read(t, "testdata/one-store.yaml") }

var update = flag.Bool("update", false, "write testdata/*.rendered.yaml")

// TestRendered compares what the chart makes with the files in testdata, from which the tests of deploy/ take the
// environment in which they start the server.
func TestRendered(t *testing.T) {
	const each = "Deployment PodDisruptionBudget Service NetworkPolicy "
	for name, kinds := range map[string]string{
		"one-store":   each + "Ingress ConfigMap Secret",
		"many-stores": each + "HTTPRoute PodMonitor ConfigMap Secret",
	} {
		m := decode(t, values(t, read(t, "testdata/"+name+".yaml")))
		if got := strings.Join(m.kinds, " "); got != kinds {
			t.Errorf("%s makes %s; want %s", name, got, kinds)
		}
		file := "testdata/" + name + ".rendered.yaml"
		if *update {
			if err := os.WriteFile(file, []byte(m.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if read(t, file) != m.text {
			t.Errorf("%s is not what the chart makes now; run go test with -update and look at the difference", file)
		}
	}
}

func TestLint(t *testing.T) {
	for _, name := range []string{"one-store", "many-stores"} {
		for _, message := range lint.All(folder, values(t, read(t, "testdata/"+name+".yaml")), "subscriptions", true).Messages {
			if !strings.Contains(message.Err.Error(), "icon is recommended") {
				t.Errorf("%s: %v", name, message)
			}
		}
	}
}

// TestPods checks what the cluster relies on: the pods pass the strictest level of pod security, everything selects
// them by their labels and ports, and they have time to end.
func TestPods(t *testing.T) {
	security, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, click := range map[string]int64{"one-store": 8, "many-stores": 10} {
		m := decode(t, values(t, read(t, "testdata/"+name+".yaml")))
		pod := m.deployment.Spec.Template
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		for _, result := range security.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				t.Errorf("%s: pod security: %s: %s", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
		if len(pod.Spec.Containers) != 1 {
			t.Fatalf("%s: %d containers; want one", name, len(pod.Spec.Containers))
		}
		server := pod.Spec.Containers[0]
		if read := server.SecurityContext.ReadOnlyRootFilesystem; read == nil || !*read {
			t.Errorf("%s: the server can write to its root", name)
		}
		if grace := *pod.Spec.TerminationGracePeriodSeconds; grace < click+7 {
			t.Errorf("%s: %d s to end; a click takes %d s and the end 7 s more", name, grace, click)
		}
		selectors := map[string]map[string]string{
			"Deployment": m.deployment.Spec.Selector.MatchLabels, "PodDisruptionBudget": m.disruption.Spec.Selector.MatchLabels,
			"Service": m.service.Spec.Selector, "NetworkPolicy": m.network.Spec.PodSelector.MatchLabels,
		}
		for _, spread := range pod.Spec.TopologySpreadConstraints {
			selectors[spread.TopologyKey] = spread.LabelSelector.MatchLabels
		}
		if name == "many-stores" {
			selectors["PodMonitor"] = m.monitor.Spec.Selector.MatchLabels
		}
		for from, labels := range selectors {
			if !maps.Equal(labels, pod.Labels) {
				t.Errorf("%s: %s selects %v; the pods are %v", name, from, labels, pod.Labels)
			}
		}
		ports := map[string]int32{}
		for _, port := range server.Ports {
			ports[port.Name] = port.ContainerPort
		}
		if want := map[string]int32{"http": 8080, "ops": 9090}; !maps.Equal(ports, want) ||
			m.settings.Data["ADDR"] != ":8080" || m.settings.Data["OPS_ADDR"] != ":9090" {
			t.Errorf("%s: ports %v, settings %v; want %v", name, ports, m.settings.Data, want)
		}
		// /readyz as a liveness check would kill a server that only drains.
		for path, probe := range map[string]*core.Probe{"/livez": server.LivenessProbe, "/readyz": server.ReadinessProbe} {
			if probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "ops" || server.StartupProbe.HTTPGet.Path != "/livez" {
				t.Errorf("%s: probes %v, %v; want %s on ops", name, probe, server.StartupProbe, path)
			}
		}
		if port := m.service.Spec.Ports; len(port) != 1 || port[0].TargetPort.StrVal != "http" {
			t.Errorf("%s: the Service has %v; want clicks only", name, port)
		}
	}
}

// TestValues checks what single values do.
func TestValues(t *testing.T) {
	const none, digest = "", "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ name, values, has, lacks string }{
		{"existing secret", "{existingSecret: mine, secrets: null}", `secretRef: \{name: mine\}`, `kind: Secret|fixture-secret`},
		{"own secret", none, `secretRef: \{name: manage-subscriptions\}`, none},
		{"digest", "image: {tag: v9, digest: " + digest + "}", `image: \S+@` + digest + `\n`, `v9`},
		{"tag", "image: {tag: v9}", `image: \S+:v9\n`, none},
		{"pull secrets", "image: {pullSecrets: [registry]}", `imagePullSecrets:\n +- name: registry\n`, none},
		{"one replica", "replicas: 1", `replicas: 1\n`, `PodDisruptionBudget`},
		{"memory", "resources: {limits: {memory: 500Mi}}", `GOMEMLIMIT, value: 400MiB\}`, none},
		{"clicks from", "networkPolicy: {clicksFrom: [{podSelector: {matchLabels: {app: envoy}}}]}", `port: http\}\]\n +from:\n +- podSelector:\n +matchLabels:\n +app: envoy`, none},
		{"no metrics", "networkPolicy: {metricsFrom: []}", `port: http\}\]`, `port: ops\}\]`},
		{"no network policy", "networkPolicy: {enabled: false}", none, `NetworkPolicy`},
		{"no ingress", "ingress: {enabled: false}", none, `Ingress\n`},
		{"port in the address", "settings: {APP_URL: 'https://a.example:8443/x'}", `host: a\.example\n`, `host: .*8443`},
		{"annotations", "ingress: {annotations: {a/b: c}}", `annotations:\n +a/b: c\n`, none},
		{"places", "{nodeSelector: {disk: ssd}, tolerations: [{key: spot, operator: Exists}]}", `nodeSelector:\n +disk: ssd\n +tolerations:\n +- key: spot`, none},
		{"quotes", `secrets: {NOTIFY_URL: "https://a.example/\"x\": #y"}`, `NOTIFY_URL: "https://a\.example/\\"x\\": #y"`, none},
	} {
		text := decode(t, values(t, oneStore(t), c.values)).text
		if c.has != none && !regexp.MustCompile(c.has).MatchString(text) {
			t.Errorf("%s: it lacks %s:\n%s", c.name, c.has, text)
		}
		if c.lacks != none && regexp.MustCompile(c.lacks).MatchString(text) {
			t.Errorf("%s: it has %s:\n%s", c.name, c.lacks, text)
		}
	}
}

// TestRejects checks that a wrong or unknown value ends before anything is made, and that the error names it.
func TestRejects(t *testing.T) {
	many := read(t, "testdata/many-stores.yaml")
	for _, c := range []struct{ values, more, names string }{
		{"{}", "", "SHOPIFY_API_KEY"},
		{oneStore(t), "replica: 3", "replica"},
		{oneStore(t), "replicas: 0", "replicas"},
		{oneStore(t), "settings: {RECHARGE_TOKEN: x}", "RECHARGE_TOKEN"},
		{oneStore(t), "settings: {RECHARGE_API_TOKEN: sk}", "RECHARGE_API_TOKEN"}, // would be in a ConfigMap
		{oneStore(t), "settings: {ADDR: ':80'}", "ADDR"},                          // the ports are the chart's
		{oneStore(t), "settings: {CLICK_TIMEOUT: 8000ms}", "CLICK_TIMEOUT"},
		{oneStore(t), "settings: {APP_URL: 'http://a.example'}", "APP_URL"},
		{oneStore(t), "settings: {SHOPIFY_SHOP: www.brand.example}", "SHOPIFY_SHOP"},
		{oneStore(t), "settings: {LOG_LEVEL: loud}", "LOG_LEVEL"},
		{oneStore(t), "secrets: {REDIS_URL: null}", "REDIS_URL"},
		{oneStore(t), "secrets: {REDIS_URL: 'redis.example:6379'}", "REDIS_URL"},
		{oneStore(t), "secrets: {API_TOKEN: x}", "API_TOKEN"},
		{oneStore(t), "existingSecret: mine", "secrets"}, // which of the two?
		{oneStore(t), "resources: {limits: {memory: 1Gi}}", "memory"},
		{oneStore(t), "image: {digest: 'sha256:abc'}", "digest"},
		{oneStore(t), "ingress: {host: a.example}", "host"},
		{oneStore(t), "image: {name: mine}", "name"},
		{oneStore(t), "resources: {request: {}}", "request"},
		{oneStore(t), "httpRoute: {hostname: a.example}", "hostname"},
		{oneStore(t), "networkPolicy: {allow: all}", "allow"},
		{oneStore(t), "podMonitor: {every: 15s}", "every"},
		{oneStore(t), "httpRoute: {enabled: true, parentRefs: [{name: public}]}", "httpRoute"}, // and an Ingress
		{many, "httpRoute: {parentRefs: []}", "parentRefs"},
		{many, "secrets: {RECHARGE_API_TOKEN: sk}", "RECHARGE_API_TOKEN"}, // whose?
		{many, "settings: {PORTAL_LINK: account}", "PORTAL_LINK"},
	} {
		if _, err := render(t, values(t, c.values, c.more)); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("with %q: %v; want an error that names %s", c.more, err, c.names)
		}
	}
}

// TestRestarts checks that pods are replaced if a setting or a secret changes, and only then.
func TestRestarts(t *testing.T) {
	sum := func(more string) string {
		return decode(t, values(t, oneStore(t), more)).deployment.Spec.Template.Annotations["checksum/settings"]
	}
	now := sum("")
	for more, restarts := range map[string]bool{
		"settings: {LOG_LEVEL: debug}": true, "secrets: {RECHARGE_API_TOKEN: sk_other}": true,
		"replicas: 5": false, "ingress: {className: other}": false,
	} {
		if changed := sum(more) != now; changed != restarts {
			t.Errorf("with %s, pods are replaced: %t; want %t", more, changed, restarts)
		}
	}
}

// TestVersion checks that the chart runs the newest release of the CHANGELOG, of which v0.1.0 will be the first.
func TestVersion(t *testing.T) {
	version := "v0.1.0"
	if newest := regexp.MustCompile(`(?m)^## \[?v?([0-9]+\.[0-9]+\.[0-9]+[^\s\]]*)`).FindStringSubmatch(read(t, "../../CHANGELOG.md")); newest != nil {
		version = "v" + newest[1]
	}
	chart, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	if got := chart.Metadata; got.AppVersion != version || "v"+got.Version != version {
		t.Errorf("Chart.yaml has version %s and appVersion %s; want %s", got.Version, got.AppVersion, version)
	}
}

// TestNotes checks that the text after an installation says what is left to do.
func TestNotes(t *testing.T) {
	for more, want := range map[string]string{
		"":                                      "for the store fixture-shop.myshopify.com",
		"ingress: {enabled: false}":             "Nothing reaches it from outside yet",
		"{existingSecret: mine, secrets: null}": "rollout restart deploy/manage-subscriptions",
	} {
		files, err := render(t, values(t, oneStore(t), more))
		if err != nil {
			t.Fatal(err)
		}
		if notes := files[folder+"/templates/NOTES.txt"]; !strings.Contains(notes, want) {
			t.Errorf("with %q, the notes lack %q:\n%s", more, want, notes)
		}
	}
}

// TestInstallDoc renders the values in docs/install.md, and checks that the commands below them fit.
func TestInstallDoc(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "../../docs/install.md"), "### With Helm\n")
	text, _, _ = strings.Cut(text, "\n### ")
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(text)
	if block == nil {
		t.Fatal("docs/install.md has no values")
	}
	m := decode(t, values(t, block[1]))
	secret := m.deployment.Spec.Template.Spec.Containers[0].EnvFrom[1].SecretRef.Name
	name, namespace := m.deployment.Name, m.deployment.Namespace
	for _, command := range []string{
		"create secret generic " + secret + " ", "helm upgrade --install " + name + " deploy/helm/" + folder + " --namespace " + namespace + " ",
		"--namespace " + namespace + " exec deploy/" + name + " ", "rollout restart deploy/" + name + "`",
	} {
		if !strings.Contains(text, command) {
			t.Errorf("docs/install.md has no %q", command)
		}
	}
	many := decode(t, values(t, block[1], "settings: {SHOPIFY_SHOP: null}"))
	if shop, one := many.settings.Data["SHOPIFY_SHOP"]; one {
		t.Errorf("without SHOPIFY_SHOP, the server is for %q; want many stores", shop)
	}
}
