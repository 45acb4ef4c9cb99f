//! The place of a piece of work in a distributed trace, and how W3C Trace Context
//! writes it (<https://www.w3.org/TR/trace-context/>).

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use opentelemetry::trace::{self, SpanContext, TraceContextExt as _, TraceFlags, TraceState};

/// Names the trace that a request belongs to. `Display` gives 32 lower-case hex
/// digits (W3C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(NonZeroU128);

/// Names a span within its trace. `Display` gives 16 lower-case hex digits (W3C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

/// Which trace a piece of work belongs to, and which span of it is the parent of
/// whatever it causes elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
    state: Option<Arc<str>>,
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest `traceparent` that is looked at; version 00 has 55 bytes.
const MAX_PARENT: usize = 256;
/// The longest `tracestate` that is handed on; W3C asks for at least 512 bytes.
const MAX_STATE: usize = 512;

// === impl TraceId ===

impl TraceId {
    /// Takes `text` if it is 32 lower-case hex digits and not all zero.
    pub fn new(text: &str) -> Option<Self> {
        hex(text, 32).and_then(Self::from_number)
    }

    /// The trace whose id is `number`; `None` for zero, which W3C forbids.
    pub fn from_number(number: u128) -> Option<Self> {
        NonZeroU128::new(number).map(Self)
    }

    /// The id as a number.
    pub const fn number(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

// === impl SpanId ===

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

// === impl TraceContext ===

impl TraceContext {
    /// The span numbered `span` of `trace`; none for zero, which W3C forbids.
    pub fn new(trace: TraceId, span: u64, sampled: bool) -> Option<Self> {
        Some(Self {
            trace,
            span: SpanId(NonZeroU64::new(span)?),
            sampled,
            state: None,
        })
    }

    /// Reads a `traceparent`. None if it is malformed: then there is no parent.
    pub fn parse(traceparent: &str) -> Option<Self> {
        if traceparent.len() > MAX_PARENT {
            return None;
        }
        let mut parts = traceparent.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        hex(version, 2).filter(|version| *version != 0xff)?;
        // Later versions may add parts, version 00 may not.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let span = u64::try_from(hex(span, 16)?).ok()?;
        let flags = hex(flags, 2)?;
        Self::new(TraceId::new(trace)?, span, flags & 1 == 1)
    }

    /// With what vendors have to say of it, the `tracestate`. One that is longer
    /// than 512 bytes, or not of printable ASCII, is left out.
    #[must_use]
    pub fn state(mut self, state: &str) -> Self {
        let printable = state.bytes().all(|b| (b' '..=b'~').contains(&b));
        let fits = (1..=MAX_STATE).contains(&state.len()) && printable;
        self.state = fits.then(|| state.into());
        self
    }

    /// `traceparent` and, after a space, `tracestate`: one text that
    /// [`from_text`](Self::from_text) reads, for rows and messages.
    pub fn to_text(&self) -> String {
        match &self.state {
            Some(state) => format!("{} {state}", self.traceparent()),
            None => self.traceparent(),
        }
    }

    /// Reads what [`to_text`](Self::to_text) gave; none from any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some((parent, state)) => Some(Self::parse(parent)?.state(state)),
            None => Self::parse(text),
        }
    }

    /// Where the caller is: the span that is entered on this thread, or the
    /// request or job around it that is not sampled. None outside of any.
    pub fn current() -> Option<Self> {
        opentelemetry::Context::map_current(|context| {
            let span = context.span();
            Self::of(span.span_context())
        })
    }

    /// [`current`](Self::current), if that is sampled.
    pub fn sampled() -> Option<Self> {
        opentelemetry::Context::map_current(|context| {
            let span = context.span();
            let context = span.span_context();
            context.is_sampled().then(|| Self::of(context)).flatten()
        })
    }

    /// The trace.
    pub const fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// The span.
    pub const fn span_id(&self) -> SpanId {
        self.span
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> String {
        let (trace, span, flags) = (self.trace, self.span, u8::from(self.sampled));
        format!("00-{trace}-{span}-{flags:02x}")
    }

    /// The header `tracestate`, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Puts both headers into a request to others, in place of what was there: of HTTP,
    /// or of gRPC by `MetadataMap::into_headers`.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        // Both are printable ASCII by the way they are made.
        if let Ok(parent) = HeaderValue::from_str(&self.traceparent()) {
            headers.insert(TRACEPARENT, parent);
        }
        if let Some(Ok(state)) = self.tracestate().map(HeaderValue::from_str) {
            headers.insert(TRACESTATE, state);
        }
    }

