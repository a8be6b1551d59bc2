// The command that looks at all that a server needs.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"manage-subscriptions/config"
	"manage-subscriptions/doctor"
	"manage-subscriptions/server"
)

type doctorCommand struct {
	config.Settings
	Shop     string `help:"Where many stores are served: the one whose Recharge is looked at, such as my-store.myshopify.com."`
	StoreURL string `name:"store-url" help:"The storefront, such as https://www.brand.example: the way through Shopify is tried." placeholder:"URL"`
	Path     string `help:"The app's path there, where the merchant has renamed it." default:"/apps/subscriptions"`
	Customer string `help:"The Shopify id of a customer who subscribes. One or two sessions are made for them at Recharge and thrown away: the only thing that is not just read." placeholder:"ID"`
	JSON     bool   `name:"json" help:"One JSON object, for monitoring."`
}

// reported is the exit code of what has told all there is to tell.
type reported int

func (r reported) Error() string { return fmt.Sprintf("exit code %d", int(r)) }

func (d *doctorCommand) Run(ctx context.Context, std streams) error {
	if d.StoreURL != "" && !doctor.GoodStoreURL(d.StoreURL) {
		return d.refuse(std, config.Problems{{Name: "--store-url", What: "is not the address of a storefront", Hint: "such as https://www.brand.example"}})
	}
	cfg, err := d.Check()
	var problems config.Problems
	if errors.As(err, &problems) {
		return d.refuse(std, problems)
	}
	ask := server.Questions{Shop: d.Shop, StoreURL: d.StoreURL, Path: d.Path, Customer: d.Customer}
	report, err := server.Doctor(ctx, cfg, ask, d.teller(std))
	if errors.As(err, &problems) {
		return d.refuse(std, problems)
	}
	if err != nil {
		return err
	}
	return d.end(std, report, exitFailed)
}

// refuse tells what is wrong with the settings, as lines or as an object like all else.
func (d *doctorCommand) refuse(std streams, problems config.Problems) error {
	report := doctor.Unconfigured(problems)
	for _, check := range report.Checks {
		d.teller(std)(check)
	}
	return d.end(std, report, exitUsage)
}

// teller prints each line as it comes; for JSON they come together.
func (d *doctorCommand) teller(std streams) func(doctor.Check) {
	if d.JSON {
		return func(doctor.Check) {}
	}
	return func(check doctor.Check) { doctor.Print(std.out, check) }
}

func (d *doctorCommand) end(std streams, report doctor.Report, code int) error {
	if d.JSON {
		if err := json.NewEncoder(std.out).Encode(report); err != nil {
			return err
		}
	}
	if report.OK {
		return nil
	}
	return reported(code)
}
