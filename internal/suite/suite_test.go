package suite_test

import (
	"testing"

	"github.com/manage-subscriptions/manage-subscriptions/internal/suite"
)

func TestRuns(t *testing.T) {
	for ci, whole := range map[string]bool{"true": true, "": false, "1": false} {
		t.Setenv("CI", ci)
		if got := suite.Runs("b", "a"); got != whole {
			t.Errorf("with CI=%q, a case outside the sample runs: %v; want %v", ci, got, whole)
		}
		if !suite.Runs("a", "a") {
			t.Errorf("with CI=%q, a case of the sample does not run", ci)
		}
		if got, want := suite.Pick(2, 1), map[bool]int{true: 2, false: 1}[whole]; got != want {
			t.Errorf("with CI=%q, Pick(2, 1) = %d; want %d", ci, got, want)
		}
	}
}
