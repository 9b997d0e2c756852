//! Writes a server's log to standard error from a separate thread.
//!
//! A paused terminal must not block the server. So the queue is bounded, and lines that do not fit
//! are dropped.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// The capacity of the queue, in lines.
const QUEUE_LINES: usize = 4096;

/// The maximum time for which a shutdown waits for a paused terminal.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Interval at which a flush checks if a full queue has space.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// A message to the thread that writes the log.
enum LogWriterCommand {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The writer of the log. Creates one [`LogLine`] for each log line.
#[derive(Clone)]
pub struct LogWriter(SyncSender<LogWriterCommand>);

/// A log line, which is queued when it is dropped.
pub struct LogLine {
    text: Vec<u8>,
    queue: SyncSender<LogWriterCommand>,
}

impl LogWriter {
    /// Starts the thread that writes the queued lines to standard error.
    pub fn start() -> Self {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        std::thread::spawn(move || write_all(&receiver, std::io::stderr()));
        LogWriter(sender)
    }

    /// Waits until all queued lines are written, for at most one second. Does not wait if the queue
    /// is full.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_PATIENCE;
        let (done, written) = sync_channel(1);
        let mut message = LogWriterCommand::Flush(done);
        // The queue may be full of lines. A blocking `send` has no time limit.
        while let Err(TrySendError::Full(unsent)) = self.0.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = unsent;
            std::thread::sleep(FULL_PAUSE);
        }
        // If the thread does not run, the sender of `written` is dropped, and this call returns at
        // once.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(messages: &Receiver<LogWriterCommand>, mut output: impl Write) {
    for message in messages {
        match message {
            // Ignore errors, because standard error may be closed.
            LogWriterCommand::Line(line) => drop(output.write_all(&line)),
            LogWriterCommand::Flush(done) => drop(done.try_send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { text: Vec::new(), queue: self.0.clone() }
    }
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        // If the queue is full, the line is dropped.
        let _ = self.queue.try_send(LogWriterCommand::Line(std::mem::take(&mut self.text)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A terminal that collects the written bytes.
    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn full_queue() -> (LogWriter, Receiver<LogWriterCommand>) {
        let (sender, receiver) = sync_channel(2);
        let writer = LogWriter(sender);
        for line in ["one\n", "two\n", "dropped\n"] {
            writer.make_writer().write_all(line.as_bytes()).unwrap();
        }
        (writer, receiver)
    }

    #[test]
    fn a_flush_writes_the_lines_of_a_full_queue() {
        let (writer, receiver) = full_queue();
        let terminal = Terminal::default();
        let output = terminal.clone();
        std::thread::spawn(move || {
            // The terminal is paused for a moment, so that the flush meets the full queue.
            std::thread::sleep(Duration::from_millis(100));
            write_all(&receiver, output);
        });
        writer.flush();
        assert_eq!(*terminal.0.lock().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_flush_does_not_wait_forever() {
        let (writer, receiver) = full_queue();
        writer.flush();
        drop(receiver);
        writer.flush();
    }
}
