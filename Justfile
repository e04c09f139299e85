# What people do with this project; `just` alone lists it. CI runs the same recipes.

export PATH := env("XDG_CACHE_HOME", env("HOME") / ".cache") / "fedora-message-operator/bin:" + env("PATH")

env_file := ".local/env"

# List the recipes
default:
    @just --list --unsorted

# See a FedoraMessage become a message on a real broker, received by fedora-messaging; --pods: sent by a Pod
demo *arguments:
    cargo demo {{arguments}}

# Bring up Kubernetes and RabbitMQ for work of your own, until Ctrl-C; --node: with a node that runs Pods
up *arguments:
    mkdir -p .local
    cargo run --quiet --package rig -- up --env-file {{env_file}} {{arguments}}

# End what `just up` brought up, from another terminal
down:
    @test -e {{env_file}} || { echo "nothing is up"; exit 1; }
    . ./{{env_file}} && kill "$RIG_PID"

# Build all tests, and the program that they test
build-tests:
    cargo test --workspace --all-features --no-run

# Run all tests, on real parts
test:
    #!/usr/bin/env bash
    set -euo pipefail
    just build-tests
    # Some need the image, which takes minutes to build, and most wait more than they work.
    mkdir -p target
    setsid nice -n 19 images/build operator target/operator.tar > target/operator.log 2>&1 &
    trap 'kill -- -$! 2> /dev/null || true' EXIT
    cargo test --workspace --all-features

# Run the tests of what a broker answers on RabbitMQ 4.0 too
rabbitmq-4: build-tests
    RABBITMQ=4.0 cargo test --workspace --all-features --test real -- fidelity catalog::deliveries catalog::secrets certificates:: check:: late::
    RABBITMQ=4.0 cargo test --workspace --all-features --test network -- limits:: refusals::

# Run the tests of `real` on the older versions of Kubernetes, or on those named (docs/install.md has the results).
# The catalog has the exact refusals of the newest API server, so those are not compared.
matrix *VERSIONS="1.32.13 1.33.13 1.34.4 1.36.3": build-tests
    #!/usr/bin/env bash
    set -euo pipefail
    failed=()
    for version in {{VERSIONS}}; do
        echo "Kubernetes $version"
        KUBERNETES=$version cargo test --workspace --all-features --test real -- --skip messages::admission_refuses ||
            failed+=("$version")
    done
    [ "${#failed[@]}" -eq 0 ] || { echo "failed on ${failed[*]}"; exit 1; }

# Break real parts in full flow; FAULTS_MESSAGES=10000 for a large run, FAULTS_SEED for another one
faults: build-tests
    cargo test --workspace --all-features --test faults --test network --test spread -- --nocapture

# Check style and common mistakes
lint:
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    cargo clippy --workspace --all-targets --all-features -- --deny warnings

# Check the language of documents, comments and texts: one vocabulary (Vale, .vale/House), spelling (typos)
prose:
    typos
    git grep --untracked --files-with-matches --null '' -- '*.md' '*.rs' '*.yaml' '*.toml' | xargs -0 vale --output=line

