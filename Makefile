# Everything a developer or a curious user runs. "make" alone lists the targets.

# The packages whose tests need the lab's kernel (they skip elsewhere).
LAB_PACKAGES ?= ./e2e ./e2e/lab ./dataplane/...

GO  ?= go
LAB  = $(GO) run ./e2e/cmd/lab

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Debian 12's own Go is too old, and cannot fetch a newer one by itself.
.PHONY: need-go
need-go:
	@command -v $(GO) >/dev/null || { echo "make: Go is missing: install Go 1.26 or later (https://go.dev/dl/) and put it into PATH" >&2; exit 1; }
	@v=$$($(GO) env GOVERSION 2>/dev/null); minor=$$(echo "$$v" | sed -n 's/^go1\.\([0-9]*\).*/\1/p'); \
	if [ "$${minor:-99}" -lt 26 ]; then echo "make: this is $${v:-an old Go} and Go 1.26 or later is needed (https://go.dev/dl/)" >&2; exit 1; fi

.PHONY: need-lab
need-lab: need-go
	@command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "make: the lab is made from Debian packages: run it on Debian 12 or later" >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || echo "make: not root: the lab works, but its guest competes with everything else on this machine" >&2

.PHONY: build
build: need-go ## build the static binary bin/lbcluster
	CGO_ENABLED=0 $(GO) build -o bin/lbcluster ./cmd/lbcluster

.PHONY: packages
packages: need-go ## build .deb, .rpm and tarballs for amd64 and arm64 in dist/ (VERSION=, ARCHES=)
	GO=$(GO) deploy/packages/build.sh

.PHONY: check
check: need-go ## gofmt and go vet
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt would change:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...

.PHONY: test
test: need-lab check ## all tests: here, then those that need IPVS in the lab (who fails is run once more)
	$(GO) test ./... || { echo "make: the machine may have been busy: the packages that failed are run once more" >&2; $(GO) test ./...; }
	GO=$(GO) ARCHES=amd64 deploy/packages/build.sh
	$(LAB) test -again -timeout 75m $(LAB_PACKAGES)

DURATION ?= 10m
SEED     ?= 0

# STEPS=file does the steps in the file, as a soak printed them, one a line or
# divided by semicolons.
.PHONY: soak
soak: need-lab ## random faults for DURATION (10m), SEED=n to repeat, STEPS=file to replay
	$(LAB) test -timeout 24h -run '^TestSoak$$' -arg=-soak.seed=$(SEED) $(if $(STEPS),"-arg=-soak.steps=$$(grep -v '^ *#' $(STEPS) | tr '\n' ';')",-arg=-soak.for=$(DURATION)) ./e2e

.PHONY: interop
interop: need-lab ## compare with keepalived: all files of the corpus, and being its VRRP peer in every way (40 minutes); writes docs/interop.md
	$(LAB) test -timeout 90m -run '^(TestOracle|TestInterop)$$' -arg=-oracle.full -arg=-interop.full ./e2e
	cp "$$(ls -d $${LBCLUSTER_LAB_DIR:-.lab}/results/* | tail -1)"/TestInterop_*/v*.txt e2e/testdata/interop/
	$(GO) test -run '^TestRecordsAndPage$$' ./e2e/interop -update

LEASE_SEEDS ?= 20

.PHONY: soak-lease
soak-lease: need-go ## the lease's simulator for LEASE_SEEDS (20) times as many schedules
	LEASE_SEEDS=$(LEASE_SEEDS) $(GO) test -timeout 24h -count=1 -v -run 'Open|Caught|Every' ./cluster/lease

.PHONY: demo
demo: need-lab ## show a cluster serve and survive, on the terminal
	@$(LAB) demo

.PHONY: lab
lab: need-lab ## a shell in the lab
	@$(LAB) shell

.PHONY: bench
bench: need-lab ## measure failover beside keepalived (BENCH=list: what; BENCH="cut frozen": only these)
	@$(LAB) bench $(BENCH)

.PHONY: bench-pages
bench-pages: need-go ## take the newest records of make bench in and write docs/survival.md, size.md and health-speed.md anew
	$(GO) test -count=1 -run '^TestSurvivalPage$$' ./e2e/bench -update -record "$$(realpath "$$(ls $${LBCLUSTER_LAB_DIR:-.lab}/results/*/events.json | tail -1)")"
	$(GO) test -count=1 -run '^TestSizePage$$' ./e2e/scale -update -record "$$(realpath "$$(ls $${LBCLUSTER_LAB_DIR:-.lab}/results/*/size.json | tail -1)")"
	$(GO) test -count=1 -run '^TestHealthPage$$' ./e2e/health -update -record "$$(realpath "$$(ls $${LBCLUSTER_LAB_DIR:-.lab}/results/*/health.json | tail -1)")"

.PHONY: fetch
fetch: need-lab ## download and unpack what the lab is made of (about 100 MB)
	@$(LAB) fetch

.PHONY: clean
clean: ## remove bin/, dist/ and the lab's folder
	rm -rf bin dist .lab
