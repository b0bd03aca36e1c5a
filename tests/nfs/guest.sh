#!/bin/busybox sh
# The init of the guest that run.sh boots: an NFS server and two clients in one kernel. awrite runs on both clients.
# The second client is like another machine: it has its own network, host name, mounts, process ids and NFS cache. (Two
# mounts of one client are not enough: the server does not recall a delegation from a client because of itself.)
# shellcheck shell=ash
# shellcheck disable=SC2012,SC2016,SC2317,SC2329 # plain names; scripts for other shells; tests called by their names
set -u
guest=nfs
# shellcheck source=tests/guest/boot.sh
. /boot.sh
echo guest >/proc/sys/kernel/hostname

# An export without mountd: the kernel gets the answers of mountd in advance. The numbers: it never expires;
# NFSEXP_INSECURE_PORT, NOSUBTREECHECK, FSID.
ifconfig lo 127.0.0.1 up
mount -t ext4 /dev/vda /export
rmdir /export/lost+found
mkdir -p /var/lib/nfs/v4recovery
mount -t nfsd nfsd /proc/fs/nfsd
echo "nfsd 127.0.0.1 2147483647 localhost" >/proc/net/rpc/auth.unix.ip/channel
echo "nfsd 10.0.0.2 2147483647 localhost" >/proc/net/rpc/auth.unix.ip/channel
echo "localhost /export 2147483647 9218 65534 65534 0" >/proc/net/rpc/nfsd.export/channel
# The file system's id is four bytes of zero, written as the kernel reads them.
printf '%s\n' 'localhost 1 \x00000000 2147483647 /export' >/proc/net/rpc/nfsd.fh/channel
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
echo "-3 +4 +4.1 +4.2" >/proc/fs/nfsd/versions
echo "tcp 2049" >/proc/fs/nfsd/portlist
echo 4 >/proc/fs/nfsd/threads
echo Y >/proc/fs/nfsd/v4_end_grace
mount_export() {
    mount -t nfs -o "vers=4.2,addr=$1,clientaddr=$2,nolock" "$1:/" /mnt && [ "$(stat -f -c %t /mnt)" = 6969 ]
}

# The other machine.
ip link add type veth
unshare --net --uts --mount --pid --fork -- tail -f /dev/null &
keeper=$!
other=
for _ in $(seq 1000); do
    read -r other _ <"/proc/$keeper/task/$keeper/children"
    [ -z "$other" ] || break
    usleep 10000
done
ip link set veth1 netns "$other"
ip addr add 10.0.0.1/24 dev veth0
ip link set veth0 up
# Runs its arguments on the other machine.
elsewhere() {
    nsenter -t "$other" -n -u -m -p -- "$@"
}
elsewhere sh -c 'hostname other; mount --make-rprivate /; mount -t proc proc /proc
    ip addr add 10.0.0.2/24 dev veth1; ip link set veth1 up'

mount_export 127.0.0.1 127.0.0.1 || finish "cannot mount"
elsewhere mount -t nfs -o vers=4.2,addr=10.0.0.1,clientaddr=10.0.0.2,nolock 10.0.0.1:/ /mnt ||
    finish "cannot mount twice"

cd /tmp || finish "no /tmp"

# Waits until its arguments succeed, at most a minute.
until_true() {
    local end
    end=$(($(cut -d. -f1 /proc/uptime) + 60))
    until "$@"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || return 1
        usleep 20000
    done
}

# Only these names are in the export. A removed file that somebody has open for an instant is called .nfs… meanwhile.
holds() {
    local expected=$*
    until_true only "$expected" || { ls -lA /export; return 1; }
}
only() {
    [ "$(cd /export && ls -A | sort | xargs)" = "$1" ]
}

says() {
    grep -qF -- "$1" err || { echo "wanted: $1"; cat err; return 1; }
}

# Its status must be $1.
status() {
    local wanted=$1 got=0
    shift
    # The trace of a function would go into err too.
    set +x
    "$@" 2>err || got=$?
    set -x
    [ "$got" = "$wanted" ] || { echo "status $got, not $wanted: $*"; cat err; return 1; }
}

write() {
    local content=$1
    shift
    printf '%s' "$content" | awrite "$@"
}

write_elsewhere() {
    local content=$1
    shift
    printf '%s' "$content" | elsewhere awrite "$@"
}

# $1 has the content $2 on both machines. A client may use a cached name for up to a minute; to list the directory makes
# it ask the server.
content() {
    local here there
    ls -A "${1%/*}" >/dev/null
    here=$(cat "$1")
    there=$(elsewhere sh -c 'ls -A "${1%/*}" >/dev/null; cat "$1"' sh "$1")
    [ "$here" = "$2" ] || { echo "$1 here: $(echo "$here" | head -c 50 | od -c)"; return 1; }
    [ "$there" = "$2" ] || { echo "$1 elsewhere: $(echo "$there" | head -c 50 | od -c)"; return 1; }
}

