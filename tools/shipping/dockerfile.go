// The Dockerfile: read by BuildKit's parser and linter, with rules of our own for
// what runs.

package shipping

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Dockerfile checks the text of one.
func Dockerfile(text string) (found Problems) {
	tree, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return Problems{err.Error()}
	}
	for _, w := range tree.Warnings {
		found.add("%s", w.Short)
	}
	stages, _, err := instructions.Parse(tree.AST, linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, _ []parser.Range) { found.add("%s: %s", rule, message) },
	}))
	if err != nil {
		return append(found, err.Error())
	}
	if len(stages) == 0 {
		return append(found, "there is no stage")
	}
	named := map[string]bool{}
	for _, stage := range stages {
		found.base(stage.BaseName, named)
		named[strings.ToLower(stage.Name)] = true
		for _, command := range stage.Commands {
			found.command(command, named)
		}
	}
	found.last(stages[len(stages)-1])
	return found
}

// base wants an image by version or digest: "golang" and "golang:latest" change.
func (p *Problems) base(name string, stages map[string]bool) {
	if name == "scratch" || stages[strings.ToLower(name)] || strings.Contains(name, "@sha256:") {
		return
	}
	if !regexp.MustCompile(`:v?\d+\.\d+\.\d+`).MatchString(name) {
		p.add("base image %s is not pinned to a version", name)
	}
}

func (p *Problems) command(command instructions.Command, stages map[string]bool) {
	switch c := command.(type) {
	case *instructions.AddCommand:
		p.add("ADD %v: copy what is in the repository, and nothing from elsewhere", c.SourcePaths)
	case *instructions.CopyCommand:
		if c.From != "" && !stages[strings.ToLower(c.From)] {
			p.base(c.From, stages)
		}
	case *instructions.RunCommand:
		line := strings.Join(c.CmdLine, " ")
		for _, bad := range []string{"sudo ", "| sh", "| bash", "chmod 777"} {
			if strings.Contains(line, bad) {
				p.add("RUN has %q", bad)
			}
		}
	case *instructions.EnvCommand:
		for _, pair := range c.Env {
			p.secret(pair.Key)
		}
	case *instructions.ArgCommand:
		for _, arg := range c.Args {
			p.secret(arg.Key)
		}
	}
}

func (p *Problems) secret(name string) {
	if regexp.MustCompile(`(?i)secret|token|password|_key$`).MatchString(name) {
		p.add("%s would stay in the image's history", name)
	}
}

// last checks the stage that runs.
func (p *Problems) last(stage instructions.Stage) {
	user := ""
	var entrypoint *instructions.EntrypointCommand
	var health *instructions.HealthCheckCommand
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entrypoint = c
		case *instructions.HealthCheckCommand:
			health = c
		case *instructions.CmdCommand:
			if c.PrependShell {
				p.add("CMD is not in exec form: there is no shell")
			}
		case *instructions.CopyCommand:
			if c.From == "" {
				p.add("COPY %v puts what is not built into the image", c.SourcePaths)
			}
		}
	}
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		p.add("USER %q is not two numbers other than 0: runAsNonRoot wants to know it is not root", user)
	}
	if entrypoint == nil || entrypoint.PrependShell {
		p.add("ENTRYPOINT is not in exec form: signals would not reach the server")
	}
	p.health(health, entrypoint)
}

// health checks that the binary itself is asked.
func (p *Problems) health(check *instructions.HealthCheckCommand, entrypoint *instructions.EntrypointCommand) {
	if check == nil {
		p.add("there is no HEALTHCHECK")
		return
	}
	test := check.Health.Test
	switch {
	case len(test) == 0 || test[0] != "CMD":
		p.add("HEALTHCHECK is not in exec form: there is no shell")
	case entrypoint != nil && len(entrypoint.CmdLine) > 0 && (len(test) < 2 || test[1] != entrypoint.CmdLine[0]):
		p.add("HEALTHCHECK is not done by the binary itself: there is nothing else")
	}
}
