#!/usr/bin/env bash
# Builds what a package ships: the binary, its manual pages and completion scripts.
#
#     tools/dist/build.sh [FOLDER [BINARY]]        default: target/dist, and a release binary, which is built
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-target/dist}
binary=${2:-${CARGO_TARGET_DIR:-target}/release/headstart}
[ -n "${2:-}" ] || cargo build --release -p headstart-cli
mkdir -p "$out/completions"
cp "$binary" README.md LICENSE-APACHE LICENSE-MIT "$out/"
"$binary" man "$out/man1" > /dev/null
for shell in bash zsh fish powershell elvish; do
    "$binary" completions "$shell" > "$out/completions/headstart.$shell"
done
# A page for each command that the program's own page names, and no file empty.
for command in $("$binary" help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
    test "$command" = help || test -s "$out/man1/headstart-$command.1"
done
test -z "$(find "$out" -type f -empty)"
echo "$out"