# Waits until a process here holds the lock of f and its heartbeat runs; prints which.
pid_in_lock() {
    sed -n 's/.*"pid":\([0-9]*\).*/\1/p' /export/f.lock 2>/dev/null
}
is_held() {
    cat "/proc/$(pid_in_lock)/task/"*/comm 2>/dev/null | grep -q awrite-heartbea
}
holder() {
    until_true is_held && pid_in_lock
}

INCREMENT='read n; echo $((n + 1))'
HOLD='cat >/dev/null; until [ -e /tmp/go ]; do usleep 10000; done; echo held'

link_locks_are_chosen_and_it_says_so() {
    status 0 write one /mnt/f && says "Warning: /mnt/f: NFS: advisory locks are unreliable here, using link locks" &&
        content /mnt/f one && status 0 write_elsewhere two -q /mnt/f && [ ! -s err ] && content /mnt/f two &&
        status 0 write three -vv /mnt/f && says "f.lock: locking by link (NFS)" && holds f
}

flock_can_be_asked_for() {
    status 0 write four -vv --lock-method flock /mnt/f && says "locking by flock (asked for)" && content /mnt/f four &&
        AWRITE_LOCK_METHOD=flock status 0 write_elsewhere five -t 20 /mnt/f && [ ! -s err ] && content /mnt/f five &&
        holds f
}

local_directories_keep_flock() {
    status 0 write one -vv /tmp/f && says "locking by flock (local)"
}

every_kind_of_write() {
    dd if=/dev/urandom of=/tmp/big bs=64k count=40 2>/dev/null
    chmod 640 /mnt/f
    {
        # A file, streamed; the backup is a link.
        status 0 awrite -q --stream --backup -i /tmp/big /mnt/f && cmp /tmp/big /export/f &&
            elsewhere sh -c 'ls /mnt >/dev/null; cmp /tmp/big /mnt/f' && content /mnt/f.backup five &&
            [ "$(stat -c %a /mnt/f)" = 640 ] &&
            # A pipe, streamed; the backup is a copy.
            status 0 write_elsewhere piped -q --stream --backup --backup-mode 600 /mnt/f && content /mnt/f piped &&
            cmp /tmp/big /export/f.backup && [ "$(stat -c %a /mnt/f.backup)" = 600 ] &&
            # Append to what the other machine wrote.
            status 0 write "+here" -q --append /mnt/f && status 0 write_elsewhere "+there" -q --append /mnt/f &&
            content /mnt/f "piped+here+there" &&
            # Through a command, the file itself as input, the lock late.
            status 0 awrite -q /mnt/f -- tr a-z A-Z && content /mnt/f "PIPED+HERE+THERE" &&
            status 0 awrite -q -i /mnt/f --mode 600 /mnt/f && [ "$(stat -c %a /mnt/f)" = 600 ] &&
            status 0 write late -q --lock-on-commit --validate '[ "$(cat "$AWRITE_NEW")" = late ]' /mnt/f &&
            content /mnt/f late &&
            # New directories, a timestamped backup elsewhere.
            status 0 write new -q --mkdir /mnt/a/b/new && content /mnt/a/b/new new &&
            status 0 write newer -q --backup-dir /mnt/a --backup-timestamp /mnt/a/b/new &&
            [ "$(cat /export/a/new.*.backup)" = new ] && content /mnt/a/b/new newer &&
            # Where something is mounted.
            touch /mnt/in-place && mount --bind /mnt/f /mnt/in-place && status 1 write x -q /mnt/in-place &&
            status 0 write over --in-place /mnt/in-place && umount /mnt/in-place && content /mnt/f over
    } || return 1
    rm -r /mnt/f.backup /mnt/a /mnt/in-place
    holds f
}

refused_writes_change_nothing() {
    local before
    before=$(stat -c '%i %Y' /export/f)
    status 0 write over -q --if-changed /mnt/f && status 0 write_elsewhere over -q --if-changed /mnt/f &&
        status 1 write "" -q /mnt/f && status 1 awrite -q /mnt/f -- sh -c 'echo half; exit 4' &&
        status 1 write bad -q --validate false /mnt/f && status 1 awrite -q -i /mnt/missing /mnt/f &&
        [ "$(stat -c '%i %Y' /export/f)" = "$before" ] && content /mnt/f over && status 0 write seven -q /mnt/f && holds f
}

a_holder_keeps_all_others_out() {
    local pid result=0
    awrite -q /mnt/f -- sh -c "$HOLD" &
    pid=$(holder)
    {
        status 2 write x -q -n /mnt/f && says "File locked by another process" && says "held by PID $pid (awrite" &&
            status 2 write_elsewhere x -q -n /mnt/f && says "held by PID $pid on guest" &&
            status 2 write_elsewhere x -q -t 1 /mnt/f && says "timeout after 1s" &&
            status 2 write x -q -n --lock-method flock /mnt/f && content /mnt/f seven
    } || result=1
    touch /tmp/go
    wait "$!"
    rm /tmp/go
    content /mnt/f held && holds f && return $result
}

