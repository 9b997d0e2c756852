//! Serves one connection: reads its messages in order, and replies to each.

use std::io;

use headwater_model::{ErrorCode, Problem};
use headwater_service::TransactionState;
use tokio_util::sync::CancellationToken;

use crate::backend_message::{ReplyWriter, Severity, TransactionStatus};
use crate::buffered_connection::MESSAGE_BYTES_MAX;
use crate::frontend_message::FrontendMessage;
use crate::session::{MessageError, MessageResult, Session};

impl Session {
    /// Serves the client until the connection ends. It ends at the request of the client, by
    /// `pg_terminate_backend` of another client, or when `closing` is cancelled. Calls `begin` for
    /// each message, and drops the returned value after the reply.
    pub async fn serve<B>(
        &mut self,
        closing: &CancellationToken,
        begin: impl Fn() -> B,
    ) -> io::Result<()> {
        let ended = self.messages(closing, begin).await;
        self.roll_back().await;
        if self.connection.ended().is_cancelled() {
            let message = "a client ended the connection with `pg_terminate_backend`";
            return self.end(&Problem::new(ErrorCode::Interrupted, message)).await;
        }
        if closing.is_cancelled() {
            let message = "the server is shutting down";
            self.end(&Problem::new(ErrorCode::Interrupted, message)).await?;
        }
        match ended {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.end(&Problem::new(ErrorCode::InvalidArgument, error.to_string())).await
            }
            ended => ended,
        }
    }

    async fn messages<B>(
        &mut self,
        closing: &CancellationToken,
        begin: impl Fn() -> B,
    ) -> io::Result<()> {
        // After an error in the extended protocol, messages up to the next Sync are skipped.
        let mut skipping = false;
        let ended = self.connection.ended().clone();
        loop {
            let message = tokio::select! {
                message = self.wire.message(MESSAGE_BYTES_MAX) => message?,
                () = closing.cancelled() => return Ok(()),
                () = ended.cancelled() => return Ok(()),
            };
            let Some((kind, content)) = message else { return Ok(()) };
            if skipping && kind != b'S' && kind != b'X' {
                continue;
            }
            let is_simple = kind == b'Q';
            let busy = begin();
            let reply = match FrontendMessage::decode(kind, content) {
                Ok(FrontendMessage::Terminate) => return Ok(()),
                Ok(message) => self.reply(message).await,
                Err(problem) => Err(MessageError::Problem(problem)),
            };
            drop(busy);
            if ended.is_cancelled() {
                return Ok(());
            }
            match reply {
                Ok(()) => skipping = false,
                Err(MessageError::Closed(error)) => return Err(error),
                Err(MessageError::Problem(problem)) => {
                    self.fail(&problem);
                    skipping = !is_simple;
                    // Send the error now: a client that sends Flush before Sync waits for the
                    // error, but after an error, Flush is skipped.
                    self.wire.send().await?;
                }
            }
            self.connection.end(transaction_state(self.status));
            if is_simple || kind == b'S' {
                self.wire.output.ready(self.status);
                self.wire.send().await?;
            } else {
                self.wire.send_if_full().await?;
            }
        }
    }

    /// Reports an error and marks the transaction as failed.
    fn fail(&mut self, problem: &Problem) {
        self.wire.output.error(Severity::Error, problem);
        if self.status == TransactionStatus::Transaction {
            self.status = TransactionStatus::Failed;
        }
    }

    async fn reply(&mut self, message: FrontendMessage) -> MessageResult {
        match message {
            FrontendMessage::Query(sql) => self.query(&sql).await,
            FrontendMessage::Parse(parse) => self.parse(parse).await,
            FrontendMessage::Bind(bind) => self.bind(bind),
            FrontendMessage::Describe(target) => self.describe_target(&target),
            FrontendMessage::Execute(portal, limit) => self.execute(&portal, limit).await,
            FrontendMessage::Close(target) => {
                self.close(&target);
                Ok(())
            }
            FrontendMessage::Flush => Ok(self.wire.send().await?),
            FrontendMessage::Sync => {
                if self.status == TransactionStatus::Idle {
                    // A portal exists only until the end of its transaction.
                    self.portals.clear();
                }
                Ok(())
            }
            FrontendMessage::Copy | FrontendMessage::Terminate => Ok(()),
            FrontendMessage::Password(_) => {
                let message = "the client sent a password that the server did not request";
                Err(Problem::new(ErrorCode::InvalidArgument, message).into())
            }
        }
    }

    /// Sends an error, after which the caller closes the connection.
    async fn end(&mut self, problem: &Problem) -> io::Result<()> {
        self.wire.output.error(Severity::Fatal, problem);
        self.wire.send().await
    }
}

fn transaction_state(status: TransactionStatus) -> TransactionState {
    match status {
        TransactionStatus::Idle => TransactionState::None,
        TransactionStatus::Transaction => TransactionState::Open,
        TransactionStatus::Failed => TransactionState::Failed,
    }
}
