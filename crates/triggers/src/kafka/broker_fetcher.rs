//! Fetches the records of the partitions whose leader is one server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use headwater_kafka_client::{
    AbortedTransactions, BrokerFailure, Connection, EARLIEST, FETCH_MAX, FetchRequest,
    FetchedPartition, LATEST, MalformedMessage, OFFSET_OUT_OF_RANGE, PartitionOffset,
    PositionUpdate, PositionUpdateContent, RecordBatch, RecordError, Records, RoundParticipant,
    error_text, problem_at,
};
use headwater_model::{KafkaStart, Problem};
use headwater_sandbox::ServerAddress;
use tokio::sync::OwnedSemaphorePermit;

use super::receiver::{MEMORY_KIB, ReadRound};

/// Maximum time for which the server waits for records.
const WAIT_MS: i32 = 1_000;
/// Maximum sizes of a response, and of the records of one partition in it, in bytes. A server
/// exceeds these sizes if the first batch of records is larger.
const FETCH_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// Maximum pause that the server may request.
const THROTTLE_MAX: Duration = Duration::from_secs(30);

/// Fetches the records of the partitions whose leader is one server, until the round ends.
pub(super) struct BrokerFetcher<'a> {
    pub round: &'a ReadRound<'a>,
    pub participant: RoundParticipant<'a>,
    pub server: ServerAddress,
    pub partitions: Vec<i32>,
}

