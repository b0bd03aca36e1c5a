#!/usr/bin/env bash
# Do the tests notice when the code is wrong? Breaks the sources in a small way, again and again: an operator, a condition,
# a whole function. Fails if a test run passes all the same, unless .cargo/mutants.toml says why that is right.
#
#     bash tests/mutants.sh [ROOM [PARTS [PART]]]
#
# ROOM is one of those below; all of them by default. One mutant in PARTS is tried, by default one in 80: some forty. PART
# says which, from 0; by default others each time. Needs cargo-mutants (cargo install cargo-mutants).
set -euo pipefail
cd "$(dirname "$0")/.."
parts=${2:-80}
part=${3:-$((RANDOM % parts))}
# Every test is run for every mutant: in the quick form.
export AWRITE_TEST_LONG=0 CARGO_PROFILE_DEV_DEBUG=0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CARGO_TARGET_DIR=$scratch/target
mkdir "$scratch/tree"
git ls-files -z -co --exclude-standard | xargs -0 cp --parents -t "$scratch/tree"

mutants() {
    local room=$1
    shift
    cargo mutants --dir "$scratch/tree" --in-place --output "$scratch/$room" --minimum-test-timeout 120 --no-times \
        --colors never "$@" || case $? in
        2 | 3) ;; # some were missed, or timed out, which is noticing too
        *) return 1 ;;
    esac
}

# The tests that are about a room notice most mutants, in a fraction of the time.
room() {
    local room=$1 file files tests
    local only=()
    read -ra files <<<"$2"
    for file in "${files[@]}"; do only+=(--file "$file"); done
    read -ra tests <<<"$3"
    echo "==> $room: part $part of $parts"
    mutants "$room" "${only[@]}" --sharding round-robin --shard "$part/$parts" -- --locked --lib --test it -- \
        --skip power:: "${tests[@]}"
}

rooms() {
    case $1 in
        write)
            room write 'src/write/** src/commit.rs' \
                'write:: commit:: expect:: stream:: sets:: into:: edit:: fuse:: users:: protocol::'
            ;;
        lock)
            room lock 'src/lock/**' \
                'lock:: lock_applet:: around:: nesting:: under:: takeover:: strangers:: holds:: users:: protocol::'
            ;;
        lease) room lease 'src/lease/**' 'lease:: lease_applet:: store:: sets:: users:: protocol::' ;;
        housekeep) room housekeep 'src/housekeep/**' 'housekeep:: backup_keep:: sets:: users:: protocol::' ;;
        files)
            room files 'src/backup.rs src/old_backups.rs src/stage.rs src/metadata.rs' \
                'backup:: backup_keep:: backup_steps:: write:: commit:: users:: signals:: sets::backups protocol::'
            ;;
        all) for room in write lock lease housekeep files; do rooms "$room"; done ;;
        *) echo "tests/mutants.sh: no room \"$1\"" >&2 && return 1 ;;
    esac
}

rooms "${1:-all}"
# What those have missed, all tests may notice.
missed=$(cat "$scratch"/*/mutants.out/missed.txt)
if [ -n "$missed" ]; then
    any=$(sed 's/[][\.*^$+?(){}|]/\\&/g; s/^/^/; s/$/$/' <<<"$missed" | paste -s -d '|')
    mutants again --baseline skip --timeout 600 --re "$any" -- --locked --lib --bins --test it
    missed=$(cat "$scratch/again/mutants.out/missed.txt")
fi
for outcome in caught timeout unviable; do
    printf '%s: %d\n' "$outcome" "$(cat "$scratch"/*/mutants.out/$outcome.txt | wc -l)"
done
[ -z "$missed" ] || { printf 'missed:\n%s\n' "$missed"; exit 1; }
