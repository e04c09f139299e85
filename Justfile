# What people do with this project; `just` alone lists it. CI runs the same recipes.

export PATH := env("XDG_CACHE_HOME", env("HOME") / ".cache") / "fedora-message-operator/bin:" + env("PATH")

operator := "target/debug/fedora-message-operator"
manifests := "--apply crds/fedoramessages.yaml --apply manifests/base/admission-policy.yaml"
env_file := ".local/env"

# List the recipes
default:
    @just --list --unsorted

# See a FedoraMessage become a message on a real broker, received by fedora-messaging
demo *arguments:
    cargo build --quiet
    cargo run --quiet --package rig -- demo --operator {{operator}} --example docs/examples/hello-world.yaml {{manifests}} {{arguments}}

# Bring up Kubernetes and RabbitMQ for work of your own, until Ctrl-C
up:
    mkdir -p .local
    cargo run --quiet --package rig -- up {{manifests}} --env-file {{env_file}}

# End what `just up` brought up, from another terminal
down:
    @test -e {{env_file}} || { echo "nothing is up"; exit 1; }
    . ./{{env_file}} && kill "$RIG_PID"

# Run all tests, on real parts
test:
    cargo test --workspace

# Check style and common mistakes
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- --deny warnings

# Check licences, sources and duplicates of dependencies; and known vulnerabilities, where their list can be had
deny:
    cargo deny check bans licenses sources
    @if git ls-remote --quiet https://github.com/rustsec/advisory-db HEAD >/dev/null 2>&1; then cargo deny check advisories; else echo "not checked: vulnerabilities, as their list can't be reached from here"; fi

# Format the code
fmt:
    cargo fmt --all

# Generate the CRD from the Rust types
crds: 
    cargo run --quiet -- crd > crds/fedoramessages.yaml

# Measure: the operator's rate and the publisher's, beside the API server's own and the Python library's
bench:
    cargo bench --quiet --bench rates

# Build the program as it is shipped
build:
    cargo build --quiet --release --package fedora-message-operator

# Build or fetch the parts that tests, demo and benchmarks stand on
tools:
    cargo run --quiet --package rig -- tools

# Everything that CI checks
ci: lint deny test (demo "--once")
