package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// campaignCommand runs the campaign as a test, since only a test has virtual time.
type campaignCommand struct {
	Shoppers int `default:"20000"`
}

func (c *campaignCommand) Run(ctx context.Context, out io.Writer) error {
	fmt.Fprint(out, "\n## A campaign\n\nEvery subscriber of a store clicks once, in virtual time, while Recharge ",
		"limits its calls. The first run is without an import, the second after one.\n\n")
	test := exec.CommandContext(ctx, "go", "test", "manage-subscriptions/bench/campaign",
		"-run", "TestCampaign", "-count=1", "-v", "-timeout", "10m")
	test.Env = append(os.Environ(), fmt.Sprint("CAMPAIGN_SHOPPERS=", c.Shoppers))
	printed, err := test.CombinedOutput()
	if err != nil {
		return fmt.Errorf("campaign: %w: %s", err, printed)
	}
	for line := range strings.Lines(string(printed)) {
		if row := strings.TrimSpace(line); strings.HasPrefix(row, "|") {
			if strings.HasPrefix(row, "| what") {
				fmt.Fprintln(out)
			}
			fmt.Fprintln(out, row)
		}
	}
	return nil
}
