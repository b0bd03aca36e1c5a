#!/bin/busybox sh
# The init of the guest that run.sh boots. It writes with awrite to each of its disks, which qemu records. Before and
# after each write it leaves a mark, which replay.py finds among the recorded writes. The rest, and the files after each
# write, go to the serial line:
#
#   phase DISK NAME NUMBER              the writes behind this number are of this phase
#   state DISK NUMBER FILE DIGEST
# shellcheck shell=ash
set -u
guest=power
# shellcheck source=tests/guest/boot.sh
. /boot.sh
ROUNDS=$(sed -n 's/.*rounds=\([0-9]*\).*/\1/p' /proc/cmdline)

# A mark is a discarded block on a partition of its own. A discard stays in no cache and comes without a flush, which
# would make earlier writes durable. The block's number tells the write; $1 is 0 before the write and 1 after it.
mark() {
    blkdiscard -o $(((2 * number + $1) * 512)) -l 512 "${device}2" || finish "cannot mark $device"
}

phase() {
    sync
    echo "phase $disk $1 $number"
}

state() {
    find . -type f -exec md5sum {} + | while read -r digest file; do
        echo "state $disk $number $file $digest"
    done
}

# A write, its input (a number that is to be its content's first line, or a word) and the arguments.
try() {
    local input=$1
    shift
    number=$((number + 1))
    mark 0
    if [ "$input" = - ]; then
        "$@" </dev/null >/dev/null || finish "failed: $*"
    else
        seq "$input" $((input + 2000)) | "$@" >/dev/null || finish "failed: $*"
    fi
}

# The write is acknowledged, and must survive from here on.
durable() {
    try "$@"
    mark 1
    state
}

# The write may be lost, but must be whole.
whole() {
    try "$@"
    state
}

# Without the sync of this number. The first is the file's.
unsynced() {
    local which=$1
    shift
    durable "$number" strace -f -o /tmp/trace -e trace=fsync -e "inject=fsync:retval=0:when=$which" "$@"
    grep -q INJECTED /tmp/trace || finish "strace has left out nothing"
}

round() {
    durable 1000"$1" awrite "new$1"
    durable 1001"$1" awrite f
    durable 1002"$1" awrite --stream f
    durable 1003"$1" awrite --append f
    durable 1004"$1" awrite --backup f
    durable 1005"$1" awrite --backup f
    durable 1006"$1" awrite --backup-mode 600 f
    durable 1007"$1" awrite --backup-dir d f
    durable 1008"$1" awrite --backup-timestamp f
    # Nobody has synced what is backed up.
    whole 1018"$1" sh -c "cat >fresh$1"
    durable 1019"$1" awrite --backup "fresh$1"
    whole 1020"$1" sh -c "cat >fresh-dated$1"
    durable 1021"$1" awrite --backup-timestamp "fresh-dated$1"
    durable - awrite f -- tr 0-9 "$1"a-j
    durable - awrite --mkdir "a$1/b/n" -- seq 9
    durable - awrite -i in f
    durable 1009"$1" awrite --lock-on-commit f
    durable 1010"$1" awrite --lock-method link f
    # shellcheck disable=SC2016 # the inner shell's
    durable 1011"$1" awrite --validate 'grep -q 1 "$AWRITE_NEW"' f
    durable 1012"$1" awrite --if-changed f
    durable - awrite --allow-empty f
    # The temporary file has a name, as over NFS and FUSE.
    durable 1013"$1" strace -f -o /dev/null -e trace=linkat -e inject=linkat:error=EPERM awrite f
    durable 1014"$1" strace -f -o /dev/null -e trace=linkat -e inject=linkat:error=EPERM awrite "named$1"
    whole 1015"$1" awrite --sync data f
    whole 1016"$1" awrite --sync data "data$1"
    durable - awrite lock --acquire --owner A --ttl 60s f
    durable 1017"$1" awrite --owner A f
    durable - awrite lock --refresh --owner A f
    whole - awrite lock --release --owner A f
}

on_disk() {
    local options=$3
    disk=$1 device=$2 number=0
    # shellcheck disable=SC2086 # options
    mount -t "$disk" $options "${device}1" /mnt || finish "cannot mount $disk"
    mkdir -p /mnt/w/d
    cd /mnt/w || finish "no directory"
    seq 5000 >in
    phase honest
    state
    for n in $(seq "$ROUNDS"); do
        round "$n"
    done
    phase unsynced-file
    unsynced 1 awrite nf1
    unsynced 1 awrite nf2
    phase unsynced-directory
    unsynced 2 awrite f
    unsynced 2 awrite nd1
    # The old content comes first.
    phase unsynced-backup
    for n in 1 2 3; do
        whole 1022 sh -c "cat >fresh-lost$n"
        unsynced 1 awrite --backup "fresh-lost$n"
    done
    cd /
    umount /mnt
    echo "power: $disk: $number writes"
}

# By default ext4 syncs by itself when a program renames without a sync. That would hide a missing one.
on_disk ext4 /dev/vda "-o noauto_da_alloc"
on_disk xfs /dev/vdb ""
on_disk btrfs /dev/vdc ""
finish "all written"
