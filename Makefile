# Targets explain themselves: a "## text" after a target is its help line.
# Building, the demo and the tests need Go and nothing else.

BIN      := bin/yinqiao
LDFLAGS  := -s -w
FUZZTIME ?= 20000x
JOB      ?= psi.ecdh.v1
N        ?= 65536
NETS     ?= none lan wan

# Packages in which goroutines meet.
CONCURRENT := ./session/... ./node/... ./catalog/... ./internal/store/... ./internal/audit/... ./scratch/... ./mpc/parallel/... ./mpc/hesum/... ./mpc/secagg/... ./mpc/aggregate/... ./psi/...

GO_SOURCES := $(shell find . -name '*.go' -not -path './.bin/*' -not -name '*_test.go' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help build demo test outside race fuzz bench check fmt vet staticcheck lint proto clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BIN) ## build the program into bin/

$(BIN): $(GO_SOURCES) go.mod go.sum
	@echo "building $@" >&2 # standard output is the program's
	@CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o $@ ./cmd/yinqiao

demo: build ## watch a bank and a department train a joint credit model (DEMO_FLAGS="--json", "--keep DIR")
	@$(BIN) scenario run examples/credit $(DEMO_FLAGS)

test: ## run all tests
	go test ./...

outside: ## test and run the protocol that lives outside this module
	cd examples/outside-protocol && go vet ./... && go test ./... && go run . scenario run .

race: ## run the tests of concurrent packages under the race detector (needs a C compiler)
	go test -race -short $(CONCURRENT)

fuzz: ## fuzz every decoder FUZZTIME (20000x) times
	@for dir in $$(go list -f '{{.Dir}}' ./...); do \
		for target in $$(cat $$dir/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
			echo "== $${dir#$(CURDIR)/} $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$dir || exit 1; \
		done; \
	done

bench: build ## measure JOB with N rows over NETS (psi.ecdh.v1, 65536, "none lan wan")
	@for net in $(NETS); do $(BIN) bench run $(JOB) --n $(N) --net $$net || exit 1; done

check: vet staticcheck test ## what a change should pass before it is shown

fmt: ## format the code
	go tool -modfile=tools/go.mod gofumpt -w $$(go list -f '{{.Dir}}' ./... | grep -v /proto/)

vet: ## go vet, and gofmt has nothing to say
	go vet ./...
	@unformatted=$$(gofmt -l $$(go list -f '{{.Dir}}' ./...)); \
	if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi

staticcheck: ## run staticcheck
	go tool -modfile=tools/go.mod staticcheck ./...

lint: .bin/golangci-lint ## run golangci-lint (its first build takes minutes)
	.bin/golangci-lint run ./...

proto: .bin/buf .bin/protoc-gen-go .bin/protoc-gen-go-grpc ## generate code from proto/ (buf's first build takes minutes)
	.bin/buf lint
	.bin/buf generate

clean: ## remove what was built
	rm -rf bin .bin

# Tools are pinned in tools/. The two big ones have modules of their own, so
# that their dependencies do not move the versions of the others.
.bin/golangci-lint: tools/golangci-lint/go.mod
	go build -C tools/golangci-lint -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.bin/buf: tools/buf/go.mod
	go build -C tools/buf -o $(CURDIR)/$@ github.com/bufbuild/buf/cmd/buf

.bin/protoc-gen-go: tools/go.mod
	go build -C tools -o $(CURDIR)/$@ google.golang.org/protobuf/cmd/protoc-gen-go

.bin/protoc-gen-go-grpc: tools/go.mod
	go build -C tools -o $(CURDIR)/$@ google.golang.org/grpc/cmd/protoc-gen-go-grpc
