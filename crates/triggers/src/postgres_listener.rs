//! Notifications of a PostgreSQL channel.
//!
//! PostgreSQL sends a notification only to connected clients, so notifications are missed while the
//! connection is lost. Rows of an outbox table are never missed.

use std::time::Duration;

use async_trait::async_trait;
use headwater_model::{ErrorCode, Problem};
use headwater_sandbox::ConnectionPolicy;
use headwater_secrets::SecretStore;
use sqlx::Executor;
use sqlx::postgres::PgListener;

use crate::message_inbox::{InboxSender, MessageReceiver};
use crate::postgres_server::PostgresServer;

/// Time without notifications after which the connection is checked.
const IDLE: Duration = Duration::from_secs(20);
/// Maximum time for the check of the connection.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// A connection that listens on a channel.
pub(crate) struct ChannelListener {
    pub server: PostgresServer,
    pub channel: String,
    pub secrets: Option<SecretStore>,
    pub policy: ConnectionPolicy,
}

#[async_trait]
impl MessageReceiver for ChannelListener {
    type Message = String;

    async fn receive(&mut self, sender: &InboxSender<String>) -> Option<Problem> {
        self.listen(sender).await.err()
    }
}

impl ChannelListener {
    /// Forwards payloads until the source has stopped.
    async fn listen(&self, sender: &InboxSender<String>) -> Result<(), Problem> {
        let failed = |error: sqlx::Error| self.server.problem(&error);
        let pool = self.server.connect(self.secrets.as_ref(), &self.policy).await?;
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener.listen(&self.channel).await.map_err(failed)?;
        sender.connected();
        loop {
            if let Ok(received) = tokio::time::timeout(IDLE, listener.try_recv()).await {
                let received = received.map_err(failed)?;
                let notification = received.ok_or_else(|| self.lost())?;
                if !sender.send(notification.payload().to_owned()).await {
                    return Ok(());
                }
            } else {
                // Check the connection, because a firewall can drop it without an error.
                let check = tokio::time::timeout(CHECK_MAX, listener.execute("SELECT 1"));
                check.await.map_err(|_| self.server.timed_out())?.map_err(failed)?;
            }
        }
    }

    fn lost(&self) -> Problem {
        let uri = self.server.uri();
        let message = format!(
            "the connection to {uri} was lost; notifications are missed until it is restored"
        );
        Problem::new(ErrorCode::Unavailable, message)
            .with_hint("Use `outbox` for events that must not be missed.")
    }
}
