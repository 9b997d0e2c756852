//! Login at a server with SASL.

use std::io::Cursor;

use headwater_model::KafkaMechanism;
use rsasl::config::SASLConfig;
use rsasl::prelude::{Mechname, SASLClient};

use crate::connection::{BrokerFailure, Connection, REQUEST_MAX};
use crate::messages::{SaslAuthenticateRequest, SaslHandshakeRequest, error_text};

/// Maximum number of messages of a login.
const MESSAGES_MAX: usize = 10;
/// Maximum number of SCRAM iterations that a server may request. Kafka requests 4,096 by default.
const ITERATIONS_MAX: u32 = 1_000_000;

/// A user with a password.
pub(crate) struct Login {
    pub mechanism: KafkaMechanism,
    pub user: String,
    pub password: zeroize::Zeroizing<String>,
}

impl Login {
    fn mechanism_name(&self) -> &'static str {
        match self.mechanism {
            KafkaMechanism::Plain => "PLAIN",
            KafkaMechanism::ScramSha256 => "SCRAM-SHA-256",
            KafkaMechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// Logs in. With SCRAM, also verifies that the server knows the password.
    pub(crate) async fn run(&self, connection: &mut Connection) -> Result<(), BrokerFailure> {
        let mechanism = self.mechanism_name();
        let handshake =
            connection.request(&SaslHandshakeRequest { mechanism }, REQUEST_MAX).await?;
        if handshake.error != 0 {
            let mut reason = error_text(handshake.error);
            if !handshake.mechanisms.is_empty() {
                reason =
                    format!("{reason} {mechanism}; it has {}", handshake.mechanisms.join(", "));
            }
            return Err(BrokerFailure::Server(reason));
        }
        let failed = |error: &dyn std::fmt::Display| {
            BrokerFailure::Server(format!("the login with {mechanism} failed: {error}"))
        };
        let config =
            SASLConfig::with_credentials(None, self.user.clone(), self.password.to_string())
                .map_err(|error| failed(&error))?;
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| failed(&error))?;
        let session = SASLClient::new(config).start_suggested(&[name]);
        let mut session = session.map_err(|error| failed(&error))?;
        let mut received: Option<Vec<u8>> = None;
        for _ in 0..MESSAGES_MAX {
            // SCRAM computes many hashes, so each step runs on a thread for blocking operations.
            let step = move || {
                let mut data = Cursor::new(Vec::new());
                let state = session.step(received.as_deref(), &mut data);
                (session, state, data.into_inner())
            };
            let stepped = tokio::task::spawn_blocking(step).await;
            let (continued, state, data) = stepped.map_err(std::io::Error::other)?;
            (session, received) = (continued, None);
            let state = state.map_err(|error| failed(&error))?;
            if state.has_sent_message() {
                let request = SaslAuthenticateRequest { data };
                let answer = connection.request(&request, REQUEST_MAX).await?;
                if answer.error != 0 {
                    let reason = error_text(answer.error);
                    let message = answer.message.filter(|message| !message.is_empty());
                    let detail = message.map(|message| format!(": {message}"));
                    return Err(BrokerFailure::Server(reason + &detail.unwrap_or_default()));
                }
                if !has_few_iterations(&answer.data) {
                    let reason =
                        format!("the server requests more than {ITERATIONS_MAX} iterations");
                    return Err(failed(&reason));
                }
                received = Some(answer.data.to_vec());
            }
            if state.is_finished() {
                return Ok(());
            }
        }
        Err(failed(&"the server sends too many messages"))
    }
}

/// Returns false if a message of SCRAM requests too many iterations (`r=NONCE,s=SALT,i=COUNT`).
fn has_few_iterations(message: &[u8]) -> bool {
    let mut counts =
        message.split(|byte| *byte == b',').filter_map(|part| part.strip_prefix(b"i="));
    counts.all(|count| {
        let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<u32>().ok());
        count.is_some_and(|count| count <= ITERATIONS_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_iterations_of_a_login_are_limited() {
        for (message, expected) in [
            ("r=abc,s=c2FsdA==,i=4096", true),
            ("r=abc,s=c2FsdA==,i=1000000", true),
            ("r=abc,s=c2FsdA==,i=1000001", false),
            ("r=abc,s=c2FsdA==,i=4294967295,x=y", false),
            ("r=abc,s=c2FsdA==,i=99999999999", false),
            ("v=c2lnbmF0dXJl", true),
            ("", true),
        ] {
            assert_eq!(has_few_iterations(message.as_bytes()), expected, "{message}");
        }
    }
}
