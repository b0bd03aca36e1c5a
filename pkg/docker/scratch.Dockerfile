# The commands and nothing else, in two megabytes:
#
#     docker build -f pkg/docker/scratch.Dockerfile -t awrite .
#     echo hello | docker run --rm -i -v "$PWD:/data" awrite /data/greeting
#
# Not built by Docker, which was not available: pkg/build/images.sh carries out the steps without it.

# Alpine's Rust makes the binary that we recommend: static, with musl, which starts in half of the time that glibc takes.
FROM rust:alpine AS build
RUN apk add --no-cache make musl-dev
COPY . /src
RUN RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' make -C /src/pkg install-commands \
    TARGET="$(rustc -vV | sed -n 's/^host: //p')" PREFIX=/usr DESTDIR=/image

FROM scratch
COPY --from=build /image/ /
ENTRYPOINT ["/usr/bin/awrite"]
