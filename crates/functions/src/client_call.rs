//! What a client of AWS Lambda adds to a call: its context, and a stream for the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

/// Number of parts that are buffered; a full buffer blocks the function.
const PARTS_MAX: usize = 4;

/// The client's side of a call. Empty for calls of other clients.
#[derive(Debug, Clone, Default)]
pub struct ClientCall {
    /// The context that the client sends, as `context.client_context` of the handler.
    pub context: Option<Value>,
    /// The receiver of a streamed answer; `None` if the answer is returned as a whole.
    pub answer: Option<AnswerSink>,
}

/// A part of a streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPart {
    /// The first part: the answer begins, with this media type.
    Begin {
        /// The media type, as the function names it; may be empty.
        media_type: String,
    },
    /// The next bytes.
    Bytes(Bytes),
}

/// The sender of a streamed answer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerSink {
    sender: mpsc::Sender<AnswerPart>,
    has_begun: Arc<AtomicBool>,
}

impl AnswerSink {
    /// Creates a sink, and the receiver of its parts.
    pub fn new() -> (AnswerSink, mpsc::Receiver<AnswerPart>) {
        let (sender, parts) = mpsc::channel(PARTS_MAX);
        (AnswerSink { sender, has_begun: Arc::default() }, parts)
    }

    /// Returns true if a part was sent, so that the call cannot be repeated.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Sends a part, and waits while the buffer is full. A client that has left gets nothing.
    pub(crate) async fn send(&self, part: AnswerPart) {
        self.has_begun.store(true, Ordering::Relaxed);
        let _ = self.sender.send(part).await;
    }
}
