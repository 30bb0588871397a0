# The service needs Go alone. The tests need more, which .ci/with-tools installs. CI runs
# .ci/run.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
OASDIFF       := github.com/oasdiff/oasdiff@v1.35.0

# No package needs C: a build without it does not depend on the machine's libraries. Only
# the race detector needs a C compiler.
export CGO_ENABLED := 0

# Targets must not run at the same time: drift rewrites files that test compiles.
.NOTPARALLEL:

.PHONY: help
help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Serve for development; settings are taken from the environment.
	.bin/mfa serve --dev

.PHONY: build
build: ## Build a static binary, .bin/mfa.
	go build -trimpath -o .bin/mfa ./server

.PHONY: test
test: ## Run all tests with the race detector; installs what they need.
	CGO_ENABLED=1 .ci/with-tools go test -race -shuffle=on -timeout=10m ./...

.PHONY: soak
soak: ## Call the service for ten minutes while Redis fails at random.
	CGO_ENABLED=1 .ci/with-tools go test -race -tags=soak -run='^TestSoak$$' -timeout=20m -v ./server

# The scenarios whose names match SCENARIO, measured ROUNDS times; OLD is the path of
# another mfa to measure beside this one.
SCENARIO :=
ROUNDS   := 5
OLD      :=
measure   = .ci/with-tools go test -tags=bench -count=1 -v -run='^$(1)$$/($(SCENARIO))' -timeout=2h ./server/bench -rounds=$(ROUNDS)

.PHONY: bench
bench: ## Measure a request's cost beside the baseline; OLD=, SCENARIO= and ROUNDS= as in server/bench/README.md.
	$(call measure,TestBench) -old=$(abspath $(OLD))

.PHONY: growth
growth: ## Measure with more instances, more pending secrets and after more requests.
	$(call measure,TestGrowth)

.PHONY: overload
overload: ## Measure the effect of harmful clients and of twice the capacity.
	$(call measure,TestOverload)

.PHONY: interop
interop: ## Test with programs of others: authenticators, clients, a browser, nginx, Prometheus, systemd; installs them.
	.ci/with-tools $(addprefix --and ,curl node npm chromium zbarimg keepassxc-cli nginx prometheus systemd-analyze) \
		go test -tags=interop -count=1 -run=^TestInterop -timeout=8m ./server

.PHONY: generate
generate: ## Generate gen/ from openapi/.
	go generate ./...

.PHONY: adopt
adopt: ## Put DOCUMENT in place of openapi/openapi.yaml and show the changes; put it back if it does not fit.
	@OASDIFF=$(OASDIFF) .ci/adopt '$(DOCUMENT)'

.PHONY: drill
drill: ## Show what an engineer sees of a changed document.
	go test -tags=drill -count=1 -v -timeout=30m -run='^TestDrill' ./gen

.PHONY: check
check: drift tidy lint compat test drill interop ## Run everything that CI runs.

.PHONY: drift
drift: generate ## Check that gen/ is committed as it is generated.
	@changed=$$(git status --porcelain --untracked-files=all -- gen) || exit; \
	if [ -n "$$changed" ]; then \
		git --no-pager diff HEAD -- gen; \
		printf '%s\n' "$$changed" \
			'gen/ differs from what is committed: commit what make generate wrote.' >&2; \
		exit 1; \
	fi

.PHONY: tidy
tidy: ## Check that go.mod and go.sum are tidy.
	go mod tidy -diff

.PHONY: lint
lint: ## Run golangci-lint.
	go run $(GOLANGCI_LINT) run

# The severity levels turn off the checks for operations that are gone: ours lacks those of
# upstream that are not served. A served operation cannot go unnoticed, because server/mfa
# needs its types. oasdiff accepts that an error's status goes; the levels make it an error.
.PHONY: compat
compat: ## Check that no client of upstream's document breaks on ours.
	mkdir -p .bin
	go run ./server openapi >.bin/openapi.yaml
	go run $(OASDIFF) breaking --fail-on WARN --severity-levels .ci/oasdiff-levels openapi/openapi.yaml .bin/openapi.yaml
