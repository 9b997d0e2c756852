//! The position of a span in its trace, and its encoding in HTTP headers.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use uuid::Uuid;

/// The version of the header `traceparent` that this crate writes. Later versions are also accepted
/// when the header is read, because they start with the same fields.
const VERSION: &str = "00";

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

/// A span's position in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace; not zero.
    pub trace: u128,
    /// The id of the span; not zero.
    pub span: u64,
    /// True if the spans of the trace are recorded.
    pub is_sampled: bool,
    /// True if another program created the span.
    pub is_remote: bool,
}

impl TraceContext {
    /// Creates the context of the first span of a new trace.
    pub(crate) fn new_root() -> Self {
        let trace = Uuid::new_v4().as_u128();
        TraceContext { trace, span: new_span(), is_sampled: true, is_remote: false }
    }

    /// Creates the context of an event or job that starts a trace. The id of the trace is the id of
    /// the event or job.
    pub(crate) fn of_id(id: Uuid) -> Self {
        let trace = id.as_u128();
        TraceContext { trace, span: span_of(id), is_sampled: true, is_remote: false }
    }

    /// Converts the context to the exporter's type.
    pub(crate) fn otel(self) -> SpanContext {
        let flags = if self.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let trace = TraceId::from_bytes(self.trace.to_be_bytes());
        let span = SpanId::from_bytes(self.span.to_be_bytes());
        SpanContext::new(trace, span, flags, self.is_remote, TraceState::NONE)
    }

    /// Creates the context of a new child span.
    pub(crate) fn new_child(self) -> Self {
        TraceContext { span: new_span(), is_remote: false, ..self }
    }

    /// Parses the header `traceparent` of W3C Trace Context. Returns `None` if the header is
    /// invalid.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        let is_version = version.len() == 2 && version != "ff" && is_hex(version);
        if !is_version || (version == VERSION && parts.next().is_some()) {
            return None;
        }
        // Check for digits first, because `from_str_radix` also accepts a sign.
        let flags = Some(flags).filter(|flags| flags.len() == 2 && is_hex(flags))?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Self::of_digits(trace, span, flags & SAMPLED != 0)
    }

    /// Parses the header `X-Amzn-Trace-Id` of AWS X-Ray. Returns `None` if the header is invalid or
    /// has no parent.
    pub fn parse_xray(header: &str) -> Option<Self> {
        let field = |name: &str| {
            header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let (time, unique) = field("Root")?.strip_prefix("1-")?.split_once('-')?;
        if time.len() != 8 {
            return None;
        }
        let is_sampled = field("Sampled") != Some("0");
        Self::of_digits(&format!("{time}{unique}"), field("Parent")?, is_sampled)
    }

    fn of_digits(trace: &str, span: &str, is_sampled: bool) -> Option<Self> {
        let is_valid = trace.len() == 32 && span.len() == 16 && is_hex(trace) && is_hex(span);
        let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0 && is_valid)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        Some(TraceContext { trace, span, is_sampled, is_remote: true })
    }

    /// Returns the value of the header `X-Amzn-Trace-Id` and of the variable `_X_AMZN_TRACE_ID`.
    pub fn xray(&self) -> String {
        let trace = format!("{:032x}", self.trace);
        let (time, unique) = trace.split_at(8);
        let sampled = u8::from(self.is_sampled);
        format!("Root=1-{time}-{unique};Parent={:016x};Sampled={sampled}", self.span)
    }
}

/// Writes the header `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.is_sampled { SAMPLED } else { 0 };
        write!(f, "{VERSION}-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// Returns the span id of an event or job: the last digits of its id, which are random.
pub(crate) fn span_of(id: Uuid) -> u64 {
    (id.as_u128() as u64).max(1)
}

fn new_span() -> u64 {
    span_of(Uuid::new_v4())
}

/// Returns true for lower-case hexadecimal digits, as both headers require.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = TraceContext::parse(HEADER).expect("a context");
        assert!(context.is_sampled && context.is_remote);
        assert_eq!(context.to_string(), HEADER);
        let unsampled = TraceContext::parse(&HEADER.replace("-01", "-00")).expect("a context");
        assert!(!unsampled.is_sampled);
        assert!(TraceContext::parse(&format!("{}-more", HEADER.replacen("00", "cc", 1))).is_some());
    }

    #[test]
    fn invalid_headers_are_ignored() {
        let long = format!("{HEADER}-more");
        for header in [
            "",
            "00",
            "00-0-0-01",
            &long,
            &HEADER.replacen("00", "ff", 1),
            &HEADER.to_uppercase(),
            &HEADER.replace("b7ad6b7169203331", "0000000000000000"),
            &HEADER.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &HEADER.replace("0af", "+af"),
            &HEADER.replace("-01", "-+1"),
            &HEADER.replace("-01", "-é"),
            &"-".repeat(10_000),
        ] {
            assert_eq!(TraceContext::parse(header), None, "{header}");
        }
        for header in [
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Self=1",
            "Root=1-a-b;Parent=c",
            "Root=1-5759e988b-d862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "Root=1-5759e98é-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
        ] {
            assert_eq!(TraceContext::parse_xray(header), None, "{header}");
        }
    }

    #[test]
    fn an_xray_header_is_read_and_written() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let context = TraceContext::parse_xray(header).expect("a context");
        assert_eq!(context.xray(), header);
        let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        assert_eq!(context.to_string(), expected);
    }

    #[test]
    fn the_trace_of_an_event_has_the_id_of_the_event() {
        let id: Uuid = "0198f0a1-7b2c-7def-8123-456789abcdef".parse().expect("an id");
        let context = TraceContext::of_id(id);
        assert_eq!(context.to_string(), "00-0198f0a17b2c7def8123456789abcdef-8123456789abcdef-01");
        assert_ne!(context.new_child().span, context.span);
    }
}