it_is_handed_over() {
    awrite -q /mnt/f -- sh -c "$HOLD" &
    holder >/dev/null
    write_elsewhere next /mnt/f 2>err &
    until_true grep -q Waiting err
    touch /tmp/go
    wait "$!"
    rm /tmp/go
    says "Lock acquired" && content /mnt/f next && holds f
}

no_update_is_lost() {
    local n jobs=
    echo 0 >/mnt/count
    for n in 1 2 3 4 5 6 7 8; do
        awrite -q /mnt/count -- sh -c "$INCREMENT" &
        jobs="$jobs $!"
        elsewhere awrite -q /mnt/count -- sh -c "$INCREMENT" &
        jobs="$jobs $!"
    done
    for n in $jobs; do wait "$n" || return 1; done
    content /mnt/count 16 && rm /mnt/count && holds f
}

nested_ones_go_on_under_it() {
    local n jobs=
    echo 0 >/mnt/count
    for n in 1 2 3 4; do
        # shellcheck disable=SC2016 # the inner shell's
        awrite lock -q /mnt/count -- sh -c 'for n in 1 2 3; do awrite -q /mnt/count -- sh -c "$0" & done; wait' \
            "$INCREMENT" &
        jobs="$jobs $!"
        elsewhere awrite -q /mnt/count -- sh -c "$INCREMENT" &
        jobs="$jobs $!"
    done
    for n in $jobs; do wait "$n" || return 1; done
    content /mnt/count 16 && rm /mnt/count && holds f
}

a_dead_holder_s_lock_is_free_at_once() {
    local n
    for n in 1 2 3; do
        sleep 1000 | awrite -q /mnt/f &
        kill -KILL "$(holder)"
        killall sleep
        status 0 write "$n" -q -t 10 /mnt/f && content /mnt/f "$n" && holds f || return 1
    done
}

elsewhere_it_is_free_after_its_stale_time() {
    sleep 1000 | AWRITE_STALE_AFTER=3 awrite -q /mnt/f &
    holder >/dev/null
    # Longer than the stale time: a living holder keeps the lock.
    status 2 write_elsewhere x -q -t 5 /mnt/f || return 1
    kill -KILL "$(holder)"
    killall sleep
    status 2 write_elsewhere x -q -n /mnt/f || return 1
    status 0 write_elsewhere broken -q -t 30 /mnt/f || return 1
    content /mnt/f broken && holds f
}

a_stopped_holder_finds_its_lock_lost() {
    local stopped got=0
    mkfifo /tmp/input
    AWRITE_STALE_AFTER=2 awrite -q /mnt/f </tmp/input 2>/tmp/stopped &
    stopped=$!
    exec 8>/tmp/input
    holder >/dev/null
    kill -STOP $stopped
    status 0 write_elsewhere theirs -q -t 30 /mnt/f || return 1
    echo late >&8
    exec 8>&-
    kill -CONT $stopped
    wait $stopped || got=$?
    cp /tmp/stopped err
    [ $got = 2 ] || echo "status $got"
    says "Error: /mnt/f: Lock lost" && [ $got = 2 ] && content /mnt/f theirs && holds f
}

an_interrupted_waiter_leaves_nothing() {
    local holder waiter got=0
    awrite -q /mnt/f -- sh -c "$HOLD" &
    holder=$!
    holder >/dev/null
    awrite /mnt/f </tmp/big 2>/tmp/waiter &
    waiter=$!
    until_true grep -q Waiting /tmp/waiter
    kill -TERM $waiter
    wait $waiter || got=$?
    touch /tmp/go
    wait "$holder" && [ $got = 3 ] && content /mnt/f held && holds f
}

passed=0
for test in link_locks_are_chosen_and_it_says_so flock_can_be_asked_for local_directories_keep_flock \
    every_kind_of_write refused_writes_change_nothing a_holder_keeps_all_others_out it_is_handed_over no_update_is_lost \
    nested_ones_go_on_under_it \
    a_dead_holder_s_lock_is_free_at_once elsewhere_it_is_free_after_its_stale_time \
    a_stopped_holder_finds_its_lock_lost an_interrupted_waiter_leaves_nothing; do
    # The trace is shown when a test fails, without control characters.
    result=0
    set -x
    $test >out 2>trace || result=$?
    set +x 2>/dev/null
    if [ $result != 0 ]; then
        echo "not ok $test"
        tail -n 25 trace | cat - out | cut -c 1-300 | tr -c ' -~\n' '?' | sed 's/^/  /'
        finish "$test failed"
    fi
    passed=$((passed + 1))
    echo "ok $test ($(cut -d' ' -f1 /proc/uptime) s)"
done
finish "all $passed passed"
