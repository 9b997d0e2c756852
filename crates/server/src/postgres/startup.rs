//! The startup of a connection: encryption, authentication, the ref, and the initial settings.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use headwater_model::{ErrorCode, Identity, Principal, Problem, RefSpec};
use headwater_postgres::{
    APPLICATION_NAME, AuthenticatedClient, BufferedConnection, FieldReader, FrontendMessage,
    ReplyWriter, STARTUP_BYTES_MAX, Session, Settings, Severity, TransactionStatus,
};
use headwater_service::{ClientProperties, ConnectionHandle};

use crate::auth::check_password;
use crate::server_state::App;
use crate::tls::TlsSettings;

/// The code of a cancel request, sent in place of the protocol version.
const CANCEL: u32 = 80_877_102;

/// The code of a TLS request, sent in place of the protocol version.
const TLS: u32 = 80_877_103;

/// The code of a GSSAPI encryption request, sent in place of the protocol version.
const GSSAPI: u32 = 80_877_104;

/// The maximum number of encryption requests on a connection: one for TLS and one for GSSAPI.
const REQUESTS_MAX: usize = 2;

/// State shared by all connections of a listener.
#[derive(Clone)]
pub struct ListenerState {
    /// The server.
    pub app: App,
    tls: Option<TlsSettings>,
    needs_token: bool,
}

impl ListenerState {
    /// Creates the state of a listener. If TLS is configured, connections without TLS are rejected.
    pub fn new(app: App, tls: Option<TlsSettings>, needs_token: bool) -> Self {
        ListenerState { app, tls, needs_token }
    }
}

/// A client that is not authenticated yet.
pub struct UnauthenticatedClient {
    /// The client's address.
    pub address: SocketAddr,
    /// State shared by all connections of the listener.
    pub shared: ListenerState,
}

/// Parameters of the startup message.
struct StartupMessage {
    minor: u32,
    parameters: HashMap<String, String>,
}

impl StartupMessage {
    fn parse(minor: u32, content: Bytes) -> Option<Self> {
        let mut fields = FieldReader(content);
        let mut parameters = HashMap::new();
        loop {
            let name = fields.text()?;
            if name.is_empty() {
                return Some(StartupMessage { minor, parameters });
            }
            parameters.insert(name, fields.text()?);
        }
    }

