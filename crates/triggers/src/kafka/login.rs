//! Login at a server with SASL.

use std::io::Cursor;

use headwater_kafka_protocol::{AuthenticateRequest, HandshakeRequest, error_text};
use headwater_model::KafkaMechanism;
use rsasl::config::SASLConfig;
use rsasl::prelude::{Mechname, SASLClient};

use super::connection::{Connection, Failure, REQUEST_MAX};

/// Maximum number of messages of a login.
const MESSAGES_MAX: usize = 10;

/// A user with a password.
pub(super) struct Login {
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
    pub(super) async fn run(&self, connection: &mut Connection) -> Result<(), Failure> {
        let mechanism = self.mechanism_name();
        let handshake = connection.request(&HandshakeRequest { mechanism }, REQUEST_MAX).await?;
        if handshake.error != 0 {
            let mut reason = error_text(handshake.error);
            if !handshake.mechanisms.is_empty() {
                reason =
                    format!("{reason} {mechanism}; it has {}", handshake.mechanisms.join(", "));
            }
            return Err(Failure::Server(reason));
        }
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Server(format!("the login with {mechanism} failed: {error}"))
        };
        let config =
            SASLConfig::with_credentials(None, self.user.clone(), self.password.to_string())
                .map_err(|error| failed(&error))?;
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| failed(&error))?;
        let session = SASLClient::new(config).start_suggested(&[name]);
        let mut session = session.map_err(|error| failed(&error))?;
        let mut received = None;
        for _ in 0..MESSAGES_MAX {
            let mut data = Cursor::new(Vec::new());
            let state = session.step(received.as_deref(), &mut data);
            let state = state.map_err(|error| failed(&error))?;
            if state.has_sent_message() {
                let request = AuthenticateRequest { data: data.into_inner() };
                let answer = connection.request(&request, REQUEST_MAX).await?;
                if answer.error != 0 {
                    let reason = error_text(answer.error);
                    let message = answer.message.filter(|message| !message.is_empty());
                    let detail = message.map(|message| format!(": {message}"));
                    return Err(Failure::Server(reason + &detail.unwrap_or_default()));
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
