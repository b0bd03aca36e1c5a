#!/usr/bin/env bash
# images.sh MUSL-BINARY: carries out the steps of pkg/docker/*.Dockerfile without Docker, as root. It builds the layers
# of the last stage in a directory. Its RUN lines, and then the commands, run in a chroot of that directory.
#
# The build stage needs an Alpine with Rust, and there is none here. In place of its `make`, the commands are installed
# from MUSL-BINARY (`tarball.sh musl` makes it). In place of the image `alpine` there is a busybox. It is linked with
# another C library, which makes no difference to a static binary.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need busybox busybox-static
[ "$(id -u)" = 0 ] || die "chroot wants root"
[ -n "${1:-}" ] || die "which binary? images.sh MUSL-BINARY"
binary=$(cd "$OLDPWD" && realpath "$1")
[ -x "$binary" ] || die "$binary is not there, or no program"

# What `make ... install-commands PREFIX=/usr DESTDIR=/image` leaves.
mkdir -p "$scratch/stage/image/usr/bin"
cp "$binary" "$scratch/stage/image/usr/bin/awrite"
for link in atomic-write awrite-lock awrite-housekeep; do ln -s awrite "$scratch/stage/image/usr/bin/$link"; done

# build DOCKERFILE ROOT: builds the last stage in ROOT. An unknown instruction is an error.
build() {
    local instruction rest from to
    while read -r instruction rest; do
        case $instruction in
            FROM)
                case $rest in
                    scratch) ;;
                    alpine)
                        mkdir -p "$2/bin" "$2/tmp"
                        cp "$(command -v busybox)" "$2/bin/busybox"
                        chroot "$2" /bin/busybox --install -s /bin
                        ;;
                    *) die "$1: no stand-in for $rest" ;;
                esac
                ;;
            COPY)
                [[ $rest == --from=build\ * ]] || die "$1: $instruction $rest"
                read -r _ from to <<<"$rest"
                mkdir -p "$2$to"
                cp -a "$scratch/stage$from." "$2$to"
                ;;
            RUN) chroot "$2" /bin/env PATH=/usr/bin:/bin /bin/sh -ec "$rest" ;;
            ENTRYPOINT) entrypoint=$(tr -d '[]",' <<<"$rest") ;;
            CMD) command=$(tr -d '[]",' <<<"$rest") ;;
            *) die "$1: $instruction" ;;
        esac
    done < <(awk '/^FROM/ { lines = "" } /^[A-Z]/ { lines = lines $0 "\n" } END { printf "%s", lines }' "$1")
}

say "scratch"
build pkg/docker/scratch.Dockerfile "$scratch/scratch"
mkdir "$scratch/scratch/data"
echo hello | chroot "$scratch/scratch" "$entrypoint" /data/greeting
echo again | chroot "$scratch/scratch" "$entrypoint" --append --backup /data/greeting
chroot "$scratch/scratch" "$entrypoint" housekeep --all --keep-newest 0 --older-than 0 /data
[ "$(cat "$scratch/scratch/data/greeting")" = $'hello\nagain' ]
(cd "$scratch/scratch" && find . -type f | sort && du -shL --apparent-size usr)
[ "$(cd "$scratch/scratch" && find . -type f | wc -l)" = 2 ]

say "alpine"
build pkg/docker/alpine.Dockerfile "$scratch/alpine"
# shellcheck disable=SC2016
chroot "$scratch/alpine" /bin/env PATH=/usr/bin:/bin "$command" -euc '
    cd /tmp
    [ ! -e tried ]
    echo one | awrite f
    awrite f -- sed s/one/two/
    awrite-lock f -- sh -c "cat f; echo three | awrite -a f"
    token=$(awrite-lock --acquire --owner A --ttl 60s f)
    ! echo four | awrite -n f
    awrite-lock --release --owner A --token "$token" f
    [ "$(echo $(cat f))" = "two three" ]
    [ "$(ls -A)" = f ]'
say "both run"
