#!/bin/busybox sh
# The init of the guest that run.sh boots. It writes with awrite to each of its disks, which qemu records. Before and
# after each write it leaves a mark, which replay.py finds among the recorded writes. The rest, and the files after each
# write, go to the serial line:
#
#   phase DISK NAME NUMBER DIRECTORY    the writes behind this number are of this phase, to files in the directory
#   state DISK NUMBER FILE DIGEST
# shellcheck shell=ash
set -u
guest=power
# shellcheck source=tests/guest/boot.sh
. /boot.sh
ROUNDS=$(sed -n 's/.*rounds=\([0-9]*\).*/\1/p' /proc/cmdline)
SETS=$(sed -n 's/.*sets=\([0-9]*\).*/\1/p' /proc/cmdline)

# A mark is a discarded block on a partition of its own. A discard stays in no cache and comes without a flush, which
# would make earlier writes durable. The block's number tells the write; $1 is 0 before the write and 1 after it.
mark() {
    blkdiscard -o $(((2 * number + $1) * 512)) -l 512 "${device}2" || finish "cannot mark $device"
}

state() {
    find . -type f -exec md5sum {} + | while read -r digest file; do
        echo "state $disk $number $file $digest"
    done
}

# phase NAME DIRECTORY
phase() {
    mkdir -p "/mnt/$2"
    cd "/mnt/$2" || finish "no directory"
    # What the phase begins with is durable.
    : >>kept
    sync
    echo "phase $disk $1 $number $2"
    number=$((number + 1))
    mark 1
    state
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

# Without the syncs of these numbers, as strace wants them. The first is the file's.
unsynced() {
    local call=$1 which=$2
    shift 2
    durable "$number" strace -f -o /tmp/trace -e "trace=$call" -e "inject=$call:retval=0:when=$which" "$@"
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

# new FILE...: what is to replace these files together. All contents differ.
new() {
    local file
    rm -rf /tmp/new
    mkdir -p /tmp/new/x
    for file; do
        serial=$((serial + 1))
        case $file in
            # btrfs keeps so small a file beside its inode.
            a) echo "$serial" ;;
            *) seq "$serial" $((serial + 1500)) ;;
        esac >"/tmp/new/$file"
    done
}

few="a b x/c"
# More than are synced one by one.
many="a b c d e f x/g x/h x/i x/j x/k x/l"

# shellcheck disable=SC2086 # names without blanks
sets() {
    local n file
    phase set set
    for n in $(seq "$SETS"); do
        new $few
        durable - awrite --mkdir --into . /tmp/new/
        new $few
        durable - awrite --backup --into . /tmp/new/
    done
    mkdir -p /mnt/leased/x
    for file in $few; do
        awrite lock --acquire --owner A --ttl 10h "/mnt/leased/$file" >/dev/null || finish "no lease"
    done
    phase set-leased leased
    for n in $(seq "$SETS"); do
        new $few
        durable - awrite --owner A --backup --into . /tmp/new/
    done
    phase set-many many
    for n in $(seq "$ROUNDS"); do
        new $many
        durable - awrite --mkdir --into . /tmp/new/
        new $many
        durable - awrite --backup --into . /tmp/new/
    done
}

# What is synced: 1 and 2 are the records, one for each directory; 3 to 8 the contents, the journal's draft, and both
# directories; then, behind the commit point, the directories again.
# shellcheck disable=SC2086
unsynced_sets() {
    phase unsynced-set set
    new $few
    unsynced fsync 3..8 awrite --into . /tmp/new/
    phase unsynced-record set
    new $few
    unsynced fsync 1..2 awrite --into . /tmp/new/
    phase unsynced-many many
    new $many
    unsynced syncfs 1 awrite --into . /tmp/new/
}

on_disk() {
    local options=$3
    disk=$1 device=$2 number=0 serial=0
    # shellcheck disable=SC2086 # options
    mount -t "$disk" $options "${device}1" /mnt || finish "cannot mount $disk"
    mkdir -p /mnt/w/d
    seq 5000 >/mnt/w/in
    phase honest w
    for n in $(seq "$ROUNDS"); do
        round "$n"
    done
    phase unsynced-file w
    unsynced fsync 1 awrite nf1
    unsynced fsync 1 awrite nf2
    phase unsynced-directory w
    unsynced fsync 2 awrite f
    unsynced fsync 2 awrite nd1
    # The old content comes first.
    phase unsynced-backup w
    for n in 1 2 3; do
        whole 1022 sh -c "cat >fresh-lost$n"
        unsynced fsync 1 awrite --backup "fresh-lost$n"
    done
    sets
    unsynced_sets
    cd /
    umount /mnt
    echo "power: $disk: $number writes"
}

# By default ext4 syncs by itself when a program renames without a sync. That would hide a missing one.
on_disk ext4 /dev/vda "-o noauto_da_alloc"
on_disk xfs /dev/vdb ""
on_disk btrfs /dev/vdc ""
finish "all written"
