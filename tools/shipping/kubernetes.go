// The Kubernetes example: decoded strictly into the API's own types, so that a
// misspelt field is found, and held to what the program does.

package shipping

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Program is what the files have to fit.
type Program struct {
	Settings []string      // the names of the environment
	Routes   []string      // of the operator's port
	Grace    time.Duration // how long it may take to end
}

type objects struct {
	deployments []apps.Deployment
	budgets     []policy.PodDisruptionBudget
	services    []core.Service
	configs     []core.ConfigMap
	secrets     []core.Secret
	policies    []networking.NetworkPolicy
}

// Kubernetes checks the texts of manifests that are applied together.
func Kubernetes(program Program, texts ...string) (found Problems) {
	var all objects
	for _, text := range texts {
		for _, part := range regexp.MustCompile(`(?m)^---\s*$`).Split(text, -1) {
			found.decode(part, &all)
		}
	}
	if len(all.deployments) != 1 || len(all.budgets) != 1 || len(all.services) != 1 || len(all.policies) != 1 {
		found.add("%d Deployments, %d PodDisruptionBudgets, %d Services, %d NetworkPolicies; want one each",
			len(all.deployments), len(all.budgets), len(all.services), len(all.policies))
		return found
	}
	found.deployment(all.deployments[0], program)
	found.selectors(all)
	found.environment(all, program)
	return found
}

func (p *Problems) decode(text string, all *objects) {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
		p.add("%v", err)
		return
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 Deployment":
		strictly(p, text, &all.deployments)
	case "policy/v1 PodDisruptionBudget":
		strictly(p, text, &all.budgets)
	case "v1 Service":
		strictly(p, text, &all.services)
	case "v1 ConfigMap":
		strictly(p, text, &all.configs)
	case "v1 Secret":
		strictly(p, text, &all.secrets)
	case "networking.k8s.io/v1 NetworkPolicy":
		strictly(p, text, &all.policies)
	default:
		p.add("%q is nothing that is known here", kind.APIVersion+" "+kind.Kind)
	}
}

func strictly[T any](p *Problems, text string, into *[]T) {
	var object T
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		p.add("%v", err)
		return
	}
	// As the API server does it: encoding/json would take a name in the wrong case.
	misfits, err := json.UnmarshalStrict(asJSON, &object)
	for _, misfit := range misfits {
		p.add("%v", misfit)
	}
	if err != nil {
		p.add("%v", err)
		return
	}
	*into = append(*into, object)
}

func (p *Problems) deployment(d apps.Deployment, program Program) {
	pod := d.Spec.Template.Spec
	if d.Spec.Replicas == nil || *d.Spec.Replicas < 2 {
		p.add("there are not two replicas")
	}
	if pod.TerminationGracePeriodSeconds == nil || time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second < program.Grace {
		p.add("a pod is killed before %s are over", program.Grace)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		p.add("a pod gets a token for the cluster, which it has no use for")
	}
	if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		p.add("a pod may run as root, or without the runtime's seccomp profile")
	}
	if len(pod.TopologySpreadConstraints) == 0 {
		p.add("both replicas may be on one node")
	}
	for _, spread := range pod.TopologySpreadConstraints {
		p.selects("topologySpreadConstraints", spread.LabelSelector, d.Spec.Template.Labels)
	}
	if len(pod.Containers) != 1 {
		p.add("%d containers; want one", len(pod.Containers))
		return
	}
	p.container(pod.Containers[0], program)
}

func (p *Problems) container(c core.Container, program Program) {
	if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
		s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") {
		p.add("the container may write to its root, gain privileges or keeps capabilities")
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		p.add("the container does not say what it needs")
	}
	if !regexp.MustCompile(`:v?\d+\.\d+\.\d+$|@sha256:[0-9a-f]{64}$`).MatchString(c.Image) {
		p.add("image %s is not pinned", c.Image)
	}
	ports := map[string]int32{}
	for _, port := range c.Ports {
		ports[port.Name] = port.ContainerPort
	}
	p.probe("livenessProbe", c.LivenessProbe, "/livez", ports, program)
	p.probe("readinessProbe", c.ReadinessProbe, "/readyz", ports, program)
	if c.StartupProbe != nil {
		p.probe("startupProbe", c.StartupProbe, "/livez", ports, program)
	}
}