impl BrokerFetcher<'_> {
    /// Reads until the round ends. Returns the connection for the next round.
    pub(super) async fn run(
        mut self,
        connection: Option<Connection>,
    ) -> Result<Connection, Problem> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.round.client.connect(&self.server).await?,
        };
        let read = self.read(&mut connection).await;
        read.map_err(|failure| self.problem(failure))?;
        Ok(connection)
    }

    async fn read(&mut self, connection: &mut Connection) -> Result<(), BrokerFailure> {
        let mut readable: BTreeSet<i32> = self.partitions.iter().copied().collect();
        self.begin(connection, &mut readable).await?;
        self.round.started();
        while !readable.is_empty() && !self.has_ended() {
            let next = |partition: &i32| {
                let next = self.round.receiver.position.lock().next(*partition)?;
                Some((*partition, next))
            };
            // The server fills its response in the order of the request, up to the maximum size.
            // Begin each request with another partition, so that each one is soon the first.
            let order = rotated(&readable, connection.request_count());
            let request = FetchRequest {
                topic: &self.round.receiver.topic,
                partitions: order.filter_map(next).collect(),
                wait_ms: WAIT_MS,
                bytes_max: FETCH_BYTES,
                partition_bytes_max: PARTITION_BYTES,
            };
            let fetched = connection.request(&request, FETCH_MAX).await?;
            for fetched in fetched.partitions {
                let partition = fetched.partition;
                if !readable.contains(&partition) {
                    continue;
                }
                if let Err(failure) = self.take(connection, fetched).await {
                    // Continue to read the other partitions until the end of the round.
                    readable.remove(&partition);
                    self.round.failed(self.problem_of(partition, failure));
                }
            }
            let throttle = u64::try_from(fetched.throttle_ms).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(throttle).min(THROTTLE_MAX)).await;
        }
        Ok(())
    }

    fn has_ended(&mut self) -> bool {
        self.participant.has_ended() || self.round.sender.is_stopped()
    }

    /// Determines the positions of partitions that are read for the first time.
    async fn begin(
        &self,
        connection: &mut Connection,
        readable: &mut BTreeSet<i32>,
    ) -> Result<(), BrokerFailure> {
        let (known, initial) = {
            let position = self.round.receiver.position.lock();
            let known = readable.iter().filter(|one| position.next(**one).is_some());
            (known.copied().collect::<BTreeSet<i32>>(), position.topic.partitions)
        };
        let new = readable.iter().copied().filter(|partition| !known.contains(partition));
        let (initial, added): (Vec<i32>, Vec<i32>) = new.partition(|one| *one < initial);
        let at = match self.round.receiver.start {
            KafkaStart::All => EARLIEST,
            KafkaStart::New => LATEST,
            KafkaStart::Time(time) => time.timestamp_millis(),
        };
        let topic = &self.round.receiver.topic;
        // Request the end offsets first. An empty result for the start time then means that no
        // record before these ends is new, and no record between the two requests is missed.
        let ends = match self.round.receiver.start {
            KafkaStart::Time(_) => connection.offsets(topic, initial.clone(), LATEST).await?,
            KafkaStart::All | KafkaStart::New => Vec::new(),
        };
        let ends: BTreeMap<i32, PartitionOffset> =
            ends.into_iter().map(|end| (end.partition, end)).collect();
        let mut offsets = connection.offsets(topic, initial, at).await?;
        offsets.extend(connection.offsets(topic, added, EARLIEST).await?);
        for found in offsets {
            let is_after_all = found.error == 0 && found.offset < 0;
            let end = ends.get(&found.partition).copied().filter(|_| is_after_all);
            let PartitionOffset { partition, error, offset } = end.unwrap_or(found);
            if error == 0 {
                self.send(partition, offset, PositionUpdateContent::Start { previous: None })
                    .await?;
            } else {
                readable.remove(&partition);
                let failure = BrokerFailure::Server(error_text(error));
                self.round.failed(self.problem_of(partition, failure));
            }
        }
        Ok(())
    }

    /// Forwards the records of a partition.
    async fn take(
        &self,
        connection: &mut Connection,
        fetched: FetchedPartition,
    ) -> Result<(), BrokerFailure> {
        let FetchedPartition { partition, error, aborted, mut batches } = fetched;
        match error {
            0 => {}
            OFFSET_OUT_OF_RANGE => {
                return self.resume_at_available_offset(connection, partition).await;
            }
            code => return Err(BrokerFailure::Server(error_text(code))),
        }
        let first = self.next(partition);
        let (mut next, mut forwarded) = (first, first);
        let mut transactions = AbortedTransactions::new(&aborted);
        let has_batches = !batches.is_empty();
        loop {
            // Decompression can take long, so it does not run on a thread of the async runtime.
            let decode = move || -> Result<_, RecordError> {
                let Some(batch) = RecordBatch::next(&mut batches)? else { return Ok(None) };
                let last = batch.last_offset;
                let records = transactions.committed(batch)?;
                Ok(Some((batches, transactions, last, records)))
            };
            let decoded = tokio::task::spawn_blocking(decode).await;
            let decoded = decoded.map_err(std::io::Error::other)??;
            let Some((rest, state, last, records)) = decoded else { break };
            (batches, transactions) = (rest, state);
            let Records { records, memory_bytes } = records;
            let memory = self.allocate(memory_bytes).await?;
            for record in records.into_iter().filter(|record| record.offset >= first) {
                forwarded = record.offset.saturating_add(1);
                let content = PositionUpdateContent::Record { record, memory: memory.clone() };
                self.send(partition, forwarded, content).await?;
            }
            next = next.max(last.saturating_add(1));
        }
        if next == first && has_batches {
            return Err(MalformedMessage("it contains no complete batch of records").into());
        }
        if next > forwarded {
            self.send(partition, next, PositionUpdateContent::Nothing).await?;
        }
        Ok(())
    }

    /// Continues at the first record that the partition still has. If the partition now ends before
    /// the position, continues at the end, because the records before the end have been read.
    async fn resume_at_available_offset(
        &self,
        connection: &mut Connection,
        partition: i32,
    ) -> Result<(), BrokerFailure> {
        let previous = self.next(partition);
        let topic = &self.round.receiver.topic;
        let earliest = connection.offset(topic, partition, EARLIEST).await?;
        let latest = connection.offset(topic, partition, LATEST).await?;
        let next = position_in(earliest, latest, previous);
        tracing::warn!(topic, partition, previous, next, "the position is out of range");
        self.send(partition, next, PositionUpdateContent::Start { previous: Some(previous) }).await
    }

    /// Returns the position of a partition.
    fn next(&self, partition: i32) -> i64 {
        self.round.receiver.position.lock().next(partition).unwrap_or_default()
    }

    /// Reserves memory for a batch until its last record is dropped. Waits while records that are
    /// not stored yet take too much memory. A batch larger than the limit reserves the whole limit.
    async fn allocate(&self, bytes: usize) -> Result<Arc<OwnedSemaphorePermit>, BrokerFailure> {
        let size = (bytes / 1024 + 1).min(MEMORY_KIB);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let permit = self.round.receiver.memory.clone().acquire_many_owned(size).await;
        Ok(Arc::new(permit.map_err(std::io::Error::other)?))
    }

    /// Forwards a record or a change of the position, and then moves the position.
    async fn send(
        &self,
        partition: i32,
        next: i64,
        content: PositionUpdateContent,
    ) -> Result<(), BrokerFailure> {
        let receiver = self.round.receiver;
        let topic = Arc::new(receiver.position.lock().topic.clone());
        let received = PositionUpdate { topic, partition, next, content };
        // The position moves only after the message was sent, even if this future is dropped.
        if self.round.sender.send(received).await {
            receiver.position.lock().set(partition, next);
        }
        Ok(())
    }

    fn problem(&self, failure: BrokerFailure) -> Problem {
        let server = format!("{}:{}", self.server.host, self.server.port);
        problem_at(&server, failure)
    }

    fn problem_of(&self, partition: i32, failure: BrokerFailure) -> Problem {
        let topic = &self.round.receiver.topic;
        let reason = format!("partition {partition} of topic `{topic}`: {failure}");
        self.problem(BrokerFailure::Server(reason))
    }
}

/// Returns the partitions, rotated: consecutive numbers begin with different partitions.
fn rotated(partitions: &BTreeSet<i32>, number: usize) -> impl Iterator<Item = &i32> {
    let first = number % partitions.len().max(1);
    partitions.iter().skip(first).chain(partitions.iter().take(first))
}

/// Returns the new position in a partition that no longer has the record at the previous position.
fn position_in(earliest: i64, latest: i64, previous: i64) -> i64 {
    if (earliest..previous).contains(&latest) { latest } else { earliest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_is_requested_first_in_turn() {
        let partitions = BTreeSet::from([1, 2, 5]);
        let order = |number| rotated(&partitions, number).copied().collect::<Vec<i32>>();
        assert_eq!([order(0), order(1), order(2)], [[1, 2, 5], [2, 5, 1], [5, 1, 2]]);
        assert_eq!(order(3), order(0));
        assert_eq!(rotated(&BTreeSet::new(), 1).count(), 0);
    }

    #[test]
    fn a_partition_is_read_again_only_after_its_position() {
        // The cluster deleted the records before 20.
        assert_eq!(position_in(20, 30, 10), 20);
        // The partition ends before the position.
        assert_eq!(position_in(0, 25, 30), 25);
        assert_eq!(position_in(25, 25, 30), 25);
    }
}
