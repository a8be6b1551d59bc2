package server

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"manage-subscriptions/handlers"
)

// traces sends a span of each click, and one of each of its steps, to a collector.
// They are made when the click has been answered, from what it left behind: so a
// click waits for none of it. That of nil sends nothing.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// newTraces returns nil where no collector is configured.
func (s *server) newTraces() (*traces, error) {
	if s.cfg.TracesURL == nil {
		return nil, nil
	}
	headers := map[string]string{}
	for name, value := range s.cfg.TracesHeaders {
		headers[name] = value.Reveal()
	}
	options := []otlptracehttp.Option{otlptracehttp.WithHeaders(headers), otlptracehttp.WithEndpointURL(s.cfg.TracesURL.String()), otlptracehttp.WithTimeout(5 * time.Second)}
	exporter, err := otlptracehttp.New(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&told{SpanExporter: exporter, sending: trouble{log: s.log, what: "send traces"}}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "manage-subscriptions"), attribute.String("service.version", s.version))),
	)
	return &traces{provider, provider.Tracer("manage-subscriptions")}, nil
}

// told says once in the log that spans cannot be sent. The batcher has one
// goroutine.
type told struct {
	sdktrace.SpanExporter
	sending trouble
}

func (t *told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	t.sending.report(t.SpanExporter.ExportSpans(ctx, spans))
	return nil // else the library would write to standard error
}

// click makes the spans of a click. None of what they hold is secret: a cause's
// text is made to be logged.
func (t *traces) click(click handlers.Click) {
	ctx, root := t.tracer.Start(context.Background(), "click", trace.WithTimestamp(click.Start), trace.WithSpanKind(trace.SpanKindServer),
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

// close sends what is left.
func (t *traces) close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return t.provider.Shutdown(ctx)
}
