# What CI runs; changes nothing.
check:
    .ci/run

# Rewrites what can be rewritten.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty

# A cluster of three on this machine.
up:
    cargo run --release -- up

test:
    cargo test --workspace

# Every parser under libFuzzer (needs nightly and cargo-fuzz).
fuzz seconds="60" *targets:
    .ci/fuzz {{seconds}} {{targets}}

# Licences, advisories, bans (needs cargo-deny).
deny:
    cargo deny check

# Pontoon beside etcd and Redis (needs etcd-server and redis-server).
compare:
    cargo run --release --manifest-path bench/compare/Cargo.toml
