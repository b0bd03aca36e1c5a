#!/usr/bin/env bash
# Makes all that is published of a version, in target/dist: static binaries for x86-64 and 64-bit ARM, a dynamic one with
# the C library, packages for Debian and Fedora, the source, the crate, recipes for Arch, Alpine, Homebrew and Fedora
# with the checksum of the source in them, the list of what is linked (CycloneDX), and SHA256SUMS. Then checks all of it.
#
#   release.sh VERSION   refuses a tree with changes, and one that is not of VERSION in every file (facts.sh)
#   release.sh try       makes the same of this tree as it is
#   release.sh twice     makes it twice, and compares
#   release.sh check     checks what is in target/dist
#
# Runs on x86-64, on Debian 12 or later: the scripts beside this one say what they need. The same commit and the same tools
# give the same bytes. What is to publish is then a matter of uploading target/dist, and of `cargo publish`.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"
need rpmbuild rpm
need rpm2cpio rpm2cpio
need cpio cpio
need jq jq

machine=$(uname -m)
tarballs=("$machine-unknown-linux-musl" aarch64-unknown-linux-musl "$machine-unknown-linux-gnu")
recipes=(pkg/arch/PKGBUILD pkg/alpine/APKBUILD pkg/homebrew/awrite.rb pkg/rpm/awrite.spec)
source=$dist/awrite-$version.tar.gz
packed=$dist/$crate-$version.crate
bill=$dist/awrite-$version.cdx.json
arch=$(dpkg --print-architecture)

make_all() {
    local recipe kind
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
    export SOURCE_DATE_EPOCH
    rm -rf "$dist" && mkdir -p "$dist"
    say "source, crate, recipes"
    rm -rf "$scratch/awrite-$version"
    copy_source "$scratch/awrite-$version"
    pack "awrite-$version" "$source"
    cargo package --locked --quiet --no-verify --allow-dirty
    cp "$target_dir/package/$crate-$version.crate" "$dist"
    for recipe in "${recipes[@]}"; do fill "$recipe" "$dist/$(basename "$recipe")" "$source"; done
    for kind in musl aarch64 glibc; do
        say "tarball: $kind"
        bash pkg/build/tarball.sh "$kind"
    done
    tar -xzOf "$dist/awrite-$version-${tarballs[0]}.tar.gz" --wildcards '*/awrite.cdx.json' >"$bill"
    say "packages"
    bash pkg/build/deb.sh
    bash pkg/build/rpm.sh
    (cd "$dist" && sha256sum -- * >"$scratch/SHA256SUMS" && mv "$scratch/SHA256SUMS" .)
}

# On crates.io the name is free, or this project's; a dry run of `cargo publish` does not ask. Elsewhere than here, since
# here cargo would tell of this crate.
is_ours() {
    local there
    if there=$(cd / && cargo info --registry crates-io "$crate" 2>"$scratch/log"); then
        grep -q "^repository: $repository\$" <<<"$there" || die "on crates.io, $crate is another project's"
        ! grep -q "^version: $version\( \|\$\)" <<<"$there" || die "crates.io has $crate $version already"
    else
        grep -q "could not find" "$scratch/log" || { cat "$scratch/log" >&2; die "crates.io does not answer"; }
    fi
}

# What must be in $dist, and nothing else.
expected() {
    local triple revision
    for triple in "${tarballs[@]}"; do echo "awrite-$version-$triple.tar.gz"; done
    basename -a "$source" "$packed" "$bill" "${recipes[@]}"
    revision=$(dpkg-parsechangelog -l pkg/debian/changelog -S Version)
    sed -n "s/^Package: \(.*\)/\1_${revision}_$arch.deb/p" pkg/debian/control
    revision=$(rpmspec -q --qf '%{name}-%{version}-%{release}.%{arch}.rpm\n' pkg/rpm/awrite.spec)
    echo "$revision"
    echo SHA256SUMS
}

# is_complete DIR DOCS: below DIR is a package of the commands, with its documents in DIR/DOCS.
is_complete() {
    local name page
    [ -x "$1/bin/awrite" ] || die "$1: no bin/awrite"
    for name in atomic-write awrite-lock awrite-housekeep; do
        [ "$(readlink "$1/bin/$name")" = awrite ] || die "$1: bin/$name is no link to awrite"
        page=("$1/share/man/man1/$name.1"*)
        [ -e "${page[0]}" ] || die "$1: no manual page of $name"
    done
    [ -s "$1/share/bash-completion/completions/awrite" ] || die "$1: no completion for bash"
    has_licences "$1/$2"
}

