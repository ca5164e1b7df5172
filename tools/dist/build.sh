#!/usr/bin/env bash
# Builds what a package ships: the binary, its manual pages and completion scripts.
#
#     tools/dist/build.sh [FOLDER]        default: target/dist
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-target/dist}
cargo build --release -p headstart-cli
mkdir -p "$out/completions"
cp target/release/headstart README.md LICENSE-APACHE LICENSE-MIT "$out/"
./target/release/headstart man "$out/man1" > /dev/null
for shell in bash zsh fish powershell elvish; do
    ./target/release/headstart completions "$shell" > "$out/completions/headstart.$shell"
done
echo "$out"
