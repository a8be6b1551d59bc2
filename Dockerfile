# The image: the binary, the certificates to reach Shopify, Recharge and Redis
# with, and nothing else. No shell, no package, nothing to write to: it runs with
# --read-only, as a user that owns nothing. `docker build .` builds for the machine
# it runs on; `docker buildx build --platform linux/amd64,linux/arm64 .` for both,
# cross-compiled, so without emulation. Only the build needs the network.
FROM --platform=$BUILDPLATFORM golang:1.26.8-trixie AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# As the binaries of a release; .git is among what is copied, and gives
# the version. The commit's folder may belong to somebody else: git would refuse it.
ARG TARGETOS TARGETARCH
RUN git config --global --add safe.directory /src && \
    GOOS=$TARGETOS GOARCH=$TARGETARCH sh .ci/build /manage-subscriptions

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /manage-subscriptions /manage-subscriptions
USER 65532:65532
# 8080 is for the proxy with TLS in front; 9090, the operator's, for probes only.
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/manage-subscriptions", "healthcheck"]
ENTRYPOINT ["/manage-subscriptions"]
CMD ["serve"]
