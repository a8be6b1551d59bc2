package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"manage-subscriptions/portal"
)

// traces sends a span of each click, and one of each of its steps, to a collector.
// They are made when the click has been answered, from what it left behind: so a
// click waits for none of it. That of nil sends nothing.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	sender   *http.Client
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
	sender := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
		// A redirect would take the headers along, to whatever host it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithHTTPClient(sender),
		otlptracehttp.WithHeaders(headers), otlptracehttp.WithEndpointURL(s.cfg.TracesURL.String()))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&told{SpanExporter: exporter, sending: trouble{log: s.log, what: "send traces"}}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "manage-subscriptions"), attribute.String("service.version", s.version))),
	)
	return &traces{provider, provider.Tracer("manage-subscriptions"), sender}, nil
}

// told says once in the log that spans cannot be sent. The batcher has one
// goroutine.
type told struct {
	sdktrace.SpanExporter
	sending trouble
}

func (t *told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	t.sending.report(untaken(t.SpanExporter.ExportSpans(ctx, spans)))
	return nil // else the library would write to standard error
}

// untaken says why in words of ours: the library's have the collector's answer in
// them, and that may repeat the key it was asked with.
func untaken(err error) error {
	var silent *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &silent):
		return errors.New("the collector gives no answer; these spans are lost")
	}
	return errors.New("the collector does not take them; these spans are lost")
}

// Click makes the spans of a click. None of what they hold is secret: a cause's
// text is made to be logged.
func (t *traces) Click(click portal.Click) {
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
	defer t.sender.CloseIdleConnections()
	return t.provider.Shutdown(ctx)
}
