//! Reads the partitions of a topic.
//!
//! The receiver works in rounds. Each round begins with a request for the topic's metadata (servers
//! and partitions), so that added partitions and moved leaders are found. Then one task for each
//! server reads its partitions until the round ends. If a server or a partition fails, the others
//! continue, and the round ends early, after a short pause. The next round then uses the metadata
//! of another server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use headwater_kafka_client::{
    BrokerFailure, Cluster, ClusterClient, Connection, MetadataRequest, MetadataResponse, Position,
    PositionUpdate, REQUEST_MAX, RoundDeadline, UNKNOWN_TOPIC, error_text, problem_at, server_name,
};
use headwater_model::{KafkaStart, Problem};
use headwater_sandbox::{ConnectionPolicy, ServerAddress};
use headwater_secrets::SecretStore;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::broker_fetcher::BrokerFetcher;
use crate::back_off::BackOff;
use crate::message_inbox::{InboxSender, MessageReceiver};
use crate::postgres_server::secret;

/// Maximum memory of records that wait to be recorded, in KiB.
pub(super) const MEMORY_KIB: usize = 64 << 10;

/// The reader of a topic. It keeps its position when the connections are lost.
pub(super) struct KafkaReceiver {
    pub cluster: Cluster,
    pub topic: String,
    pub start: KafkaStart,
    pub secrets: Option<SecretStore>,
    pub policy: ConnectionPolicy,
    /// The duration of a round.
    pub round: Duration,
    /// The position of the last record that was forwarded.
    pub position: Mutex<Position>,
    pub memory: Arc<Semaphore>,
    /// The cluster's servers, from the latest metadata.
    pub servers: Vec<ServerAddress>,
    pub back_off: Mutex<BackOff>,
}

/// One round, which the tasks of all servers share.
pub(super) struct ReadRound<'a> {
    pub receiver: &'a KafkaReceiver,
    pub client: &'a ClusterClient,
    pub sender: &'a InboxSender<PositionUpdate>,
    end: RoundDeadline,
    /// The number of servers whose tasks have not begun to read yet.
    starting: AtomicUsize,
    /// The first failure of the round.
    failure: Mutex<Option<Problem>>,
    /// True if the previous round had no failure.
    was_good: bool,
}

impl ReadRound<'_> {
    /// Records that the task of one server has begun to read.
    pub(super) fn started(&self) {
        let is_last = self.starting.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last && self.was_good && self.failure.lock().is_none() {
            self.sender.connected();
        }
    }

    /// Reports a problem of the trigger, and shortens the round: it ends after the back-off pause.
    pub(super) fn failed(&self, problem: Problem) {
        let mut failure = self.failure.lock();
        if failure.is_some() {
            return;
        }
        let pause = self.receiver.back_off.lock().next();
        self.end.shorten(Instant::now() + pause);
        tracing::warn!(%problem, topic = self.receiver.topic, "partitions of the topic cannot be read");
        self.sender.record_problem(problem.clone());
        *failure = Some(problem);
    }
}

#[async_trait]
impl MessageReceiver for KafkaReceiver {
    type Message = PositionUpdate;

    async fn receive(&mut self, sender: &InboxSender<PositionUpdate>) -> Option<Problem> {
        self.follow(sender).await.err()
    }
}

impl KafkaReceiver {
    pub(super) fn new(cluster: Cluster, position: Position) -> Self {
        KafkaReceiver {
            cluster,
            topic: String::new(),
            start: KafkaStart::All,
            secrets: None,
            policy: ConnectionPolicy::default(),
            round: Duration::from_secs(5),
            position: Mutex::new(position),
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            servers: Vec::new(),
            back_off: Mutex::default(),
        }
    }

    /// Forwards records until the source has stopped.
    async fn follow(&mut self, sender: &InboxSender<PositionUpdate>) -> Result<(), Problem> {
        let client = self.client().await?;
        let mut control = client.connect_any(&self.servers).await?;
        let mut connections = BTreeMap::new();
        let mut failures: usize = 0;
        while !sender.is_stopped() {
            let metadata = self.metadata(&mut control).await?;
            let servers = metadata.servers.iter();
            self.servers = servers.filter_map(|one| server_name(&one.host, one.port)).collect();
            self.reset_on_topic_change(&metadata);
            let round = ReadRound {
                receiver: self,
                client: &client,
                sender,
                end: RoundDeadline::new(Instant::now() + self.round),
                starting: AtomicUsize::new(0),
                failure: Mutex::default(),
                was_good: failures == 0,
            };
            round.run(&metadata, &mut connections).await;
            if round.failure.into_inner().is_none() {
                failures = 0;
                self.back_off.lock().reset();
                sender.connected();
            } else {
                failures = failures.wrapping_add(1);
                let other = self.connect_to_other_server(&client, &mut connections, failures).await;
                control = other.unwrap_or(control);
            }
        }
        Ok(())
    }

