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

race: ## the tests as CI runs them
	CI=true go test -race -p 1 ./...

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

ROOMS = config server handlers portal merchant importer shopify recharge store templates doctor portallink
size: ## lines of production Go in each folder, and their budgets
	@git ls-files -co --exclude-standard main.go $(ROOMS:%='%/*.go') | grep -vE '_test\.go$$|(shopify|recharge)test/' | \
	  xargs grep -sc '' | awk -F: '{ sub("/.*", "", $$1); lines[$$1] += $$2; all += $$2 } \
	    END { for (room in lines) printf "%6d  %s\n", lines[room], room; \
	      printf "%6d  store alone: the budget of 2,600 is %s\n", lines["store"], (lines["store"] > 2600 ? "EXCEEDED" : "kept"); \
	      printf "%6d  production path: the budget of 12,500 is %s, that of 14,000 with all that is planned %s\n", all, \
	        (all > 12500 ? "EXCEEDED" : "kept"), (all > 14000 ? "EXCEEDED" : "kept") }' | sort -n

pictures: ## those of README and docs, and more of them in the folder that is printed
	@folder=$$(mktemp -d) && SCREENSHOTS=$$folder go test ./sandbox -run 'TestPictures|TestMerchant$$' -count=1 && \
	  cp $$folder/sandbox.png docs/ && for name in menu block account-menu gallery install-approve install-connect install-try install-health; do cp $$folder/$$name.png docs/pictures/; done && ls $$folder/*
