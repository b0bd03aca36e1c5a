#!/usr/bin/env bash
# Packs the crate as it would be published, in target/package, installs the commands from what is packed, and tries them.
# shellcheck source=pkg/build/common.sh
. "$(dirname "$0")/common.sh"

cargo package --locked --quiet --no-verify --allow-dirty
tar -C "$scratch" -xzf "$target_dir/package/awrite-$version.crate"
ls -l "$target_dir/package/awrite-$version.crate"
cargo install --locked --quiet --path "$scratch/awrite-$version" --root "$scratch/root" --target-dir "$target_dir"
"$scratch/root/bin/awrite" --install "$scratch/root/bin"
bash pkg/build/smoke.sh "$scratch/root/bin"
