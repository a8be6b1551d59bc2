package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// campaignPart runs the campaign, which is a test: only a test has virtual time.
type campaignPart struct {
	Shoppers int `default:"20000"`
}

func (c *campaignPart) Run(ctx context.Context, out io.Writer) error {
	fmt.Fprint(out, "\n## A campaign\n\nEvery subscriber of a store clicks once, in virtual time, against a Recharge that really limits; without an index, and with one.\n\n")
	test := exec.CommandContext(ctx, "go", "test", "./bench/campaign", "-run", "TestCampaign", "-count=1", "-v", "-timeout", "10m")
	test.Env = append(os.Environ(), fmt.Sprint("CAMPAIGN_SHOPPERS=", c.Shoppers))
	said, err := test.CombinedOutput()
	if err != nil {
		return fmt.Errorf("campaign: %w: %s", err, said)
	}
	for line := range strings.Lines(string(said)) {
		if row := strings.TrimSpace(line); strings.HasPrefix(row, "|") {
			if strings.HasPrefix(row, "| what") {
				fmt.Fprintln(out)
			}
			fmt.Fprintln(out, row)
		}
	}
	return nil
}
