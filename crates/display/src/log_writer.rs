//! Writes a server's log to standard error from a separate thread.
//!
//! A paused terminal must not block the server. So the queue is bounded, and lines that do not fit
//! are dropped.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The capacity of the queue, in lines.
const QUEUE_LINES: usize = 4096;

/// The maximum time for which a shutdown waits for a paused terminal.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The log's writer; creates one line writer per line.
#[derive(Clone)]
pub struct LogWriter(SyncSender<Message>);

/// A log line, which is queued when it is dropped.
pub struct Line {
    text: Vec<u8>,
    queue: SyncSender<Message>,
}

impl LogWriter {
    /// Starts the thread.
    pub fn start() -> Self {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        std::thread::spawn(move || write_all(&receiver));
        LogWriter(sender)
    }

    /// Waits until all queued lines are written, for at most one second. Does not wait if the queue
    /// is full.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

fn write_all(messages: &Receiver<Message>) {
    for message in messages {
        match message {
            // Ignore errors, because standard error may be closed.
            Message::Line(line) => drop(std::io::stderr().lock().write_all(&line)),
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { text: Vec::new(), queue: self.0.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // If the queue is full, the line is dropped.
        let _ = self.queue.try_send(Message::Line(std::mem::take(&mut self.text)));
    }
}
