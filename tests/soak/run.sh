#!/usr/bin/env bash
# Everything at once for an hour, or for SOAK_SECONDS: soak.py says what. In a directory of its own on a file system in
# memory, where there is one that is not small.
#
# usage: tests/soak/run.sh AWRITE LIBAWRITE.A [DIRECTORY]      DIRECTORY: where to make that directory instead
#
# SOAK_SEED repeats the choices of another run; which processes run beside each other is still left to the system.
# Needs cc and python3. Takes at most 1 GiB of disk and two dozen processes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

[ $# -ge 2 ] || { echo "usage: $0 AWRITE LIBAWRITE.A [DIRECTORY]" >&2; exit 1; }
for tool in cc python3; do
    command -v "$tool" >/dev/null || {
        echo "soak: not tried, for want of $tool"
        [ "${CI:-}" != true ]
        exit
    }
done
where=${3:-${TMPDIR:-/tmp}}
[ $# -gt 2 ] || [ ! -w /dev/shm ] || [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -lt 1048576 ] || where=/dev/shm
scratch=$(mktemp -d -p "$where")
trap 'rm -rf "$scratch"' EXIT
cc -O1 -std=c11 -pthread -I "$here/../../include" -o "$scratch/library" "$here/library.c" "$2" -lgcc_s -lutil -lrt \
    -lpthread -lm -ldl
mkdir "$scratch/work"
python3 -B "$here/soak.py" "$1" "$scratch/library" "$scratch/work" "${SOAK_SECONDS:-3600}" "${SOAK_SEED:-$RANDOM}"
