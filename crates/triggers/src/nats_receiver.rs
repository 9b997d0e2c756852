//! Messages of a NATS JetStream stream, through a durable pull consumer.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Message};
use async_nats::{Client, ConnectOptions};
use async_trait::async_trait;
use futures::StreamExt;
use headwater_model::{ErrorCode, NatsStart, NatsTrigger, Problem};
use headwater_sandbox::{ConnectionPolicy, ServerAddress};
use headwater_secrets::SecretStore;
use url::Url;

use crate::message_inbox::{InboxSender, MessageReceiver};
use crate::postgres_server::secret;

/// Maximum time for a connection or a request.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Time after which the server redelivers a message that was not acknowledged.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Maximum number of delivered messages that are not acknowledged.
const UNACKNOWLEDGED_MAX: i64 = 1_000;
/// Maximum messages per request, maximum duration of a request, and interval of the server's
/// heartbeats.
const REQUEST_MESSAGES: usize = 100;
const REQUEST_TIME: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Scheme of URLs without TLS, and the default port.
const SCHEME: &str = "nats";
const PORT: u16 = 4_222;

/// The first line of a credentials file.
const CREDENTIALS: &str = "-----BEGIN NATS USER JWT-----";

/// A message, with the identity of its stream and the acknowledged position of the consumer.
pub(crate) struct ReceivedMessage {
    pub message: Message,
    /// Name and creation time of the stream; they differ for a stream that was created again.
    pub stream: String,
    /// Every message up to this sequence number is acknowledged, or is not for this consumer.
    pub floor: u64,
}

/// A connection that reads a stream.
pub(crate) struct NatsReceiver {
    pub nats: NatsTrigger,
    /// Name of the durable consumer.
    pub consumer: String,
    pub secrets: Option<SecretStore>,
    pub policy: ConnectionPolicy,
}

#[async_trait]
impl MessageReceiver for NatsReceiver {
    type Message = ReceivedMessage;

    async fn receive(&mut self, sender: &InboxSender<ReceivedMessage>) -> Option<Problem> {
        self.forward(sender).await.err()
    }
}

