# A small system with the commands in it, for scripts:
#
#     docker build -f pkg/docker/alpine.Dockerfile -t awrite:alpine .
#
# or, in a Dockerfile of one's own, the last COPY with `--from=awrite`. Not built by Docker, which could not be had, nor
# on Alpine: pkg/build/images.sh carries out its steps without, on a busybox in Alpine's place.

FROM rust:alpine AS build
RUN apk add --no-cache make musl-dev
COPY . /src
RUN make -C /src/pkg install-commands PREFIX=/usr DESTDIR=/image

FROM alpine
COPY --from=build /image/ /
RUN echo tried | awrite /tmp/tried && awrite-lock /tmp/tried -- rm /tmp/tried
CMD ["/bin/sh"]
