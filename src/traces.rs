//! Traces for OpenTelemetry (docs/decisions/0021 and 0033): a span for each message, from its creation to its end, and
//! one within it for each attempt. The names of attributes are those of the semantic conventions for messaging.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use uuid::Uuid;

use crate::VERSION;
use fedora_message::api::object::FedoraMessage;
use fedora_message::message::trace_context::Trace;
use fedora_message::policy::outcome::{Outcome, Reason};
use fedora_message::state::MessageState;

/// The time for the last spans at the end of the process.
const END: Duration = Duration::from_secs(2);

/// Sends spans: a thread takes them from a bounded queue. A full queue drops spans, so an unreachable collector never
/// delays a message.
#[derive(Debug)]
pub struct Traces {
    spans: BatchSpanProcessor,
    exchange: String,
    /// True if a message belongs to the trace in its sender's headers.
    within_senders: bool,
}

/// One attempt to send a message, for its span.
#[derive(Clone, Copy, Debug)]
pub struct AttemptSpan<'a> {
    /// The result.
    pub outcome: &'a Outcome,
    /// The message's state after it.
    pub state: &'a MessageState,
    /// The time that it took. `None` if nothing was tried.
    pub took: Option<Duration>,
    /// The time of its end.
    pub now: DateTime<Utc>,
}

impl Traces {
    /// Sends spans to the collector at this URL.
    pub fn to(collector: &str, exchange: &str, within_senders: bool) -> Result<Self, ExporterBuildError> {
        let endpoint = format!("{collector}/v1/traces");
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint);
        let mut spans = BatchSpanProcessor::builder(exporter.build()?).build();
        let name = [KeyValue::new("service.name", env!("CARGO_PKG_NAME"))];
        let version = [KeyValue::new("service.version", VERSION)];
        spans.set_resource(&Resource::builder().with_attributes(name).with_attributes(version).build());
        Ok(Self { spans, exchange: exchange.to_owned(), within_senders })
    }

    /// Returns the trace of a message with its spec, if the trace is recorded.
    #[must_use]
    pub fn trace_of(&self, message: &FedoraMessage) -> Option<Trace> {
        let id = Uuid::try_parse(message.uid()).ok()?;
        let spec = if self.within_senders { message.spec().ok() } else { None };
        let headers = spec.map(|spec| spec.message.headers).unwrap_or_default();
        Some(Trace::of(id, &headers)).filter(Trace::is_sampled)
    }

    /// Records an attempt, the message's end, or both.
    pub fn record(&self, message: &FedoraMessage, trace: &Trace, attempt: &AttemptSpan<'_>) {
        let whole = self.span(message, trace, attempt);
        if let Some(took) = attempt.took {
            self.spans.on_end(SpanData {
                span_context: context(trace, fastrand::u64(1..)),
                parent_span_id: whole.span_context.span_id(),
                parent_span_is_remote: false,
                span_kind: SpanKind::Client,
                name: "attempt".into(),
                start_time: whole.end_time.checked_sub(took).unwrap_or(whole.end_time),
                ..whole.clone()
            });
        }
        if attempt.state.is_finished() {
            self.spans.on_end(whole);
        }
    }

    /// Sends the remaining spans, for at most two seconds.
    pub fn end(&self) {
        // If that fails, the processor has logged why.
        let _ = self.spans.shutdown_with_timeout(END);
    }

    /// The message's own span, from its creation until now.
    fn span(&self, message: &FedoraMessage, trace: &Trace, attempt: &AttemptSpan<'_>) -> SpanData {
        let environment = message.environment().map_or("", |environment| environment.name());
        let routing_key = attempt.state.routing_key.as_deref().unwrap_or_default().to_owned();
        let attributes = vec![
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", self.exchange.clone()),
            KeyValue::new("messaging.rabbitmq.destination.routing_key", routing_key),
            KeyValue::new("messaging.message.id", message.uid().to_owned()),
            KeyValue::new("k8s.namespace.name", message.namespace().to_owned()),
            KeyValue::new("fedora_message.name", message.name().to_owned()),
            KeyValue::new("fedora_message.env", environment),
            KeyValue::new("fedora_message.reason", attempt.outcome.reason.name()),
            KeyValue::new("fedora_message.attempts", i64::from(attempt.state.attempts)),
        ];
        let end_time = SystemTime::from(attempt.now);
        SpanData {
            span_context: context(trace, trace.span),
            parent_span_id: trace.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
            parent_span_is_remote: trace.parent.is_some(),
            span_kind: SpanKind::Producer,
            name: format!("send {}", self.exchange).into(),
            start_time: message.created.map_or(end_time, SystemTime::from),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: match attempt.outcome.reason {
                Reason::Sent => Status::Ok,
                _ => Status::error(attempt.outcome.message.clone()),
            },
            instrumentation_scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build(),
        }
    }
}

fn context(trace: &Trace, span: u64) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(trace.id.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}
