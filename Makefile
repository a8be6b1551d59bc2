.PHONY: help run once test race lint extensions fuzz soak bench size pictures
.DEFAULT_GOAL := help

help: ## what you may do
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## a store, its Recharge and this server on your machine
	go run . sandbox

once: ## one click without a browser
	go run . sandbox --once

test: ## the tests; those of Redis and Chromium are skipped where those are not installed
	go test ./...

race: ## the tests as CI runs them: with every case of the slow tables, and with the race detector
	CI=true go test -race $$(go list ./... | grep -v '/sandbox$$')
	CI=true go test -race ./sandbox # browsers alone: beside other packages they are too slow

lint: ## formatter and linter
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go tool -modfile=tools/go.mod golangci-lint run ./...

extensions: ## Shopify's theme checks, and the account extension's types, tests and bundle
	npm ci && npm test

FUZZTIME ?= 200000x
fuzz: ## every fuzz target, 200,000 tries each; FUZZTIME=1m for a minute each
	@grep -rl '^func Fuzz' --include='*_test.go' . | while read -r file; do \
	  grep -o '^func Fuzz[A-Za-z]*' $$file | sed 's/func //' | while read -r target; do \
	    go test ./$$(dirname $$file) -run '^$$' -fuzz "^$$target\$$" -fuzzminimizetime 1x -fuzztime $(FUZZTIME) || exit 1; \
	  done || exit 1; \
	done

soak: ## a million random clicks on two servers over a real Redis, with all that can go wrong (up to an hour)
	go test ./server -run 'TestSoak$$' -count=1 -v -timeout 1h -soak.clicks=1000000

bench: ## this program beside others, in one run; writes bench/RESULTS.md (some five minutes)
	cd bench/node && npm ci --no-audit --no-fund
	go run ./bench all

size: ## lines of production Go in each folder; fails if a limit is exceeded
	@go run ./internal/size

pictures: ## those of README and docs, and more of them in the folder that is printed
	@folder=$$(mktemp -d) && SCREENSHOTS=$$folder go test ./sandbox -run 'TestPictures|TestMerchant$$' -count=1 && \
	  cp $$folder/sandbox.png docs/ && for name in menu block account-menu gallery install-approve install-connect install-try install-health; do cp $$folder/$$name.png docs/pictures/; done && ls $$folder/*
