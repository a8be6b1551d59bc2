package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/manage-subscriptions/manage-subscriptions/config"
	"github.com/manage-subscriptions/manage-subscriptions/portal"
)

// traces sends one span for each click and one for each of its steps to a collector. The spans are
// made after the click is answered, so no click waits for them. A nil *traces sends nothing.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

func newTraces(cfg config.Config, log *slog.Logger) *traces {
	c := &collector{
		url:     cfg.TracesURL.String(),
		header:  http.Header{"Content-Type": {"application/x-protobuf"}},
		sender:  &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		sending: logOnce{log: log, what: "send traces"},
	}
	for name, value := range cfg.TracesHeaders {
		c.header.Set(name, value.Reveal())
	}
	exporter := otlptrace.NewUnstarted(c) // Start would do nothing
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "manage-subscriptions"), attribute.String("service.version", Version()))),
	)
	return &traces{provider, provider.Tracer("manage-subscriptions")}
}

// collector sends spans in OTLP over HTTP. OpenTelemetry's own client would bring all of gRPC into
// the binary.
// https://opentelemetry.io/docs/specs/otlp/#otlphttp
type collector struct {
	url     string
	header  http.Header
	sender  *http.Transport // not a Client, which would follow a redirect and take the headers along
	sending logOnce         // not safe for concurrent use, but the batcher has one goroutine
}

func (*collector) Start(context.Context) error { return nil }
func (*collector) Stop(context.Context) error  { return nil }

// UploadTraces logs an error once and returns none, since the library would write it to standard
// error.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	c.sending.report(c.send(ctx, spans))
	return nil
}

// send posts spans. Its errors hold nothing of the collector's answer, which may repeat the key it
// was sent.
func (c *collector) send(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire this is an ExportTraceServiceRequest, a type that needs gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = c.header
	response, err := c.sender.RoundTrip(request)
	if err != nil {
		return errors.New("the collector gives no answer; these spans are lost")
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		return errors.New("the collector does not take them; these spans are lost")
	}
	return nil
}

// Click makes the spans of a click. They hold no secret, since the text of a cause is meant to be
// logged.
func (t *traces) Click(click portal.Click) {
	ctx, root := t.tracer.Start(context.Background(), "click",
		trace.WithTimestamp(click.Start), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("request_id", click.RequestID), attribute.String("shop", string(click.Shop)),
			attribute.String("outcome", string(click.Outcome)), attribute.String("source", string(click.Source))))
	if click.Cause != nil {
		root.SetStatus(codes.Error, click.Cause.Error())
	}
	for _, step := range click.Steps {
		_, span := t.tracer.Start(ctx, step.Name, trace.WithTimestamp(step.Start))
		if step.Error != "" {
			span.SetStatus(codes.Error, step.Error)
		}
		span.End(trace.WithTimestamp(step.Start.Add(step.Took)))
	}
	root.End(trace.WithTimestamp(click.Start.Add(click.Took)))
}

// close sends the remaining spans.
func (t *traces) close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return t.provider.Shutdown(ctx)
}
