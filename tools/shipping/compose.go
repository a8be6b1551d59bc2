// The compose file: loaded as Docker Compose does, against its schema.

package shipping

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// Compose checks the text of a compose file whose .env has the text of env. grace
// is how long the server may take to end.
func Compose(text, env string, grace time.Duration) (found Problems) {
	folder, err := os.MkdirTemp("", "compose")
	if err != nil {
		return Problems{err.Error()}
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := os.WriteFile(filepath.Join(folder, ".env"), []byte(env), 0o600); err != nil {
		return Problems{err.Error()}
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  folder,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(folder, "docker-compose.yml"), Content: []byte(text)}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.SetProjectName("manage-subscriptions", true) })
	if err != nil {
		return Problems{err.Error()}
	}
	for name, service := range project.Services {
		if service.HealthCheck == nil || len(service.HealthCheck.Test) < 2 || service.HealthCheck.Test[0] != "CMD" {
			found.add("%s has no health check in exec form", name)
		}
		if service.Build == nil && !regexp.MustCompile(`:\d`).MatchString(service.Image) {
			found.add("%s: image %s is not pinned", name, service.Image)
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				found.add("%s opens port %s to the world", name, port.Published)
			}
		}
	}
	server, ok := project.Services["server"]
	if !ok {
		return append(found, "there is no service named server")
	}
	found.server(server, project, grace)
	return found
}

func (p *Problems) server(server types.ServiceConfig, project *types.Project, grace time.Duration) {
	if !server.ReadOnly {
		p.add("server may write to its root")
	}
	if !slices.Contains(server.CapDrop, "ALL") {
		p.add("server keeps capabilities")
	}
	if !slices.Contains(server.SecurityOpt, "no-new-privileges:true") {
		p.add("server may gain privileges")
	}
	if server.StopGracePeriod == nil || time.Duration(*server.StopGracePeriod) < grace {
		p.add("server is killed before %s are over", grace)
	}
	if h := server.HealthCheck; h != nil && !slices.Equal(h.Test, []string{"CMD", "/manage-subscriptions", "healthcheck"}) {
		p.add("server's health check is %v; the image has only the binary", h.Test)
	}
	for _, port := range server.Ports {
		if port.Target != 8080 {
			p.add("server publishes %d; the operator's port is not for the world", port.Target)
		}
	}
	for name := range server.DependsOn {
		if _, ok := project.Services[name]; !ok {
			p.add("server depends on %s, which is not there", name)
		}
	}
	if value := server.Environment["SHOPIFY_SHOP"]; value == nil || *value == "" {
		p.add("server does not get what .env says")
	}
}
