//! Traces that begin before this server and go on in the runner, by the header `traceparent`
//! (W3C Trace Context). Nothing here costs anything while traces are not exported.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use luthier_types::TRACES;
use opentelemetry::{
    Context, KeyValue, global,
    trace::{Span as _, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::timings::Inside;

const TRACEPARENT: &str = "traceparent";
const TRACER: &str = "luthier";

/// Names the span of a request that is answered by `route`, and makes it part of the trace that the
/// headers tell of, if they tell of one. The span has the fields `otel.name` and `otel.kind`.
pub fn begun(span: &Span, method: &'static str, route: &str, headers: &HeaderMap) {
    if !is_on() {
        return;
    }
    if headers.contains_key(TRACEPARENT) {
        let context = global::get_text_map_propagator(|p| p.extract(&HeaderExtractor(headers)));
        // Fails for a span that is not exported, of which nothing is to be told.
        let _ = span.set_parent(context);
    }
    span.record("otel.name", format!("{method} {route}"));
    span.record("otel.kind", "server");
    span.set_attribute("http.request.method", method);
    span.set_attribute("http.route", route.to_owned());
}

/// Tells how the request of [`begun`] was answered.
pub fn ended(span: &Span, status: StatusCode) {
    if is_on() {
        span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.set_status(Status::error(status.to_string()));
        }
    }
}

/// Tells a replica which trace its call is part of, and as whose child.
pub(crate) fn hand_on(span: &Span, headers: &mut HeaderMap) {
    if is_on() {
        let context = span.context();
        global::get_text_map_propagator(|p| {
            p.inject_context(&context, &mut HeaderInjector(headers));
        });
    }
}

/// Tells what a replica says of its own part in a call that has just ended and took so long.
pub(crate) fn answered(call: &Span, took: Duration, inside: Inside) {
    if is_on() {
        parts(&call.context(), took, inside);
    }
}

/// As [`answered`], of a call that was made for several requests, in the trace of one of them.
pub(crate) fn answered_together(took: Duration, inside: Inside) {
    if is_on() {
        let tracer = global::tracer(TRACER);
        let request = Span::current().context();
        let call = tracer
            .span_builder("transfer")
            .with_start_time(SystemTime::now() - took)
            .with_attributes([KeyValue::new("joined", true)])
            .start_with_context(&tracer, &request);
        parts(&request.with_span(call), took, inside);
    }
}

/// Where in the call the replica's part lay is not known; it is told as if in the midst of it.
fn parts(call: &Context, took: Duration, inside: Inside) {
    let tracer = global::tracer(TRACER);
    let parts = [
        ("queue in the replica", inside.queue),
        ("frame", inside.frame),
        ("model", inside.model),
    ];
    let within: Duration = parts.iter().map(|(_, time)| *time).sum();
    let mut start = SystemTime::now() - took + took.saturating_sub(within) / 2;
    for (name, time) in parts.into_iter().filter(|(_, time)| !time.is_zero()) {
        let mut part = tracer
            .span_builder(name)
            .with_start_time(start)
            .start_with_context(&tracer, call);
        start += time;
        part.end_with_timestamp(start);
    }
}

/// Whether anybody listens to spans that are there for traces alone.
fn is_on() -> bool {
    tracing::span_enabled!(target: TRACES, Level::TRACE)
}