    fn get(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

/// Performs the startup of a connection. Returns `None` if the client disconnected, sent a cancel
/// request or was rejected.
pub async fn start(
    wire: BufferedConnection,
    peer: &UnauthenticatedClient,
) -> io::Result<Option<Session>> {
    let Some((mut wire, startup)) = read_startup(wire, &peer.shared).await? else {
        return Ok(None);
    };
    let opened = open(&mut wire, &startup, peer).await?;
    let client = match opened {
        Ok(client) => client,
        Err(problem) => {
            wire.output.login_error(&problem);
            wire.send().await?;
            return Ok(None);
        }
    };
    let service = peer.shared.app.service.clone();
    let opened = ClientProperties {
        database: client.reference.to_string(),
        application: client.settings.get(APPLICATION_NAME).unwrap_or_default().to_owned(),
        address: Some(peer.address),
    };
    let connection = match service.connections().open(&client.principal, opened) {
        Ok(connection) => connection,
        Err(problem) => {
            reject(&mut wire, &problem).await?;
            return Ok(None);
        }
    };
    complete_startup(&mut wire, &client.settings, &connection);
    wire.send().await?;
    Ok(Some(Session::new(wire, service, client, connection)))
}

/// Reads messages, such as requests for encryption, up to the startup message, and returns it.
async fn read_startup(
    mut wire: BufferedConnection,
    shared: &ListenerState,
) -> io::Result<Option<(BufferedConnection, StartupMessage)>> {
    let mut is_encrypted = false;
    for _ in 0..=REQUESTS_MAX {
        let Some(mut content) = wire.startup_message().await? else { return Ok(None) };
        let Ok(version) = content.try_get_u32() else { return Ok(None) };
        match (version, &shared.tls) {
            (TLS, Some(tls)) if !is_encrypted => {
                wire.output.extend_from_slice(b"S");
                wire.send().await?;
                wire = BufferedConnection::new(Box::new(
                    tls.accept_requested(wire.into_stream()?).await?,
                ));
                is_encrypted = true;
            }
            (TLS | GSSAPI, _) => {
                // `N` rejects encryption; the client may then continue without it.
                wire.output.extend_from_slice(b"N");
                wire.send().await?;
            }
            (CANCEL, _) => {
                let key = (content.try_get_i32().ok(), content.try_get_i32().ok());
                if let (Some(process), Some(secret)) = key {
                    shared.app.service.connections().cancel_by_key((process, secret));
                }
                return Ok(None);
            }
            (_, Some(_)) if !is_encrypted => {
                let problem =
                    Problem::new(ErrorCode::Unauthenticated, "the connection does not use TLS");
                reject(&mut wire, &problem.with_hint("Connect with `sslmode=require`.")).await?;
                return Ok(None);
            }
            _ => return read_parameters(wire, version, content).await,
        }
    }
    Ok(None)
}

/// Reads the parameters of a startup message.
async fn read_parameters(
    mut wire: BufferedConnection,
    version: u32,
    content: Bytes,
) -> io::Result<Option<(BufferedConnection, StartupMessage)>> {
    let (major, minor) = (version >> 16, version & 0xffff);
    let message = match StartupMessage::parse(minor, content) {
        Some(startup) if major == 3 => return Ok(Some((wire, startup))),
        _ if major == 3 => "the startup message is malformed".to_owned(),
        _ => format!("version {major}.{minor} of the protocol is not supported"),
    };
    reject(&mut wire, &Problem::new(ErrorCode::InvalidArgument, message)).await?;
    Ok(None)
}

async fn reject(wire: &mut BufferedConnection, problem: &Problem) -> io::Result<()> {
    wire.output.error(Severity::Fatal, problem);
    wire.send().await
}

/// Authenticates the client and resolves the ref that it requests.
async fn open(
    wire: &mut BufferedConnection,
    startup: &StartupMessage,
    peer: &UnauthenticatedClient,
) -> io::Result<Result<AuthenticatedClient, Problem>> {
    let names = startup.parameters.keys().map(String::as_str);
    let unknown: Vec<&str> = names.filter(|name| name.starts_with("_pq_.")).collect();
    if startup.minor > 0 || !unknown.is_empty() {
        wire.output.negotiate(&unknown);
    }
    let principal = match authenticate(wire, startup, peer).await? {
        Ok(principal) => principal,
        Err(problem) => return Ok(Err(problem)),
    };
    let settings = match settings(startup, &principal) {
        Ok(settings) => settings,
        Err(problem) => return Ok(Err(problem)),
    };
    let reference = resolve(&principal, startup, &peer.shared).await;
    Ok(reference.map(|reference| AuthenticatedClient { principal, reference, settings }))
}

/// Requests the password, which is the user's password, one of the user's access tokens, or the
/// server's token. With the server's token, the client is the owner, and the user name becomes the
/// author of commits.
///
/// The client sends the password in plain text over the connection. SCRAM would require that the
/// server stores each password or its SCRAM verifier, but the server stores only hashes of tokens.
async fn authenticate(
    wire: &mut BufferedConnection,
    startup: &StartupMessage,
    peer: &UnauthenticatedClient,
) -> io::Result<Result<Principal, Problem>> {
    let (shared, user) = (&peer.shared, startup.get("user"));
    let named = |principal: Principal| principal.with_author(Some(user.to_owned()));
    if !shared.needs_token && !shared.app.service.has_users() {
        return Ok(Ok(named(Principal::owner())));
    }
    wire.output.password_request();
    wire.send().await?;
    let Some((kind, content)) = wire.message(STARTUP_BYTES_MAX).await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let password = match FrontendMessage::decode(kind, content) {
        Ok(FrontendMessage::Password(password)) => password,
        Ok(_) => {
            let message = "the client sent no password";
            return Ok(Err(Problem::new(ErrorCode::Unauthenticated, message)));
        }
        Err(problem) => return Ok(Err(problem)),
    };
    let password = password.strip_suffix(&[0]).unwrap_or(&password);
    let password = std::str::from_utf8(password).unwrap_or_default();
    let checked = check_password(&shared.app, user, password, peer.address.ip()).await;
    Ok(checked.map(named))
}

/// Reads the settings of the startup message. Ignores unknown settings, because drivers send many.
fn settings(startup: &StartupMessage, principal: &Principal) -> Result<Settings, Problem> {
    let mut settings = Settings::default();
    settings.set_by_server("session_authorization", startup.get("user"));
    if *principal.identity() == Identity::Owner {
        settings.set_by_server("is_superuser", "on");
    }
    for (name, value) in &startup.parameters {
        if name == "options" {
            for (name, value) in options(value) {
                settings.set(&name, &value)?;
            }
        } else if name == "client_encoding" || settings.get(name).is_ok() {
            settings.set(name, value)?;
        }
    }
    Ok(settings)
}

/// Returns the settings in a string of options such as `-c name=value`. A backslash before a space
/// makes the space part of the value, as in `read\ committed`.
fn options(text: &str) -> Vec<(String, String)> {
    // In the meantime, NUL stands for an escaped space, because the message cannot contain NUL.
    let text = text.replace("\\ ", "\0");
    let words = text.split_whitespace().filter(|word| *word != "-c");
    let words = words.map(|word| word.trim_start_matches("--").trim_start_matches("-c"));
    let pairs = words.filter_map(|word| word.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.replace('\0', " "))).collect()
}

/// Resolves the database name, which is a ref. Without a database name, the user name is the ref,
/// as in PostgreSQL.
async fn resolve(
    principal: &Principal,
    startup: &StartupMessage,
    shared: &ListenerState,
) -> Result<RefSpec, Problem> {
    let name = match startup.get("database") {
        "" => startup.get("user"),
        name => name,
    };
    let wrong = |problem: Problem| {
        let hint = problem.hint.unwrap_or_default();
        let hint = format!("{hint} The database name is a ref: connect to `main` or a branch.");
        Problem { hint: Some(hint.trim().to_owned()), ..problem }
    };
    let reference: RefSpec = name.parse().map_err(|error: headwater_model::NameError| {
        wrong(Problem::new(ErrorCode::RefNotFound, error.to_string()))
    })?;
    shared.app.service.refs().resolve(principal, &reference).await.map_err(wrong)?;
    Ok(reference)
}

/// Confirms the authentication, and sends the settings and the cancel key.
fn complete_startup(
    wire: &mut BufferedConnection,
    settings: &Settings,
    connection: &ConnectionHandle,
) {
    wire.output.authenticated();
    for (name, value, is_reported) in settings.all() {
        if is_reported {
            wire.output.setting(name, value);
        }
    }
    let (process, secret) = connection.key;
    wire.output.cancel_key(process, secret);
    wire.output.ready(TransactionStatus::Idle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_contain_settings_with_escaped_spaces() {
        let expected = [("a", "read committed"), ("b", "1"), ("c", "2")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options("-c a=read\\ committed --b=1  -cc=2"), expected);
    }
}
