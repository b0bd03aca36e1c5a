# shellcheck shell=bash disable=SC2034,SC2154
# Rust for targets that the installed toolchain cannot build. It comes from Debian's own packages (12 and later),
# unpacked beside the installed one: another version, or the sources of the standard library, from which cargo builds it
# for any target. With rustup each is one command: `rustup toolchain install 1.85`,
# `rustup target add x86_64-unknown-linux-musl`.

# debian_rust VERSION: unpacks rustc VERSION.* if that is not done yet, and sets RUSTC to it.
debian_rust() {
    local root=$target_dir/debian-rust-$1 full
    full=$(apt-cache madison rustc-web | awk -v v="$1." 'index($3, v) == 1 { print $3; exit }')
    [ -n "$full" ] || die "Debian has no rustc-web $1 (anymore, or yet): try 'apt-get update'"
    if [ ! -e "$root/rustc" ]; then
        say "unpacking rustc $full"
        rm -rf "$root" && mkdir -p "$root/debs"
        local std=libstd-rust-web-$1 llvm
        llvm=$(apt-cache show "$std=$full" | grep -o 'libllvm[0-9]*' | head -n 1)
        # Stay root: the user that apt would switch to cannot write here.
        (cd "$root/debs" && apt-get download -qq -o APT::Sandbox::User=root "rustc-web=$full" "$std=$full" \
            "libstd-rust-web-dev=$full" "rust-web-src=$full" "$llvm")
        local deb
        for deb in "$root"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
        rm -r "$root/debs"
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$root/usr/lib/$(uname -m)-linux-gnu" \
            "$root/usr/bin/rustc" >"$root/rustc"
        chmod +x "$root/rustc"
    fi
    export RUSTC=$root/rustc
    "$RUSTC" --version
}

# The newest Rust; cargo builds the standard library too, for --target. These flags are unstable, so RUSTC_BOOTSTRAP is
# set. Stable code does not notice it.
debian_rust_with_sources() {
    local newest
    newest=$(apt-cache madison rustc-web | awk '{ split($3, v, "."); print v[1] "." v[2] }' | sort -V | tail -n 1)
    debian_rust "$newest"
    export RUSTC_BOOTSTRAP=1
}

# musl-gcc is glibc's gcc with other paths. So the unwinder, which unwinds the stack after a panic, must come from gcc's
# library, and that unwinder asks glibc for an address (musl-find-object.c). The standard library asks for the names
# `unwind` in a static build and `gcc_s` in a dynamic one, so both exist. Alpine's own gcc needs none of this.
musl_unwinder() {
    unwinder=$target_dir/musl-unwinder
    rm -rf "$unwinder" && mkdir -p "$unwinder"
    musl-gcc -O2 -fPIC -Wall -Wextra -Werror -c -o "$unwinder/find.o" pkg/build/musl-find-object.c
    cp "$(gcc -print-file-name=libgcc_eh.a)" "$unwinder/libunwind.a"
    ar r "$unwinder/libunwind.a" "$unwinder/find.o"
    cp "$unwinder/libunwind.a" "$unwinder/libgcc_s.a"
    local triple
    triple=$(uname -m | tr '[:lower:]' '[:upper:]')_UNKNOWN_LINUX_MUSL
    export "CARGO_TARGET_${triple}_LINKER=musl-gcc"
    musl_flags="-C link-self-contained=no -L $unwinder"
}

# zig_linker TRIPLE ZIG-TARGET: links TRIPLE with zig, which brings other C libraries along: musl for any processor, and
# of glibc every version, so that a program does not ask for a newer one. With them comes LLVM's unwinder, which is
# linked in where rustc asks for gcc's. Zig comes from its own page, or as the package `ziglang` from PyPI.
zig_linker() {
    zig=$(command -v zig || python3 -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__) + "/zig")') ||
        die "zig is missing (python3 -m pip install ziglang)"
    zig_cc=$target_dir/zig/$2
    mkdir -p "$target_dir/zig"
    cat >"$zig_cc" <<EOF
#!/bin/bash
export ZIG_GLOBAL_CACHE_DIR="$target_dir/zig/cache" ZIG_LOCAL_CACHE_DIR="$target_dir/zig/cache"
for argument; do
    case \$argument in
        -lgcc_s | -lgcc_eh) argument=-lunwind ;;
        # macOS: the target says the first three already. The others are Apple's, and zig does not have them: crates ask
        # for them, and use nothing of them that is linked. Otherwise names would be missing.
        -lgcc | -arch | arm64 | -mmacosx-version-min=* | -lobjc | -liconv | -framework | Foundation) continue ;;
    esac
    arguments+=("\$argument")
done
exec "$zig" cc -target $2 "\${arguments[@]}"
EOF
    chmod +x "$zig_cc"
    local triple=${1^^}
    export "CARGO_TARGET_${triple//-/_}_LINKER=$zig_cc"
}