// probe wants the route that the probe is for: a liveness probe at /readyz would
// kill a server that only drains.
func (p *Problems) probe(name string, probe *core.Probe, path string, ports map[string]int32, program Program) {
	if probe == nil || probe.HTTPGet == nil {
		p.add("there is no %s over HTTP", name)
		return
	}
	if probe.HTTPGet.Path != path || !slices.Contains(program.Routes, path) {
		p.add("%s asks %s; want %s, and the program has %v", name, probe.HTTPGet.Path, path, program.Routes)
	}
	if port := probe.HTTPGet.Port; port.Type != intstr.String || ports[port.StrVal] != 9090 {
		p.add("%s asks port %s, which is not the operator's", name, port.String())
	}
}

func (p *Problems) selectors(all objects) {
	d := all.deployments[0]
	pods := d.Spec.Template.Labels
	p.selects("Deployment", d.Spec.Selector, pods)
	p.selects("PodDisruptionBudget", all.budgets[0].Spec.Selector, pods)
	p.selects("NetworkPolicy", &all.policies[0].Spec.PodSelector, pods)
	service := all.services[0]
	p.selects("Service", &meta.LabelSelector{MatchLabels: service.Spec.Selector}, pods)
	for _, port := range service.Spec.Ports {
		if port.TargetPort.String() != "http" {
			p.add("the Service passes on to port %s; only clicks are for it", port.TargetPort.String())
		}
	}
	budget := all.budgets[0].Spec
	if (budget.MaxUnavailable == nil) == (budget.MinAvailable == nil) {
		p.add("the PodDisruptionBudget wants one of maxUnavailable and minAvailable")
	}
	if budget.MinAvailable != nil && d.Spec.Replicas != nil && budget.MinAvailable.Type == intstr.Int && budget.MinAvailable.IntVal >= *d.Spec.Replicas {
		p.add("the PodDisruptionBudget lets no node be drained")
	}
}

func (p *Problems) selects(what string, selector *meta.LabelSelector, pods map[string]string) {
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil || s.Empty() || !s.Matches(labels.Set(pods)) {
		p.add("%s does not select the pods %v", what, pods)
	}
}

// environment holds what the pods are told together with what the program reads.
func (p *Problems) environment(all objects, program Program) {
	sources := p.sources(all)
	for source, data := range sources {
		for name := range data {
			if !slices.Contains(program.Settings, name) {
				p.add("%s has %s, which the program does not read", source, name)
			}
		}
	}
	container := all.deployments[0].Spec.Template.Spec.Containers[0]
	for _, env := range container.Env {
		if !slices.Contains(program.Settings, env.Name) {
			p.add("the container gets %s, which the program does not read", env.Name)
		}
	}
	given := p.given(container.EnvFrom, sources)
	for _, required := range []string{"SHOPIFY_API_KEY", "SHOPIFY_API_SECRET", "APP_URL", "REDIS_URL", "ENCRYPTION_KEY"} {
		if given[required] == "" {
			p.add("two replicas need %s", required)
		}
	}
	if !strings.HasPrefix(given["OPS_ADDR"], "0.0.0.0:9090") {
		p.add("OPS_ADDR %q cannot be asked from the node", given["OPS_ADDR"])
	}
}

// sources are the config maps and secrets, each with what is in it.
func (p *Problems) sources(all objects) map[string]map[string]string {
	sources := map[string]map[string]string{}
	for _, c := range all.configs {
		sources["ConfigMap "+c.Name] = c.Data
		for name := range c.Data {
			if regexp.MustCompile(`SECRET|TOKEN|_KEY$|REDIS_URL`).MatchString(name) {
				p.add("%s is a secret, in a ConfigMap", name)
			}
		}
	}
	for _, s := range all.secrets {
		sources["Secret "+s.Name] = s.StringData
		for name, value := range s.StringData {
			if value != "replace-me" {
				p.add("%s of the example does not look like an example", name)
			}
		}
	}
	return sources
}

// given is what a container gets from sources.
func (p *Problems) given(from []core.EnvFromSource, sources map[string]map[string]string) map[string]string {
	given := map[string]string{}
	for _, f := range from {
		source := ""
		switch {
		case f.ConfigMapRef != nil:
			source = "ConfigMap " + f.ConfigMapRef.Name
		case f.SecretRef != nil:
			source = "Secret " + f.SecretRef.Name
		}
		data, ok := sources[source]
		if !ok {
			p.add("the container asks for a %s, which is not there", source)
		}
		maps.Copy(given, data)
	}
	return given
}
