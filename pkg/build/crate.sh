#!/usr/bin/env bash
# Packs the crate as it would be published, in target/package. Then runs its tests, installs the commands from it and
# tries them.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

cargo package --locked --quiet --no-verify --allow-dirty
tar -C "$scratch" -xzf "$target_dir/package/$crate-$version.crate"
ls -l "$target_dir/package/$crate-$version.crate"
# What is packed is enough for the tests within the sources.
(cd "$scratch/$crate-$version" && CARGO_TARGET_DIR=$scratch/target cargo test --locked --quiet --lib --bins)
# It needs a target directory of its own: in this tree's, cargo would take what was built from this tree.
cargo install --locked --quiet --path "$scratch/$crate-$version" --root "$scratch/root" --target-dir "$scratch/target"
"$scratch/root/bin/awrite" --install "$scratch/root/bin"
bash pkg/build/smoke.sh "$scratch/root/bin"
