//! Optional parts of a call: the client context and the streamed response that clients of AWS
//! Lambda use, and the trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use headwater_telemetry::TraceContext;
use serde_json::Value;
use tokio::sync::mpsc;

/// Number of parts of a response that are buffered. While the buffer is full, the function waits.
const PARTS_MAX: usize = 4;

/// The optional parts of a call: the client context and the sender of a streamed response, which
/// only clients of AWS Lambda use, and the call's trace.
#[derive(Debug, Clone, Default)]
pub struct OptionalCallParts {
    /// The context that the client sent. Handlers read it as `context.client_context`.
    pub context: Option<Value>,
    /// The sender of a streamed response; `None` if the response is returned as a whole.
    pub answer: Option<ResponseSender>,
    /// The trace context of the handler's span, if the call is traced. The function runtime sets
    /// it.
    pub trace: Option<TraceContext>,
}

/// A part of a streamed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponsePart {
    /// The first part, which contains the media type of the response.
    Begin {
        /// The media type that the function has set; may be empty.
        media_type: String,
    },
    /// The next bytes of the response.
    Bytes(Bytes),
}

/// The sender of the parts of a streamed response. Clones share the channel.
#[derive(Debug, Clone)]
pub struct ResponseSender {
    sender: mpsc::Sender<ResponsePart>,
    has_begun: Arc<AtomicBool>,
}

impl ResponseSender {
    /// Creates a sender, and the receiver of its parts.
    pub fn new() -> (ResponseSender, mpsc::Receiver<ResponsePart>) {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        (ResponseSender { sender, has_begun: Arc::default() }, parts)
    }

    /// Returns true if a part was sent. After that, the call cannot be repeated.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Sends a part, and waits while the buffer is full. If the client has disconnected, the part
    /// is discarded.
    pub(crate) async fn send(&self, part: ResponsePart) {
        self.has_begun.store(true, Ordering::Relaxed);
        let _ = self.sender.send(part).await;
    }
}
