package main

import (
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"manage-subscriptions/config"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"manage-subscriptions": main,
	})
}

// TestCommands runs the program as a person does; testdata/script reads as its
// manual.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// TestTerminated: a supervisor's SIGTERM is an orderly end.
func TestTerminated(t *testing.T) {
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, []string{"sandbox", "--port=0"}, nil, in, t.Output())
		_ = in.Close()
	}()
	said := make([]byte, 1)
	if _, err := out.Read(said); err != nil { // the welcome: it is up
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-exit; got != 0 {
		t.Errorf("exit code after SIGTERM = %d; want 0", got)
	}
}

// TestDocsSayWhatIsRead holds the README's table and .env.example together with
// the settings: every name, every default, and nothing else.
func TestDocsSayWhatIsRead(t *testing.T) {
	want := map[string]string{}
	parser, err := kong.New(&config.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Flags {
		if flag.Group != nil {
			want[config.EnvName(flag.Name)] = flag.Default
		}
	}
	readme := map[string]string{}
	for _, row := range match(t, "README.md", "(?m)^\\| `([A-Z_]+)` \\|.*\\| `?([^`|]+)`? \\|$") {
		readme[row[1]] = strings.NewReplacer("required", "", "empty", "").Replace(row[2])
	}
	if diff := cmp.Diff(want, readme); diff != "" {
		t.Errorf("settings in the README (-read +README):\n%s", diff)
	}
	example := map[string]string{}
	for _, row := range match(t, ".env.example", "(?m)^([A-Z_]+)=(.*)$") {
		example[row[1]] = row[2]
	}
	if diff := cmp.Diff(want, example); diff != "" {
		t.Errorf("settings in .env.example (-read +example):\n%s", diff)
	}
}

func match(t *testing.T, file, pattern string) [][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1)
}
