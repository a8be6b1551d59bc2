# The build needs the network for its modules; the image holds the binary, the
# certificates to reach Shopify and Recharge with, and nothing else.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /manage-subscriptions .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /manage-subscriptions /manage-subscriptions
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/manage-subscriptions"]
CMD ["serve"]
