//! Connections to a PostgreSQL server.
//!
//! All parameters come from the trigger and its secret. Variables such as `PGPASSWORD` and password
//! files of the server process are not used.

use std::time::Duration;

use headwater_model::{ErrorCode, PostgresTrigger, Problem, ToProblem, Trigger};
use headwater_sandbox::{ConnectionPolicy, ServerAddress};
use headwater_secrets::SecretStore;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgSslMode};
use url::Url;

use crate::Result;
use crate::definition::invalid;

/// Maximum time for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

const SCHEME: &str = "postgres";
const PORT: u16 = 5432;

/// A PostgreSQL database, and the user and the secret with which the trigger connects to it.
#[derive(Debug, Clone)]
pub(crate) struct PostgresServer {
    host: String,
    port: u16,
    user: String,
    database: String,
    mode: PgSslMode,
    secret: Option<String>,
}

impl PostgresServer {
    /// Parses the URL of a trigger's database. Error: `invalid_project`.
    pub(crate) fn new(trigger: &Trigger, postgres: &PostgresTrigger) -> Result<Self> {
        let example = "Write a URL such as `postgres://reader@db.example.com:5432/shop`.";
        let wrong = |reason: String| invalid(trigger, reason, example);
        let url = Url::parse(&postgres.url)
            .map_err(|error| wrong(format!("`url` is not a URL: {error}")))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(wrong(format!("the scheme `{}` is not `postgres`", url.scheme())));
        }
        if url.password().is_some() {
            let hint = "Remove the password; store it with `headwater secret set NAME` and add \
                        `secret = \"NAME\"`.";
            return Err(invalid(trigger, "`url` contains a password", hint));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("`url` has no host".to_owned()))?;
        let user = decoded(url.username());
        let database = decoded(url.path().trim_start_matches('/'));
        if user.is_empty() || database.is_empty() {
            return Err(wrong("the user name or the database name is missing in `url`".to_owned()));
        }
        let mut mode = PgSslMode::Prefer;
        for (name, value) in url.query_pairs() {
            mode = match (&*name, value.parse()) {
                ("sslmode", Ok(mode)) => mode,
                _ => {
                    return Err(wrong(format!(
                        "`url` has the unsupported parameter `{name}={value}`"
                    )));
                }
            };
        }
        Ok(PostgresServer {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(PORT),
            user,
            database,
            mode,
            secret: postgres.secret.clone(),
        })
    }

    /// Returns the URI of the database, without the user.
    pub(crate) fn uri(&self) -> String {
        format!("postgres://{}:{}/{}", self.host, self.port, self.database)
    }

    /// Opens a pool with one connection, because the driver's listener needs a pool.
    pub(crate) async fn connect(
        &self,
        secrets: Option<&SecretStore>,
        policy: &ConnectionPolicy,
    ) -> Result<PgPool, Problem> {
        let host = self.checked_host(policy).await?;
        let password = secret(secrets, self.secret.as_deref()).await?;
        let options = PgConnectOptions::new_without_pgpass()
            .host(&host)
            .port(self.port)
            .username(&self.user)
            .password(password.as_deref().map_or("", String::as_str))
            .database(&self.database)
            .ssl_mode(self.mode)
            .application_name("headwater");
        // Connect once without a pool, because a pool retries until its timeout, and its error does
        // not contain the cause.
        let first = tokio::time::timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
        let first = first.map_err(|_| self.timed_out())?;
        let first = first.map_err(|error| self.problem(&error))?;
        first.close().await.map_err(|error| self.problem(&error))?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_MAX)
            .max_lifetime(None)
            .idle_timeout(None);
        pool.connect_with(options).await.map_err(|error| self.problem(&error))
    }

    /// Returns the host to connect to: for a restricted user, a checked address instead of the
    /// name. If the certificate must contain the host's name, returns the name, which may resolve
    /// to another address later. The connection to that address then fails at the certificate.
    async fn checked_host(&self, policy: &ConnectionPolicy) -> Result<String, Problem> {
        if policy.is_unrestricted() {
            return Ok(self.host.clone());
        }
        let (host, port) = (self.host.clone(), self.port);
        let addresses = policy.resolve(&ServerAddress { scheme: SCHEME, host, port }).await?;
        match addresses.first() {
            Some(address) if !matches!(self.mode, PgSslMode::VerifyFull) => {
                Ok(address.ip().to_string())
            }
            _ => Ok(self.host.clone()),
        }
    }

    /// Converts an error of the server or of the connection to a problem.
    pub(crate) fn problem(&self, error: &sqlx::Error) -> Problem {
        let uri = self.uri();
        match error {
            sqlx::Error::Database(error) => {
                let message = format!("{uri}: {}", error.message());
                let context = ("sqlstate".to_owned(), error.code().map(String::from).into());
                let mut problem = Problem::new(ErrorCode::Unavailable, message);
                problem.context.extend([context]);
                problem.with_hint(
                    "Correct the cause on the PostgreSQL server; the trigger \
                     connects again by itself.",
                )
            }
            error => Problem::new(ErrorCode::Unavailable, format!("{uri} is unavailable: {error}"))
                .with_hint("Check the host and port; the trigger connects again by itself."),
        }
    }

    /// Returns the problem of a server that did not respond in time.
    pub(crate) fn timed_out(&self) -> Problem {
        let message = format!("{} does not respond", self.uri());
        Problem::new(ErrorCode::Unavailable, message)
            .with_hint("Check the server; the trigger connects again by itself.")
    }
}

