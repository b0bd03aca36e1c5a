#!/usr/bin/env bash
# Finds out what a file contains after a cut of the power at each write to the disk, when it is replaced by `>`, by `mv`
# without a sync, by sponge and by awrite: on ext4, xfs and btrfs, as they are mounted by default. It prints what
# cuts.txt has, from which draw.py makes the picture in the README, and fails if awrite has lost something, or if one of
# the others has not. To mount needs root. It takes some minutes.
#
# usage: tests/power/cuts.sh AWRITE >tests/power/cuts.txt     a statically linked awrite
#
# Needs what run.sh needs, and sponge. If something is missing it says so and does nothing; with CI=true it fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guest=cuts
# shellcheck source=tests/guest/guest.sh
. "$here/../guest/guest.sh"
# shellcheck source=tests/power/disks.sh
. "$here/disks.sh"

[ $# = 1 ] || { echo "usage: $0 AWRITE" >&2; exit 1; }
awrite=$(realpath "$1")
guest_needs mkfs.xfs mkfs.btrfs python3 sponge ldd
[ "$(id -u)" = 0 ] || guest_skip root

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
guest_kernel
add_program sponge
guest_initrd "$awrite" "$here/cuts-guest.sh" virtio_pci virtio_blk crc32c_generic ext4 xfs btrfs
make_disks
guest_boot 600 "" "${disks[@]}" >serial || true
if [ "$(grep -c '^cuts: .*: written$' serial)" != 3 ]; then
    echo "cuts: failed; the last lines of the guest:" >&2
    tail -n 20 serial | cut -c 1-300 >&2
    exit 1
fi

jobs=()
for kind in ext4 xfs btrfs; do
    PYTHONDONTWRITEBYTECODE=1 python3 "$here/cuts.py" "$kind" "$kind.base" "$kind.log" serial >"$kind.cuts" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do
    wait "$job"
done
for way in redirection mv sponge; do
    # Behind the name of the way and the number of the step.
    cat ./*.cuts | awk -v way="$way" '$2 == way { for (n = $3 + 4; n <= NF; n++) if ($n != "n") lost = 1 } END { exit !lost }' ||
        { echo "cuts: $way has lost nothing: what does the picture show?" >&2; exit 1; }
done
echo "# Linux $(basename kernel/lib/modules/*)"
cat ext4.cuts xfs.cuts btrfs.cuts