    /// Reads the secrets, and returns a client of the cluster.
    async fn client(&self) -> Result<ClusterClient, Problem> {
        let (secrets, settings) = (self.secrets.as_ref(), self.cluster.settings());
        let password = secret(secrets, settings.secret.as_deref()).await?;
        let ca = secret(secrets, settings.ca.as_deref()).await?;
        let ca = ca.as_ref().map(|certificates| certificates.as_bytes());
        self.cluster.client(password, ca, self.policy.clone())
    }

    /// Returns a connection for the next metadata request after a failed round. Uses another
    /// server, because one server's metadata may be outdated. Prefers an open connection.
    async fn connect_to_other_server(
        &self,
        client: &ClusterClient,
        connections: &mut BTreeMap<i32, Connection>,
        failures: usize,
    ) -> Option<Connection> {
        let id = connections.keys().nth(failures % connections.len().max(1)).copied();
        if let Some(id) = id {
            return connections.remove(&id);
        }
        let server = self.servers.get(failures % self.servers.len().max(1))?;
        client.connect(server).await.ok()
    }

    async fn metadata(&self, control: &mut Connection) -> Result<MetadataResponse, Problem> {
        let name = &self.topic;
        let failed = |failure| problem_at(&self.cluster.uri(), failure);
        let request = MetadataRequest { topic: name };
        let metadata = control.request(&request, REQUEST_MAX).await.map_err(failed)?;
        match metadata.error {
            0 if metadata.partitions.is_empty() => {
                Err(failed(BrokerFailure::Server(format!("topic `{name}` has no partitions"))))
            }
            0 => Ok(metadata),
            UNKNOWN_TOPIC => {
                Err(failed(BrokerFailure::Server(format!("topic `{name}` does not exist"))))
            }
            code => {
                let reason = error_text(code);
                Err(failed(BrokerFailure::Server(format!("topic `{name}`: {reason}"))))
            }
        }
    }

    /// Discards the position if it belongs to another topic, or to a topic of another cluster.
    fn reset_on_topic_change(&self, metadata: &MetadataResponse) {
        let cluster = metadata.cluster.clone().unwrap_or_else(|| self.cluster.uri());
        let partitions = i32::try_from(metadata.partitions.len()).unwrap_or(i32::MAX);
        self.position
            .lock()
            .reset_on_topic_change(&format!("{cluster}/{}", self.topic), partitions);
    }
}

impl ReadRound<'_> {
    /// Reads all partitions until the round ends. `connections`, by server id, are reused and kept
    /// for the next round.
    async fn run(&self, metadata: &MetadataResponse, connections: &mut BTreeMap<i32, Connection>) {
        let mut partitions: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in &metadata.partitions {
            partitions.entry(partition.leader).or_default().push(partition.number);
        }
        self.starting.store(partitions.len(), Ordering::Relaxed);
        let tasks = partitions.into_iter().map(|(id, partitions)| {
            let server = metadata.servers.iter().find(|one| one.id == id);
            let server = server.and_then(|server| server_name(&server.host, server.port));
            let (connection, participant) = (connections.remove(&id), self.end.add_participant());
            async move {
                let read = match server {
                    None => Err(self.leaderless(&partitions)),
                    Some(server) => {
                        BrokerFetcher { round: self, participant, server, partitions }
                            .run(connection)
                            .await
                    }
                };
                read.map(|connection| (id, connection)).map_err(|problem| self.failed(problem)).ok()
            }
        });
        let kept = join_all(tasks).await;
        // This drops, and so closes, connections to servers that no longer lead a partition.
        *connections = kept.into_iter().flatten().collect();
        // After a failure, the round lasts until the end of the back-off pause.
        let has_failed = self.failure.lock().is_some();
        if has_failed || connections.is_empty() {
            tokio::time::sleep_until(self.end.time()).await;
        }
    }

    fn leaderless(&self, partitions: &[i32]) -> Problem {
        let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
        let reason = format!("there is no leader for partition {}", numbers.join(", "));
        problem_at(&self.receiver.cluster.uri(), BrokerFailure::Server(reason))
    }
}