/// Returns the value of a secret; `None` if `name` is `None`.
pub(crate) async fn secret(
    secrets: Option<&SecretStore>,
    name: Option<&str>,
) -> Result<Option<zeroize::Zeroizing<String>>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let Some(secrets) = secrets else {
        let message = format!("secret `{name}` is unavailable: this server has no secret store");
        return Err(Problem::new(ErrorCode::SecretNotFound, message));
    };
    let values = secrets.values(&[name.to_owned()]).await;
    Ok(values.map_err(|error| error.to_problem())?.remove(name))
}

/// Returns a part of a URL without percent-encoding.
fn decoded(part: &str) -> String {
    // The query parser of `url` decodes `+` as a space, so `+` is encoded first.
    let query = format!("v={}", part.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(url: &str) -> Result<PostgresServer> {
        let postgres = json!({"url": url, "channel": "c"});
        let trigger = json!({"name": "t", "function": "f", "postgres": postgres});
        let trigger: Trigger = serde_json::from_value(trigger).expect("a trigger");
        PostgresServer::new(&trigger, trigger.postgres.as_ref().expect("a source"))
    }

    #[test]
    fn a_url_names_the_server_and_the_user() {
        let server = parse("postgresql://a%40b+c@[::1]:5433/my%20db?sslmode=require");
        let server = server.expect("a server");
        assert_eq!((server.host.as_str(), server.port), ("::1", 5433));
        assert_eq!((server.user.as_str(), server.database.as_str()), ("a@b+c", "my db"));
        assert!(matches!(server.mode, PgSslMode::Require));
        assert_eq!(parse("postgres://u@h/d").expect("a server").uri(), "postgres://h:5432/d");
        for (url, expected) in [
            ("h/d", "not a URL"),
            ("mysql://u@h/d", "is not `postgres`"),
            ("postgres://u:p@h/d", "contains a password"),
            ("postgres://h/d", "the user name or the database name is missing"),
            ("postgres://u@h", "the user name or the database name is missing"),
            ("postgres://u@h/d?sslmode=maybe", "unsupported parameter `sslmode=maybe`"),
            ("postgres://u@h/d?host=x", "unsupported parameter `host=x`"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.to_string().contains(expected), "{url}: {error}");
            assert!(!error.to_string().contains(":p@"), "{error}");
        }
    }
}
