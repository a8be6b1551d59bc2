.PHONY: help run once test race chart lint extensions fuzz soak bench size pictures site
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## run three stores, an emulated Recharge and this server on your machine
	go run . sandbox

once: ## make one click without a browser
	go run . sandbox --once

test: ## run the tests; those whose programs are not installed are skipped
	go test ./...

race: ## run the tests as CI does, with every case of the slow tables and the race detector
	CI=true go test -race ./server $$(go list ./... | grep -v -e '/sandbox$$' -e '/server$$')
	CI=true go test -race ./sandbox # alone, because browsers are too slow beside other packages

chart: ## test the Helm chart, and write what it makes to deploy/helm/testdata
	cd deploy/helm && go test -vet=off . -update

lint: ## run the formatter and the linter
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go tool -modfile=tools/go.mod golangci-lint run ./...

extensions: ## run Shopify's theme checks, and the account extension's types, tests and bundle
	npm ci && npm test

FUZZTIME ?= 200000x
fuzz: ## run every fuzz target 200,000 times, or with FUZZTIME=1m for a minute each
	@grep -rl '^func Fuzz' --include='*_test.go' . | while read -r file; do \
	  grep -o '^func Fuzz[A-Za-z]*' $$file | sed 's/func //' | while read -r target; do \
	    go test ./$$(dirname $$file) -run '^$$' -fuzz "^$$target\$$" -fuzzminimizetime 1x -fuzztime $(FUZZTIME) || exit 1; \
	  done || exit 1; \
	done

soak: ## make a million random clicks on two servers with failures and a real Redis (some minutes)
	go test ./server -run 'TestSoak$$' -count=1 -v -timeout 1h -soak.clicks=1000000

bench: ## compare this program with others, and write bench/RESULTS.md (about a quarter of an hour)
	cd bench/node && npm ci --no-audit --no-fund
	go run ./bench all

size: ## count the lines of Go outside tests; fails if a limit is exceeded
	@go run ./internal/size

pictures: ## take the pictures in README and docs, and more in the folder that is printed
	@folder=$$(mktemp -d) && SCREENSHOTS=$$folder go test ./sandbox -run 'TestPictures|TestMerchant$$|TestCampaign$$' -count=1 && \
	  cp $$folder/sandbox.png docs/ && for name in health connect try campaign; do cp $$folder/listing-$$name.png docs/listing/$$name.png; done && \
	  for name in menu block account-menu gallery install-approve install-connect install-try install-health install-campaign; do cp $$folder/$$name.png docs/pictures/; done && ls $$folder/*

site: ## build docs/ into a website, in docs/.vitepress/dist
	npm ci && npm run site
