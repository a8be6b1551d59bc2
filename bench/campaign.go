package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// campaignCommand runs campaigns as tests, since only a test has virtual time.
type campaignCommand struct {
	Shoppers int    `default:"20000" help:"Of the runs without a campaign."`
	Cells    string `default:"${cells}" help:"Rows of the table: customers/notice/times the usual rate."`
}

// campaignCells are the rows of the table, those first that take longest.
const campaignCells = "100000/12h/5 100000/6h/5 100000/12h/2 100000/6h/2 100000/12h/1 100000/6h/1 " +
	"100000/0s/1 100000/0s/2 100000/0s/5 " +
	"20000/12h/1 20000/12h/2 20000/12h/5 20000/6h/1 20000/6h/2 20000/6h/5 20000/0s/1 20000/0s/2 20000/0s/5"

func (c *campaignCommand) Run(ctx context.Context, out io.Writer) error {
	fmt.Fprint(out, "\n## A campaign\n\nEvery subscriber of a store clicks once, in virtual time, while Recharge ",
		"limits its calls. The first run is without an import, the second after one. Neither is planned.\n")
	if err := c.test(ctx, out, "TestUnplanned", fmt.Sprint("CAMPAIGN_SHOPPERS=", c.Shoppers)); err != nil {
		return err
	}
	fmt.Fprint(out, "\n### Planned\n\nThe same after an import, with links made ahead. *Notice* is how long before the ",
		"e-mail the campaign was planned; *none*: it was not. *Token* is how many times the usual rate Recharge allows. ",
		"*Forecast* is the share of links that was promised when the campaign was planned, *ready* the share when the ",
		"e-mail went out. 14 shoppers a second click, 20,000 in all, also of the stores with 100,000. *Bytes* are the ",
		"lengths of all keys and values in Redis by then; what Redis itself needs is not among them.\n")
	return c.test(ctx, out, "TestTable", "CAMPAIGN_CELLS="+c.Cells)
}

// test prints the tables that a test logs.
func (c *campaignCommand) test(ctx context.Context, out io.Writer, name, setting string) error {
	test := exec.CommandContext(ctx, "go", "test", "-run", name+"$", "-count=1", "-v", "-timeout", "1h",
		"github.com/manage-subscriptions/manage-subscriptions/bench/campaign")
	test.Env = append(os.Environ(), "GOGC=400", setting)
	printed, err := test.CombinedOutput()
	if err != nil {
		return fmt.Errorf("campaign: %w: %s", err, printed)
	}
	before := ""
	for line := range strings.Lines(string(printed)) {
		row := strings.TrimSpace(line)
		if strings.HasPrefix(row, "|") {
			if !strings.HasPrefix(before, "|") {
				fmt.Fprintln(out)
			}
			fmt.Fprintln(out, row)
		}
		before = row
	}
	return nil
}