    /// Reads both headers; none if `traceparent` is absent, sent twice or malformed.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let context = match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?)?,
            _ => return None,
        };
        // It may come in several lines, which are one list.
        let states = headers.get_all(TRACESTATE).iter();
        let states: Option<Vec<_>> = states.map(|state| state.to_str().ok()).collect();
        Some(match states {
            Some(states) if !states.is_empty() => context.state(&states.join(",")),
            _ => context,
        })
    }

    pub(crate) fn of(context: &SpanContext) -> Option<Self> {
        let trace = u128::from_be_bytes(context.trace_id().to_bytes());
        let span = u64::from_be_bytes(context.span_id().to_bytes());
        let state = context.trace_state().header();
        let read = Self::new(TraceId::from_number(trace)?, span, context.is_sampled())?;
        Some(if state.is_empty() {
            read
        } else {
            read.state(&state)
        })
    }

    /// As OpenTelemetry has it.
    pub(crate) fn to_otel(&self, remote: bool) -> SpanContext {
        let flags = if self.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::NOT_SAMPLED
        };
        let state = self.state.as_deref().and_then(|state| state.parse().ok());
        SpanContext::new(
            trace::TraceId::from(self.trace.number()),
            trace::SpanId::from(self.span.0.get()),
            flags,
            remote,
            state.unwrap_or(TraceState::NONE),
        )
    }
}

/// The value of `len` lower-case hex digits.
fn hex(text: &str, len: usize) -> Option<u128> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = text.len() == len && text.bytes().all(digit);
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn valid_header_names_its_trace() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later-parts",
        ] {
            assert_eq!(
                TraceContext::parse(text).unwrap().trace_id().to_string(),
                TRACE,
                "{text}"
            );
        }
    }

    #[test]
    fn hostile_header_is_ignored() {
        let long = format!("cc-{TRACE}-00f067aa0ba902b7-01-{}", "a".repeat(300));
        for text in [
            "",
            "-",
            "---",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-\u{ff14}bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            long.as_str(),
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn context_is_written_as_it_is_read() {
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(sent).unwrap().state("vendor=a,other=b");
        assert_eq!(context.traceparent(), sent);
        assert!(context.is_sampled());
        assert_eq!(
            TraceContext::from_text(&context.to_text()).as_ref(),
            Some(&context)
        );
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        // OpenTelemetry's form of it says the same.
        let remote = opentelemetry::Context::new().with_remote_span_context(context.to_otel(true));
        let _entered = remote.attach();
        assert_eq!(TraceContext::current(), Some(context.clone()));
        assert_eq!(TraceContext::sampled(), Some(context.clone()));
        for state in ["", "line\nbreak", &"a".repeat(MAX_STATE + 1)] {
            assert_eq!(context.clone().state(state).tracestate(), None);
        }
    }

    #[test]
    fn headers_to_others_say_where_the_caller_is_and_nothing_of_before() {
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(sent).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::read(&headers), None);
        headers.append("traceparent", HeaderValue::from_static("old"));
        headers.append("tracestate", HeaderValue::from_static("old=1"));
        headers.append("tracestate", HeaderValue::from_static("older=1"));
        context.write(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["traceparent"], sent);
        assert_eq!(TraceContext::read(&headers), Some(context.clone()));
        let context = context.state("vendor=a,other=b");
        context.write(&mut headers);
        assert_eq!(headers["tracestate"], "vendor=a,other=b");
        assert_eq!(TraceContext::read(&headers), Some(context));
        headers.append("traceparent", HeaderValue::from_static(sent));
        assert_eq!(TraceContext::read(&headers), None, "sent twice");
    }

    #[test]
    fn nobody_is_in_a_trace_outside_of_any() {
        assert_eq!(TraceContext::current(), None);
        let flags = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let context = TraceContext::parse(flags).unwrap();
        let remote = opentelemetry::Context::new().with_remote_span_context(context.to_otel(true));
        let _entered = remote.attach();
        assert_eq!(
            (TraceContext::current(), TraceContext::sampled()),
            (Some(context), None)
        );
    }
}