impl NatsReceiver {
    /// Forwards messages until the source has stopped.
    async fn forward(&self, sender: &InboxSender<ReceivedMessage>) -> Result<(), Problem> {
        let mut context = jetstream::new(self.connect().await?);
        context.set_timeout(REQUEST_MAX);
        let name = &self.nats.stream;
        let stream = context.get_stream(name).await;
        let stream =
            stream.map_err(|error| self.failed(&format!("stream `{name}`: {}", chain(&error))))?;
        let created = stream.cached_info().created.unix_timestamp_nanos();
        let identity = format!("{name}/{created}");
        let consumer = self.consumer(&stream).await?;
        let mut floor = consumer.cached_info().ack_floor.stream_sequence;
        let messages = consumer
            .stream()
            .max_messages_per_batch(REQUEST_MESSAGES)
            .expires(REQUEST_TIME)
            .heartbeat(HEARTBEAT)
            .messages()
            .await;
        let mut messages = messages.map_err(|error| self.failed(&chain(&error)))?;
        sender.connected();
        let mut count: usize = 0;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| self.failed(&chain(&error)))?;
            count += 1;
            if count.is_multiple_of(REQUEST_MESSAGES) {
                let info = consumer.get_info().await;
                let info = info.map_err(|error| self.failed(&chain(&error)))?;
                floor = info.ack_floor.stream_sequence;
            }
            let received = ReceivedMessage { message, stream: identity.clone(), floor };
            if !sender.send(received).await {
                return Ok(());
            }
        }
        Err(self.failed("the server ended the delivery"))
    }

    async fn connect(&self) -> Result<Client, Problem> {
        let secret = secret(self.secrets.as_ref(), self.nats.secret.as_deref()).await?;
        let options = ConnectOptions::new()
            .name("headwater")
            .connection_timeout(REQUEST_MAX)
            .request_timeout(Some(REQUEST_MAX));
        let options = match (&self.nats.user, secret) {
            (Some(user), secret) => {
                let password = secret.map(|secret| secret.to_string()).unwrap_or_default();
                options.user_and_password(user.clone(), password)
            }
            (None, Some(secret)) if secret.trim_start().starts_with(CREDENTIALS) => {
                let message = "the secret does not contain a valid credentials file";
                options.credentials(&secret).map_err(|_| self.failed(message))?
            }
            (None, Some(secret)) => options.token(secret.trim().to_owned()),
            (None, None) => options,
        };
        let servers = self.servers().await?;
        // Servers announce further servers, whose addresses are not checked. A restricted user must
        // not connect to these.
        let options = if self.policy.is_unrestricted() {
            options
        } else {
            options.ignore_discovered_servers()
        };
        let connected = tokio::time::timeout(REQUEST_MAX, options.connect(servers)).await;
        let connected = connected.map_err(|_| self.failed("the server does not respond"))?;
        connected.map_err(|error| self.connection_failed(&chain(&error)))
    }

    fn connection_failed(&self, reason: &str) -> Problem {
        let problem = self.failed(reason);
        // The policy replaced the host of a `nats://` URL by its checked address, which does not
        // match the host name in a certificate.
        let is_replaced = !self.policy.is_unrestricted() && self.nats.url.contains("nats://");
        if is_replaced && reason.contains("certificate") {
            return problem.with_hint("If the server requires TLS, write `tls://HOST:PORT`.");
        }
        problem
    }

    /// Returns the URLs of the usable servers. For a restricted user, the URLs contain the checked
    /// addresses. A URL with TLS keeps the server's name, because the certificate contains it. If
    /// the name later resolves to another address, TLS fails before the client sends data.
    async fn servers(&self) -> Result<Vec<String>, Problem> {
        let (mut servers, mut first) = (Vec::new(), None);
        for text in self.nats.url.split(',').map(str::trim) {
            let url = Url::parse(text).map_err(|error| self.failed(&error.to_string()))?;
            if self.policy.is_unrestricted() {
                servers.push(text.to_owned());
                continue;
            }
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let server = ServerAddress { scheme: SCHEME, host, port: url.port().unwrap_or(PORT) };
            let addresses = match self.policy.resolve(&server).await {
                Ok(addresses) => addresses,
                Err(problem) => {
                    first = first.or(Some(problem));
                    continue;
                }
            };
            if url.scheme() == SCHEME {
                servers.extend(addresses.iter().map(|address| format!("{SCHEME}://{address}")));
            } else {
                servers.push(text.to_owned());
            }
        }
        match first {
            Some(problem) if servers.is_empty() => Err(problem),
            _ => Ok(servers),
        }
    }

    /// Returns the durable consumer. Creates the consumer if it is missing.
    async fn consumer(&self, stream: &Stream) -> Result<Consumer<Config>, Problem> {
        let config = Config {
            durable_name: Some(self.consumer.clone()),
            description: Some("a trigger of Headwater".to_owned()),
            deliver_policy: match self.nats.start {
                NatsStart::All => DeliverPolicy::All,
                NatsStart::New => DeliverPolicy::New,
            },
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            filter_subject: self.nats.subject.clone().unwrap_or_default(),
            max_ack_pending: UNACKNOWLEDGED_MAX,
            ..Config::default()
        };
        let consumer = stream.get_or_create_consumer(&self.consumer, config).await;
        let name = &self.consumer;
        let consumer: Consumer<Config> = consumer
            .map_err(|error| self.failed(&format!("consumer `{name}`: {}", chain(&error))))?;
        let found = &consumer.cached_info().config;
        let wanted = self.nats.subject.as_deref().unwrap_or_default();
        if found.filter_subject != wanted || found.ack_policy != AckPolicy::Explicit {
            let message = format!(
                "consumer `{name}` exists with another subject or without explicit acknowledgements"
            );
            return Err(Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Give the trigger another `consumer`, or delete that consumer."));
        }
        Ok(consumer)
    }

    fn failed(&self, reason: &str) -> Problem {
        let message = format!("NATS at {}: {reason}", self.nats.url);
        Problem::new(ErrorCode::Unavailable, message)
            .with_hint("Check the server and the stream; the trigger connects again by itself.")
    }
}

/// Returns the messages of an error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_model::Actor;

    use super::*;

    fn receiver(url: &str) -> NatsReceiver {
        let nats = serde_json::json!({"url": url, "stream": "s"});
        NatsReceiver {
            nats: serde_json::from_value(nats).expect("a source"),
            consumer: "c".to_owned(),
            secrets: None,
            policy: ConnectionPolicy::restricted(Actor::Anonymous, Arc::new(|_: &str| false)),
        }
    }

    #[tokio::test]
    async fn servers_that_cannot_be_used_are_skipped_unless_none_is_left() {
        let some = receiver("nats://127.0.0.1:1,nats://1.1.1.1:4222,tls://1.0.0.1:4223");
        let servers = some.servers().await.expect("servers");
        assert_eq!(servers, ["nats://1.1.1.1:4222", "tls://1.0.0.1:4223"]);
        let problem = receiver("nats://127.0.0.1:1").servers().await.expect_err("a problem");
        assert_eq!(problem.code, ErrorCode::Forbidden);
    }

    #[test]
    fn a_failed_check_of_a_certificate_has_a_hint() {
        let hint = |url, reason| receiver(url).connection_failed(reason).hint.unwrap_or_default();
        let reason = "IO error: invalid peer certificate: not valid for name";
        assert!(hint("nats://a:4222", reason).contains("tls://HOST:PORT"));
        assert!(!hint("tls://a:4222", reason).contains("tls://HOST:PORT"));
        assert!(!hint("nats://a:4222", "timed out").contains("tls://HOST:PORT"));
    }
}