# has_licences DIR: of all that its list of what is linked names, the licences; of the commands' list if it has none.
has_licences() {
    local text=$1/THIRD-PARTY.txt list=$1/awrite.cdx.json part
    # Debian's tools compress long documents.
    gunzip -q "$text.gz" "$list.gz" 2>/dev/null || true
    [ -s "$text" ] || die "$1 has no THIRD-PARTY.txt"
    [ -s "$list" ] || list=$bill
    while read -r part; do
        grep -q "^$part: ." "$text" || die "$text does not name $part"
        # Once in the list, and once more above a text.
        [ "$(grep -cE "(^|, )$part(, |\$|:)" "$text")" -ge 2 ] || die "$text has no licence of $part"
    done < <(jq -r '.components[] | select(.purl) | "\(.name) \(.version)"' "$list" | sed 's/[.+]/[&]/g')
    grep -q '^the Rust standard library: .' "$text" || die "$text does not name the standard library"
}

check_all() {
    local triple tree package runner
    say "names and sums"
    (cd "$dist" && sha256sum --quiet --strict -c SHA256SUMS)
    diff <(expected | sort) <(cd "$dist" && printf '%s\n' * | sort) || die "other files than a release has"
    diff <(cd "$dist" && printf '%s\n' * | grep -vx SHA256SUMS) <(sed 's/^[0-9a-f]*  //' "$dist/SHA256SUMS") ||
        die "SHA256SUMS is not of these files"
    say "what is linked"
    jq -e '.bomFormat == "CycloneDX" and (.components | length > 10) and ([.components[].name] | contains(["libc",
        "rust-std"])) and ([.components[] | select(.purl) | .hashes[0].content, .licenses[0].expression] | all) and
        .metadata.component.version == $version' --arg version "$version" "$bill" >/dev/null || die "$bill is incomplete"
    say "recipes"
    grep -qF "$(sha256sum <"$source" | cut -d' ' -f1)" "$dist/PKGBUILD"
    grep -qF "$(sha256sum <"$source" | cut -d' ' -f1)" "$dist/awrite.rb"
    grep -qF "$(sha512sum <"$source" | cut -d' ' -f1)" "$dist/APKBUILD"
    say "source and crate"
    diff <(git ls-files -co --exclude-standard | sort) \
        <(tar -tzf "$source" | grep -v '/$' | sed "s|^awrite-$version/||" | sort) || die "the source is not this tree's"
    tar -xzOf "$packed" "$crate-$version/Cargo.toml" | grep -q "^repository = \"$repository\"" ||
        die "$packed names another repository"
    # The README shows the picture.
    ! tar -tzf "$packed" | grep -E "^$crate-$version/(pkg|tests|\.ci)/" | grep -v '/pkg/doc/power-cut\.svg$' ||
        die "$packed has what a crate does not need"
    for triple in "${tarballs[@]}"; do
        say "tarball: $triple"
        tree=$scratch/$triple
        rm -rf "$tree" && mkdir "$tree"
        tar -C "$tree" --strip-components=1 -xzf "$dist/awrite-$version-$triple.tar.gz"
        is_complete "$tree" share/doc/awrite
        runner=()
        [[ $triple == "$machine"-* ]] || runner=("qemu-${triple%%-*}-static")
        [ "$("${runner[@]}" "$tree/bin/awrite" --version)" = "awrite $version" ] || die "$triple: another version"
        bash pkg/build/smoke.sh "$tree/bin" "${runner[@]}"
    done
    for package in "$dist"/*.deb; do
        say "$(basename "$package")"
        tree=$scratch/$(basename "$package" .deb)
        rm -rf "$tree"
        dpkg-deb -x "$package" "$tree"
        check_package "$tree" "$(dpkg-deb -f "$package" Package)"
    done
    for package in "$dist"/*.rpm; do
        say "$(basename "$package")"
        tree=$scratch/$(basename "$package" .rpm)
        rm -rf "$tree" && mkdir "$tree"
        rpm2cpio "$package" | (cd "$tree" && cpio --quiet -idm)
        check_package "$tree" "$(rpm -qp --qf '%{name}' "$package")"
    done
}

# check_package ROOT NAME: a package of a distribution, unpacked.
check_package() {
    if [ "$2" = awrite ]; then
        is_complete "$1/usr" share/doc/awrite
        bash pkg/build/smoke.sh "$1/usr/bin"
    else
        has_licences "$1/usr/share/doc/$2"
    fi
    if [ "$2" = awrite-store-etcd ]; then
        "$1/usr/bin/awrite-store-etcd" --version
        grep -q '^ring [0-9]' "$1/usr/share/doc/$2/THIRD-PARTY.txt" || die "$1: the licences are not of the helper"
    fi
}

case ${1:-} in
    check) ;;
    try) bash pkg/build/facts.sh && make_all ;;
    twice)
        bash pkg/build/facts.sh
        make_all
        cp "$dist/SHA256SUMS" "$scratch/first"
        make_all
        diff "$scratch/first" "$dist/SHA256SUMS" || die "made twice, it differs"
        ;;
    [0-9]*)
        bash pkg/build/facts.sh "$1"
        is_ours
        make_all
        ;;
    *) die "which version? Or: try, twice, check" ;;
esac
check_all
ls -l "$dist"
