# The service itself needs Go alone. The tests need more, which .ci/with-tools
# provides; .ci/run is what CI runs.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
OASDIFF       := github.com/oasdiff/oasdiff@v1.35.0

# No package here needs C, and without it a build does not depend on the machine's
# compiler and libraries. Only the race detector does need it.
export CGO_ENABLED := 0

# Targets of one call must not run at once: drift rewrites what test compiles.
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

# The tables come by way of files: go test is silent about packages that pass.
.PHONY: test
test: export TEST_TABLES := $(CURDIR)/.bin/tables
test: ## Run all tests with the race detector; installs what they need.
	@rm -rf "$$TEST_TABLES" && mkdir -p "$$TEST_TABLES"
	CGO_ENABLED=1 .ci/with-tools go test -race -shuffle=on -timeout=20m ./...
	@cd "$$TEST_TABLES" && cat faults failovers contract

.PHONY: soak
soak: ## Call for ten minutes while Redis fails in every way, at random.
	CGO_ENABLED=1 .ci/with-tools go test -race -tags=soak -run='^TestSoak$$' -timeout=20m -v ./server

# The scenarios whose names match this pattern, and how often each is measured.
SCENARIO :=
ROUNDS   := 5

.PHONY: bench
bench: ## Measure the service against the thirty lines it replaces; SCENARIO= and ROUNDS= limit it.
	.ci/with-tools go test -tags=bench -count=1 -v -run='^TestBench$$/($(SCENARIO))' -timeout=1h ./server/bench -rounds=$(ROUNDS)

.PHONY: growth
growth: ## Measure it with more replicas, more pending keys and after more requests; likewise.
	.ci/with-tools go test -tags=bench -count=1 -v -run='^TestGrowth$$/($(SCENARIO))' -timeout=2h ./server/bench -rounds=$(ROUNDS)

.PHONY: overload
overload: ## Measure what good callers notice of those who mean no good, and of too many; likewise.
	.ci/with-tools go test -tags=bench -count=1 -v -run='^TestOverload$$/($(SCENARIO))' -timeout=1h ./server/bench -rounds=$(ROUNDS)

.PHONY: interop
interop: ## Test with programs of others: authenticators, clients, nginx, Prometheus, systemd; installs them.
	.ci/with-tools $(addprefix --and ,curl node npm zbarimg keepassxc-cli nginx prometheus systemd-analyze) \
		go test -tags=interop -count=1 -run=^TestInterop -timeout=5m ./server

.PHONY: generate
generate: ## Generate gen/ from openapi/.
	go generate ./...

.PHONY: drill
drill: ## Show what an engineer sees of a changed document.
	.ci/with-tools go test -count=1 -v -run '^TestEveryChange' ./gen

.PHONY: check
check: drift tidy lint compat test ## Run everything that CI runs.

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

# Operations of upstream's document that are not served are missing from ours and break
# nobody: the levels turn the checks for that off. One that is served cannot go missing
# unnoticed: without its types, server/mfa does not build. A status of an error that
# goes missing, which oasdiff lets pass, is turned into an error of its own.
.PHONY: compat
compat: ## Check that no client of upstream's document breaks on ours.
	mkdir -p .bin
	go run ./server openapi >.bin/openapi.yaml
	go run $(OASDIFF) breaking --fail-on WARN --severity-levels .ci/oasdiff-levels openapi/openapi.yaml .bin/openapi.yaml
