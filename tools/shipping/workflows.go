// Workflows: actionlint's checks, and that nothing in them can change unseen.

package shipping

import (
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

// Workflow checks the text of a file under .github/workflows.
func Workflow(path, text string) (found Problems) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		return Problems{err.Error()}
	}
	mistakes, err := linter.Lint(path, []byte(text), nil)
	if err != nil {
		return Problems{err.Error()}
	}
	for _, m := range mistakes {
		found.add("%s:%d: %s", path, m.Line, m.Message)
	}
	parsed, unread := actionlint.Parse([]byte(text))
	if len(unread) > 0 || parsed == nil {
		return found // said above
	}
	if p := parsed.Permissions; p == nil || p.All != nil || len(p.Scopes) > 0 {
		found.add("%s: the workflow has permissions; want none, and each job its own", path)
	}
	for _, job := range parsed.Jobs {
		found.job(path, job)
	}
	found.uses(path, text)
	return found
}

func (p *Problems) job(path string, job *actionlint.Job) {
	name := job.ID.Value
	if job.Permissions == nil || job.Permissions.All != nil {
		p.add("%s: job %s does not list its permissions", path, name)
	}
	if job.WorkflowCall != nil {
		return
	}
	if job.TimeoutMinutes == nil {
		p.add("%s: job %s has no time limit", path, name)
	}
	for _, label := range job.RunsOn.Labels {
		if strings.HasSuffix(label.Value, "-latest") {
			p.add("%s: job %s runs on %s, which changes", path, name, label.Value)
		}
	}
	for _, step := range job.Steps {
		if action, ok := step.Exec.(*actionlint.ExecAction); ok && strings.HasPrefix(action.Uses.Value, "actions/checkout@") {
			if keep := action.Inputs["persist-credentials"]; keep == nil || keep.Value.Value != "false" {
				p.add("%s: job %s leaves its token in the checkout", path, name)
			}
		}
	}
}

// uses wants each action by commit, with the version for people beside it: a parser
// drops comments, so this reads lines.
func (p *Problems) uses(path, text string) {
	local := regexp.MustCompile(`^\./\S+$`)
	pinned := regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, use := range regexp.MustCompile(`(?m)^\s*(?:- )?uses:\s*(.*)$`).FindAllStringSubmatch(text, -1) {
		if !local.MatchString(use[1]) && !pinned.MatchString(use[1]) {
			p.add("%s: %q is not an action by full commit hash with its version as a comment", path, use[1])
		}
	}
	for _, run := range regexp.MustCompile(`\bgo (?:run|install) \S+@(\S+)`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(run[1]) {
			p.add("%s: %q is not a version", path, run[0])
		}
	}
}

// Pins are the actions of a workflow, each with its commit and version.
func Pins(text string) []string {
	pins := regexp.MustCompile(`[\w.-]+/[\w./-]+@[0-9a-f]{40} # \S+`).FindAllString(text, -1)
	slices.Sort(pins)
	return slices.Compact(pins)
}

// GoVersions are the versions of Go that a file names, for a build or a container.
func GoVersions(text string) []string {
	var versions []string
	for _, v := range regexp.MustCompile(`(?:go-version: |golang:)(\S+?)(?:-[a-z]+)?(?:\s|$)`).FindAllStringSubmatch(text, -1) {
		versions = append(versions, v[1])
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}
