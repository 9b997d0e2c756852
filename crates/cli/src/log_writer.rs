//! Writes a server's log to standard error from a thread of its own.
//!
//! A terminal that is paused must not stop the server: the queue has a bound, and lines beyond it are lost.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const QUEUE_LINES: usize = 4096;

/// How long the end of the server waits for a terminal that is paused.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Makes the writers of single lines.
#[derive(Clone)]
pub struct LogWriter(SyncSender<Message>);

/// A line, queued when it is complete.
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

    /// Waits until what was logged before is written, or for a second.
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
            // A closed standard error is no reason to fail.
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
        // A full queue loses the line.
        let _ = self.queue.try_send(Message::Line(std::mem::take(&mut self.text)));
    }
}
