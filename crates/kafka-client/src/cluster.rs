//! The cluster that a trigger names, and connections to its servers.

use std::sync::Arc;

use headwater_model::{ErrorCode, KafkaTrigger, Problem};
use headwater_sandbox::{ConnectionPolicy, ServerAddress};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::connection::{BrokerFailure, Connection};
use crate::login::Login;

const SCHEME: &str = "kafka";
const PORT: u16 = 9_092;

/// Maximum length of the name of a server.
const HOST_BYTES_MAX: usize = 255;
/// Maximum length of the error text in a problem, in bytes.
const REASON_BYTES_MAX: usize = 600;

/// A setting of a cluster that is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidSetting {
    /// Reason why the setting is invalid.
    pub reason: String,
    /// Suggested correction.
    pub hint: String,
}

/// The cluster that a trigger reads, and the credentials of the client.
#[derive(Debug, Clone)]
pub struct Cluster {
    kafka: KafkaTrigger,
    /// The servers that the trigger names.
    servers: Vec<ServerAddress>,
}

impl Cluster {
    /// Checks the settings of a trigger.
    pub fn new(kafka: &KafkaTrigger) -> Result<Self, InvalidSetting> {
        let invalid = |reason: String, hint: &str| InvalidSetting { reason, hint: hint.to_owned() };
        let example = "Write servers such as `a.example.com:9092,b.example.com:9092`.";
        let parse = |text: &str| {
            let reason = format!("`{}` in `servers` is not a host with a port", text.trim());
            parse(text).ok_or_else(|| invalid(reason, example))
        };
        let servers = kafka.servers.split(',').map(parse).collect::<Result<_, InvalidSetting>>()?;
        let wrong = |reason: &str, hint: &str| Err(invalid(reason.to_owned(), hint));
        if kafka.user.is_some() && kafka.secret.is_none() {
            let hint = "Store the password with `headwater secret set NAME` and add \
                        `secret = \"NAME\"`.";
            return wrong("`user` is set, but `secret` is not", hint);
        }
        if kafka.ca.is_some() && !kafka.tls {
            return wrong("`ca` is set, but `tls` is not", "Add `tls = true`.");
        }
        Ok(Cluster { kafka: kafka.clone(), servers })
    }

    /// Returns the URI of the topic.
    pub fn uri(&self) -> String {
        let server = self.servers.first().map(ServerAddress::to_string).unwrap_or_default();
        format!("{server}/{}", self.kafka.topic)
    }

    /// Returns the settings of the trigger.
    pub fn settings(&self) -> &KafkaTrigger {
        &self.kafka
    }

    /// Creates a client with the values of the secrets. `secret` is the password of the user in the
    /// settings. Without a user, `secret` is a JSON object with `username` and `password`, as in
    /// AWS. `ca` contains certificates in PEM format. Without `ca`, the client uses the
    /// certificates of the system.
    pub fn client(
        &self,
        secret: Option<Zeroizing<String>>,
        ca: Option<&[u8]>,
        policy: ConnectionPolicy,
    ) -> Result<ClusterClient, Problem> {
        let mechanism = self.kafka.mechanism;
        let login = match (&self.kafka.user, secret) {
            (Some(user), Some(password)) => Some(Login { mechanism, user: user.clone(), password }),
            (None, Some(secret)) => Some(self.login(&secret)?),
            (_, None) => None,
        };
        let tls = if self.kafka.tls { Some(self.tls(ca)?) } else { None };
        Ok(ClusterClient { cluster: self.clone(), login, tls, policy })
    }

    /// Reads the user and the password from the value of a secret.
    fn login(&self, secret: &str) -> Result<Login, Problem> {
        let value: Option<serde_json::Value> = serde_json::from_str(secret).ok();
        let field = |name: &str| {
            let text = value.as_ref().and_then(|value| value.get(name)?.as_str());
            text.map(str::to_owned)
        };
        let (Some(user), Some(password)) = (field("username"), field("password")) else {
            let name = self.kafka.secret.as_deref().unwrap_or_default();
            let message = format!("secret `{name}` has no `username` and `password`");
            let hint = "Add `user = \"…\"` for a secret that contains only the password, or store \
                        `{\"username\": …, \"password\": …}`.";
            return Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint));
        };
        let password = Zeroizing::new(password);
        Ok(Login { mechanism: self.kafka.mechanism, user, password })
    }

    fn tls(&self, ca: Option<&[u8]>) -> Result<TlsConnector, Problem> {
        let mut roots = RootCertStore::empty();
        let invalid = |reason: &dyn std::fmt::Display| {
            let name = self.kafka.ca.as_deref().unwrap_or_default();
            let message = format!("secret `{name}` has no valid certificates: {reason}");
            Problem::new(ErrorCode::InvalidArgument, message)
                .with_hint("Store the certificates in PEM format.")
        };
        match ca {
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| invalid(&error))?;
                    roots.add(certificate).map_err(|error| invalid(&error))?;
                }
                if roots.is_empty() {
                    return Err(invalid(&"the secret has no certificate"));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Parses a host with an optional port; `None` if it is invalid.
fn parse(text: &str) -> Option<ServerAddress> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, port) = text.split_once(']')?;
            let _: std::net::Ipv6Addr = host.parse().ok()?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_host = !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
    let port = if port.is_empty() { PORT } else { port.parse().ok()? };
    is_host.then(|| ServerAddress { scheme: SCHEME, host: host.to_owned(), port })
}

