#!/bin/busybox sh
# The init of the guests that run.sh boots: an NFS server (`role=server`), or a client of it (`role=a`, `role=b`). After
# that it does what control.py tells it on the second serial line:
#
#   NUMBER COMMAND      to the guest; COMMAND is run in the background by a shell
#   NUMBER STATUS TEXT  from it, when COMMAND has ended; TEXT is what it printed, in base64
#
# The server has a line to each client, and no line leads from one client to the other.
# shellcheck shell=ash
set -u
guest=machines
# shellcheck source=tests/guest/boot.sh
. /boot.sh
# Otherwise a server that is reset, and a client that is cut off, would print what everybody expects of them.
echo 1 >/proc/sys/kernel/printk
role=$(sed -n 's/.*role=\([a-z]*\).*/\1/p' /proc/cmdline)
echo "$role" >/proc/sys/kernel/hostname
ifconfig lo 127.0.0.1 up

# An export without mountd, as in tests/nfs. The second boot of a server gives its clients time to claim what they had;
# who they are is on the disk.
serve() {
    local client first=Y
    ifconfig eth0 10.0.1.1 netmask 255.255.255.0 up
    ifconfig eth1 10.0.2.1 netmask 255.255.255.0 up
    mount -t ext4 /dev/vda /disk
    [ ! -d /disk/clients ] || first=
    mkdir -p /disk/export /disk/clients /var/lib/nfs/v4recovery
    mount --bind /disk/clients /var/lib/nfs/v4recovery
    ln -s /disk/export /export
    mount -t nfsd nfsd /proc/fs/nfsd
    for client in 10.0.1.2 10.0.2.2; do
        echo "nfsd $client 2147483647 clients" >/proc/net/rpc/auth.unix.ip/channel
    done
    echo "clients /disk/export 2147483647 9218 65534 65534 0" >/proc/net/rpc/nfsd.export/channel
    printf '%s\n' 'clients 1 \x00000000 2147483647 /disk/export' >/proc/net/rpc/nfsd.fh/channel
    # The shortest that the kernel takes.
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    echo "-3 +4 +4.1 +4.2" >/proc/fs/nfsd/versions
    echo "tcp 2049" >/proc/fs/nfsd/portlist
    echo 4 >/proc/fs/nfsd/threads
    [ -z "$first" ] || echo Y >/proc/fs/nfsd/v4_end_grace
}

# A hard mount, as is usual: what the server does not answer waits.
use() {
    local net=$1
    ifconfig eth0 "10.0.$net.2" netmask 255.255.255.0 up
    until mount -t nfs -o "vers=4.2,addr=10.0.$net.1,clientaddr=10.0.$net.2,nolock" "10.0.$net.1:/" /mnt 2>/tmp/mount.log; do
        usleep 50000
    done
    [ "$(stat -f -c %t /mnt)" = 6969 ] || finish "$(cat /tmp/mount.log)"
}

case $role in
    server) serve ;;
    a) use 1 ;;
    b) use 2 ;;
    *) finish "no role" ;;
esac

stty -F /dev/ttyS1 115200 raw -echo
exec 3<>/dev/ttyS1
# One answer at a time.
tell() {
    flock 9
    printf '%s %s %s\n' "$1" "$2" "$(tail -c 1500 "$3" | base64 | tr -d '\n')" >&3
} 9>/tmp/turn
: >/tmp/nothing
tell 0 0 /tmp/nothing
cd /tmp || finish "no /tmp"
run() {
    local got=0
    sh -c "$2" >"out$1" 2>&1 3<&- || got=$?
    tell "$1" $got "out$1"
    rm "out$1"
}
# Nobody who reads lines here may get a signal of a child that has ended: this shell would drop the part of a line that it
# has read. So the children are not its own.
(
    while read -r number command <&3; do
        (run "$number" "$command" &)
    done
)