# Check scripts (shellcheck), workflows for hosted CI (actionlint), and the form of Markdown (rumdl)
files:
    git grep --untracked --files-with-matches --null --extended-regexp '^#!.*[/ ](bash|sh)$' | xargs -0 shellcheck
    actionlint .github/workflows/*.yaml .forgejo/workflows/*.yaml docs/examples/integrations/github-workflow.yaml
    rumdl check --quiet

# What to run before each commit: it needs no Kubernetes, no RabbitMQ, no root
check: lint prose files
    cargo check --quiet --package fedora-message
    cargo test --quiet

# Check licenses, sources and duplicates of dependencies; and known vulnerabilities, where their list can be had
deny:
    cargo deny check bans licenses sources
    @if git ls-remote --quiet https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then cargo deny check advisories; else echo "not checked: vulnerabilities, as their list can't be reached from here"; fi

# Give hostile input to what reads resources, Secrets and files: so many seconds for each target, or for those named
fuzz SECONDS="60" *TARGETS:
    fuzz/run {{SECONDS}} {{TARGETS}}

# Test the alerts, and check the dashboard's queries (builds promtool if there is none: some minutes, once)
alerts:
    e2e/alerts/run

# Format the code
fmt:
    cargo fmt --all
    cargo fmt --manifest-path fuzz/Cargo.toml

# Generate the CRDs and their page of docs from the Rust types
crds: && chart
    cargo run --quiet -- crd fedoramessages > crds/fedoramessages.yaml
    cargo run --quiet -- crd fedoramessagesenders > crds/fedoramessagesenders.yaml
    WRITE_DOCS=1 cargo test --quiet --lib reference_is_up_to_date

# Copy the manifests that the Helm chart's templates read
chart:
    charts/generate

# Write the page of docs about metrics from the code
metrics:
    WRITE_DOCS=1 cargo test --quiet --lib page_of_metrics

# Export the schemas of the packages in schemas/packages.txt, for --schema-catalog; and the page that lists them
schemas FILE="schemas/catalog.json":
    cargo run --quiet --package rig -- schemas {{FILE}} --list docs/schema-list.md

# Write the manual pages and completion scripts into a folder
manual FOLDER="target/manual":
    cargo run --quiet --example manual -- {{FOLDER}}

# Measure all goals for speed in one run of some minutes, or those named: a missed ratio fails it (docs/performance.md)
bench *ONLY: build
    cargo bench --quiet --package e2e --bench goals -- {{ONLY}}

# The same with few messages and generous goals, in a debug build: what holds on any machine
bench-short *ONLY: build-tests
    cargo test --quiet --workspace --all-features --bench goals -- --short {{ONLY}}

# Count the instructions of a message's way, beside the baseline (Linux, x86-64); --accept: make them the baseline
instructions *ARGUMENTS:
    cargo bench --quiet --workspace --all-features --config e2e/benches/instructions/profile.toml --profile dev --bench instructions -- {{ARGUMENTS}}

# Measure what the API server's own rate of status writes depends on: how many at a time, which kind of request
bench-writes: build
    cargo bench --quiet --package e2e --bench writes

# Measure delivery by Pods beside direct delivery, on a node (Linux, root)
bench-modes: build
    cargo bench --quiet --package e2e --bench modes

# Measure what a check against a schema costs, beside the Python library
bench-schemas:
    cargo bench --quiet --package e2e --bench schemas

# Build the program as it is shipped
build:
    cargo build --quiet --release --package fedora-message-operator

# Build the operator's image as an archive; --platform linux/arm64: for another processor
image FILE="target/operator.tar" *ARGUMENTS:
    @mkdir -p target
    images/build operator {{FILE}} {{ARGUMENTS}}

# Build the image here and from a clone elsewhere, and compare: it has to be the same to the byte
reproducible:
    images/reproducible

# List what the program is made from, as CycloneDX; needs `.ci/install release`
sbom FILE="target/fedora-message-operator.cdx.json":
    @mkdir -p target
    images/sbom {{FILE}}

# Build the operator's Containerfile with a Docker engine, and compare it with `just image` (some minutes; root)
containerfiles: build-tests
    cargo test --workspace --all-features --test docker -- --ignored

# Compare docker-compose.yml's broker with the tests'; `just test` does it too
compose-check:
    cargo test --quiet --package rig --test compose

# Make a release on this machine, and push nothing; IMAGE is the name of its image (docs/releasing.md)
release:
    .ci/release

# Build an RPM from this commit (needs rpmbuild; some minutes)
rpm FOLDER="target/rpm":
    mkdir -p {{FOLDER}}
    packaging/sources {{FOLDER}}
    rpmbuild -bb --nodeps --define "_sourcedir $PWD/{{FOLDER}}" --define "_topdir $PWD/{{FOLDER}}" packaging/fedora-message-operator.spec

# Build or fetch the parts that tests, demo and benchmarks stand on
tools:
    cargo run --quiet --package rig -- tools

# Everything that CI checks
ci: lint prose files deny alerts test rabbitmq-4 bench-short instructions (fuzz "10") (demo "--once")
