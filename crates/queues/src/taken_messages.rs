//! Removal of messages from a queue in the same batch of the store that writes a caller's data. So
//! a message is either in the queue or in the caller's data, never in both.

use std::sync::Arc;

use headwater_store::JournalAppend;

use crate::delete::parse_receipt;
use crate::journal::deletion_entry;
use crate::queue::OpenQueue;
use crate::receive::restore;
use crate::{Queues, ReceivedMessage, Result};

/// Messages that are being taken out of a queue. On drop, the messages return to the queue, as if
/// they had not been received, unless [`TakenMessages::end`] is called.
#[derive(Debug)]
pub struct TakenMessages {
    /// The messages, in the order of the queue.
    pub messages: Vec<ReceivedMessage>,
    /// The journal entries that delete the messages. The caller writes them with its own data.
    pub entries: Vec<JournalAppend>,
    queues: Queues,
    queue: Arc<OpenQueue>,
    sequences: Vec<u64>,
}

impl Queues {
    /// Begins to take received messages out of a queue. Leaves out messages that are no longer in
    /// flight.
    pub fn take(&self, name: &str, messages: Vec<ReceivedMessage>) -> Result<TakenMessages> {
        let queue = self.queue(name)?;
        let mut taken = Vec::with_capacity(messages.len());
        {
            let mut state = queue.state.lock();
            for message in messages {
                let (sequence, receipt_id) = parse_receipt(&message.receipt)?;
                if state.begin_deletion(sequence, receipt_id) {
                    taken.push(message);
                }
            }
        }
        let sequences: Vec<u64> = taken.iter().map(|message| message.sequence).collect();
        let entries = sequences.iter().map(|sequence| deletion_entry(&queue.id, *sequence));
        let entries = entries.collect();
        Ok(TakenMessages { messages: taken, entries, queues: self.clone(), queue, sequences })
    }
}

impl TakenMessages {
    /// Removes the messages from memory, after the caller has stored `entries`.
    pub async fn end(mut self) -> Result<()> {
        let sequences = std::mem::take(&mut self.sequences);
        self.queues.end_deletion(&self.queue, &sequences).await
    }
}

impl Drop for TakenMessages {
    fn drop(&mut self) {
        if self.sequences.is_empty() {
            return;
        }
        restore(&self.queue, &self.sequences);
        // The caller has not processed the messages, so this delivery must not count.
        let now = self.queues.clock.now();
        self.queue.state.lock().undo_reception(&self.sequences, now);
        self.queue.arrived.notify_waiters();
    }
}
