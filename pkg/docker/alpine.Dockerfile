# A small system that contains the commands, for scripts:
#
#     docker build -f pkg/docker/alpine.Dockerfile -t awrite:alpine .
#
# In a Dockerfile of your own, use the last COPY with `--from=awrite`. Not built by Docker, which was not available, nor
# on Alpine: pkg/build/images.sh carries out the steps without them, with a busybox in place of Alpine.

# Alpine's Rust makes the binary that we recommend: static, with musl, which starts in half of the time that glibc takes.
FROM rust:alpine AS build
RUN apk add --no-cache make musl-dev
COPY . /src
RUN RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' make -C /src/pkg install-commands \
    TARGET="$(rustc -vV | sed -n 's/^host: //p')" PREFIX=/usr DESTDIR=/image

FROM alpine
COPY --from=build /image/ /
RUN echo tried | awrite /tmp/tried && awrite-lock /tmp/tried -- rm /tmp/tried
CMD ["/bin/sh"]
