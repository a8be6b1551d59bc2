# The image has only the binary and the certificates for TLS to Shopify, Recharge and
# Redis. It has no shell and no packages. It writes no files, so it runs with
# --read-only, as a user that owns nothing. `docker build .` builds for the local
# machine. `docker buildx build --platform linux/amd64,linux/arm64 .` cross-compiles
# for both, without emulation. Only the build needs the network.
FROM --platform=$BUILDPLATFORM golang:1.26.8-trixie@sha256:eae2aaa6add2936cbf350dd0d2628b363461542f0c4b3c0b558957e0f2997379 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Built like a release's binaries. The version comes from .git, which is copied too.
# Another user may own it, and git would refuse that without safe.directory.
ARG TARGETOS TARGETARCH
RUN git config --global --add safe.directory /src && \
    GOOS=$TARGETOS GOARCH=$TARGETARCH sh .ci/build /manage-subscriptions

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /manage-subscriptions /manage-subscriptions
USER 65532:65532
# 8080 is for the TLS proxy in front. 9090 is for probes and metrics only.
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/manage-subscriptions", "healthcheck"]
ENTRYPOINT ["/manage-subscriptions"]
CMD ["serve"]