/// Connects to the servers of a cluster.
pub struct ClusterClient {
    cluster: Cluster,
    login: Option<Login>,
    tls: Option<TlsConnector>,
    policy: ConnectionPolicy,
}

impl ClusterClient {
    /// Connects to the first usable server. Tries the servers that the trigger names, then
    /// `others`.
    pub async fn connect_any(&self, others: &[ServerAddress]) -> Result<Connection, Problem> {
        let mut first = None;
        for server in self.cluster.servers.iter().chain(others) {
            match self.connect(server).await {
                Ok(connection) => return Ok(connection),
                Err(problem) => first = first.or(Some(problem)),
            }
        }
        let none = || Problem::new(ErrorCode::Unavailable, "the trigger names no server");
        Err(first.unwrap_or_else(none))
    }

    /// Connects to a server and logs in.
    pub async fn connect(&self, server: &ServerAddress) -> Result<Connection, Problem> {
        let connected = self.try_connect(server).await;
        let name = format!("{}:{}", server.host, server.port);
        connected.map_err(|failure| problem_at(&name, failure))
    }

    async fn try_connect(&self, server: &ServerAddress) -> Result<Connection, BrokerFailure> {
        let addresses = self.policy.resolve(server).await?;
        let mut connection = Connection::open(server, &addresses, self.tls.as_ref()).await?;
        if let Some(login) = &self.login {
            login.run(&mut connection).await?;
        }
        Ok(connection)
    }
}

/// Converts a failure of a Kafka server to a problem.
pub fn problem_at(server: &str, failure: BrokerFailure) -> Problem {
    if let BrokerFailure::Problem(problem) = failure {
        return problem;
    }
    // The server controls this text, and may send a long one.
    let reason = failure.to_string();
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let message = format!("Kafka at {server}: {reason}");
    let hint = "Check the servers and the topic; the trigger connects again by itself.";
    Problem::new(ErrorCode::Unavailable, message).with_hint(hint)
}

/// Returns the name of a server in another server's response; `None` if host or port is invalid.
pub fn server_name(host: &str, port: i32) -> Option<ServerAddress> {
    let port = u16::try_from(port).ok()?;
    let is_name = host.len() <= HOST_BYTES_MAX;
    is_name.then(|| ServerAddress { scheme: SCHEME, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_host_and_a_port() {
        for (text, expected) in [
            ("a.example.com:9093", Some("kafka://a.example.com:9093")),
            (" b ", Some("kafka://b:9092")),
            ("[2001:db8::7]:9094", Some("kafka://[2001:db8::7]:9094")),
            ("[::1]", Some("kafka://[::1]:9092")),
            ("", None),
            ("kafka://a:9092", None),
            ("u:p@a:9092", None),
            ("a:99999", None),
            ("[a]:1", None),
            ("a b:1", None),
        ] {
            let parsed = parse(text).map(|server| server.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
        assert_eq!(server_name(&"a".repeat(256), 9_092), None);
        assert_eq!(server_name("a", -1), None);
    }

    #[test]
    fn a_secret_without_a_user_contains_the_user() {
        let trigger = serde_json::json!({"servers": "a:9092", "topic": "t", "secret": "S"});
        let trigger: KafkaTrigger = serde_json::from_value(trigger).expect("a trigger");
        let cluster = Cluster::new(&trigger).expect("a cluster");
        let login = cluster.login(r#"{"username": "ana", "password": "p"}"#);
        assert!(login.is_ok_and(|login| login.user == "ana" && login.password.as_str() == "p"));
        for wrong in ["p", r#"{"username": "ana"}"#, r#"{"username": 1, "password": "p"}"#] {
            let problem = cluster.login(wrong).err().expect("a problem");
            assert_eq!(problem.message, "secret `S` has no `username` and `password`");
        }
    }

    #[test]
    fn long_texts_of_a_server_are_shortened() {
        let problem = problem_at("a:9092", BrokerFailure::Server("é".repeat(10_000)));
        assert_eq!(problem.message, format!("Kafka at a:9092: {}", "é".repeat(300)));
    }
}
