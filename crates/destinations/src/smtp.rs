//! Sessions with SMTP servers: connection, TLS, login and one message.
//!
//! The crate `mail-send` implements the protocol. This module connects only to the given
//! addresses, limits the bytes and the time of the server's replies, and converts replies to
//! problems: codes 4xx are temporary, codes 5xx are not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::Problem;
use headwater_triggers::ServerAddress;
use mail_send::smtp::AssertReply;
use mail_send::smtp::message::Parameters;
use mail_send::{Credentials, Error, SmtpClient};
use rustls::pki_types::ServerName as TlsName;
use rustls::{ClientConfig, RootCertStore};
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, EXT_START_TLS, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadHalf, Take, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::send_failure::{chain, excerpt, rejected, temporary};

/// Maximum time to connect to one address.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Maximum time for each command.
const STEP_MAX: Duration = Duration::from_secs(30);
/// Maximum time for one message.
const SEND_MAX: Duration = Duration::from_secs(90);
/// Maximum time to end a session after the delivery of the message.
const QUIT_MAX: Duration = Duration::from_secs(1);

/// Maximum size of all replies before STARTTLS, and again of all later replies, in bytes.
const REPLIES_BYTES_MAX: u64 = 64 << 10;

/// A stream that ends after [`REPLIES_BYTES_MAX`] received bytes.
type LimitedStream<S> = Join<Take<ReadHalf<S>>, WriteHalf<S>>;

type Client = SmtpClient<LimitedStream<Either<TcpStream, TlsStream<TcpStream>>>>;

/// The encryption of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// TLS from the first byte.
    Tls,
    /// TLS after the command STARTTLS, which the server must support.
    StartTls,
    None,
}

/// The credentials of a session.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub user: &'a str,
    pub password: &'a str,
}

/// A message with its envelope.
pub(crate) struct Mail<'a> {
    /// The address of the sender, without characters that end a command.
    pub from: &'a str,
    /// The addresses of the recipients, without characters that end a command.
    pub to: Vec<&'a str>,
    /// The headers and the body.
    pub message: Vec<u8>,
}

/// A mail server, with its encryption and login.
pub(crate) struct SmtpServer<'a> {
    pub name: &'a ServerAddress,
    pub encryption: Encryption,
    pub login: Option<Login<'a>>,
}

impl SmtpServer<'_> {
    /// Connects to the first address that accepts connections, and delivers a message to all
    /// recipients or to none.
    ///
    /// Errors: `unavailable` or `precondition_failed`, with `retryable` in the context.
    pub async fn deliver(&self, addresses: &[SocketAddr], mail: Mail<'_>) -> Result<(), Problem> {
        let delivered = timeout(SEND_MAX, self.transfer(addresses, mail)).await;
        match delivered.unwrap_or(Err(Error::Timeout)) {
            Ok(mut client) => {
                // The server has already accepted the message, so its answer to QUIT does not
                // matter.
                client.timeout = QUIT_MAX;
                let _ = client.quit().await;
                Ok(())
            }
            Err(error) => Err(self.problem(&error)),
        }
    }

    async fn transfer(&self, addresses: &[SocketAddr], mail: Mail<'_>) -> Result<Client, Error> {
        let stream = connect(addresses).await?;
        let domain = address_literal(stream.local_addr()?.ip());
        let stream = match self.encryption {
            Encryption::None => Either::Left(stream),
            Encryption::Tls => Either::Right(self.encrypt(stream).await?),
            Encryption::StartTls => {
                Either::Right(self.encrypt(start_tls(stream, &domain).await?).await?)
            }
        };
        let mut client = limited(stream);
        if self.encryption != Encryption::StartTls {
            receive_greeting(&mut client).await?;
        }
        let mut capabilities = client.ehlo(&domain).await?;
        if let Some(Login { user, password }) = self.login {
            // Keep only methods that the client can complete; it would begin others, and fail.
            capabilities.auth_mechanisms &= AUTH_PLAIN | AUTH_LOGIN;
            let credentials = Credentials::new(user.to_owned(), password.to_owned());
            client.authenticate(&credentials, &capabilities).await?;
        }
        let parameters = Parameters::default();
        client.mail_from(mail.from, &parameters).await?;
        for recipient in &mail.to {
            client.rcpt_to(recipient, &parameters).await?;
        }
        client.data(mail.message).await?;
        Ok(client)
    }

    /// Starts TLS, and checks that the certificate belongs to the server's name.
    async fn encrypt(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let host = self.name.host.clone();
        let name = TlsName::try_from(host).map_err(|_| Error::InvalidTLSName)?;
        let connector = connector().map_err(|error| Error::Tls(Box::new(error)))?;
        let connected = timeout(STEP_MAX, connector.connect(name, stream)).await;
        Ok(connected.map_err(|_| Error::Timeout)??)
    }

    fn problem(&self, error: &Error) -> Problem {
        let server = self.name;
        match error {
            Error::UnexpectedReply(reply) | Error::AuthenticationFailed(reply) => {
                self.rejection(reply)
            }
            Error::Timeout => temporary(format!("{server} does not respond")),
            Error::UnparseableReply => {
                temporary(format!("{server} closed the connection or sent an invalid reply"))
            }
            Error::Io(error) => temporary(format!("{server} cannot be reached: {}", chain(error))),
            Error::Tls(error) => temporary(format!("{server} cannot be reached: {}", chain(error))),
            Error::MissingStartTls => rejected(format!("{server} does not support STARTTLS")),
            Error::UnsupportedAuthMechanism => {
                rejected(format!("{server} supports neither AUTH PLAIN nor AUTH LOGIN"))
            }
            error => rejected(format!("{server}: {error}")),
        }
    }

    fn rejection(&self, reply: &Response<String>) -> Problem {
        let text = excerpt(&reply.message, self.login.map(|login| login.password));
        let message = format!("{} responds with code {}: {text}", self.name, reply.code);
        if (500..600).contains(&reply.code) { rejected(message) } else { temporary(message) }
    }
}

/// Returns a client that receives at most [`REPLIES_BYTES_MAX`], because a server could send a
/// reply of any length.
fn limited<S: AsyncRead + AsyncWrite>(stream: S) -> SmtpClient<LimitedStream<S>> {
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(reader.take(REPLIES_BYTES_MAX), writer);
    SmtpClient { stream, timeout: STEP_MAX }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut last = Error::Io(std::io::Error::other("the server has no address"));
    for address in addresses {
        match timeout(CONNECT_MAX, TcpStream::connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Error::Io(error),
            Err(_) => last = Error::Timeout,
        }
    }
    Err(last)
}

/// Returns the name with which this client greets a server: the client's address, in the format of
/// RFC 5321, 4.1.3.
fn address_literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

async fn receive_greeting<S>(client: &mut SmtpClient<S>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = timeout(STEP_MAX, client.read()).await.map_err(|_| Error::Timeout)??;
    greeting.assert_positive_completion()
}

/// Sends STARTTLS. Discards bytes after the server's reply, because they are not encrypted.
async fn start_tls(mut stream: TcpStream, domain: &str) -> Result<TcpStream, Error> {
    let mut client = limited(&mut stream);
    receive_greeting(&mut client).await?;
    if !client.ehlo(domain).await?.has_capability(EXT_START_TLS) {
        return Err(Error::MissingStartTls);
    }
    client.cmd(b"STARTTLS\r\n").await?.assert_positive_completion()?;
    drop(client);
    Ok(stream)
}

/// Returns a connector that trusts the certificates of the operating system.
fn connector() -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const HELLO: &str = "220 hello\r\n";
    const PLAIN: &str = "250-mail\r\n250 AUTH CRAM-MD5 PLAIN LOGIN\r\n";
    const OK: &str = "250 2.1.0 ok\r\n";
    const LOGIN: Login<'static> = Login { user: "user", password: "correct horse" };

    /// Starts a server that sends one reply to each command, or to a whole message after code 354.
    /// Returns the commands.
    async fn server(replies: &[&str]) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let replies: Vec<String> = replies.iter().map(|reply| (*reply).to_owned()).collect();
        let commands = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut stream = BufStream::new(stream);
            let mut commands = String::new();
            for reply in replies {
                // Ignore an error: the client may have closed the connection.
                let _ = stream.write_all(reply.as_bytes()).await;
                let _ = stream.flush().await;
                let end = if reply.starts_with("354") { "\r\n.\r\n" } else { "\r\n" };
                loop {
                    match stream.read_line(&mut commands).await {
                        Ok(0) | Err(_) => return commands,
                        Ok(_) if commands.ends_with(end) => break,
                        Ok(_) => {}
                    }
                }
            }
            commands
        });
        (address, commands)
    }

    async fn deliver(
        encryption: Encryption,
        login: Option<Login<'_>>,
        address: SocketAddr,
    ) -> Result<(), Problem> {
        let (host, port) = ("localhost".to_owned(), address.port());
        let server = ServerAddress { scheme: "smtp", host, port };
        let server = SmtpServer { name: &server, encryption, login };
        let message = b"Subject: x\r\n\r\n.\r\nMAIL FROM:<x@y.z>\r\n".to_vec();
        let mail = Mail { from: "a@b.c", to: vec!["d@e.f", "g@h.i"], message };
        server.deliver(&[address], mail).await
    }

    #[tokio::test]
    async fn a_message_is_delivered_with_both_methods_of_login() {
        let login = "250-mail\r\n250 AUTH LOGIN\r\n";
        let (name, password) = ("334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n");
        let rest = [OK, OK, OK, "354 go\r\n", OK, "221 bye\r\n"];
        for (first, commands) in [
            (vec![HELLO, PLAIN], "AUTH PLAIN AHVzZXIAY29ycmVjdCBob3JzZQ==\r\n"),
            (
                vec![HELLO, login, name, password],
                "AUTH LOGIN\r\ndXNlcg==\r\nY29ycmVjdCBob3JzZQ==\r\n",
            ),
        ] {
            let replies: Vec<&str> = first.into_iter().chain(["235 ok\r\n"]).chain(rest).collect();
            let (address, received) = server(&replies).await;
            deliver(Encryption::None, Some(LOGIN), address).await.expect("delivered");
            let rest = "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nRCPT TO:<g@h.i>\r\nDATA\r\n\
                        Subject: x\r\n\r\n..\r\nMAIL FROM:<x@y.z>\r\n\r\n.\r\nQUIT\r\n";
            let expected = format!("EHLO [127.0.0.1]\r\n{commands}{rest}");
            assert_eq!(received.await.expect("commands"), expected);
        }
    }

    #[tokio::test]
    async fn codes_4xx_are_retried_and_codes_5xx_are_not() {
        let endless = "220-\r\n".repeat(20_000);
        let data = [HELLO, PLAIN, OK, OK, OK];
        let after_data = |reply: &'static str| [&data[..], &["354 go\r\n", reply]].concat();
        for (replies, is_retryable, shown) in [
            (vec!["421 busy\r\n"], true, "responds with code 421: busy"),
            (vec!["554-not\r\n554 here\r\n"], false, "responds with code 554: not here"),
            (vec![HELLO, "502 no\r\n"], false, "responds with code 502"),
            (vec![HELLO, PLAIN, "451 4.7.1 later\r\n"], true, "responds with code 451: later"),
            (vec![HELLO, PLAIN, OK, OK, "550 5.1.1 no\r\n"], false, "code 550: no"),
            ([&data[..], &["452 full\r\n"]].concat(), true, "code 452: full"),
            (after_data("552 too large\r\n"), false, "code 552: too large"),
            (after_data("451 later\r\n"), true, "code 451: later"),
            (vec!["hello\r\n"], true, "sent an invalid reply"),
            (vec![endless.as_str()], true, "sent an invalid reply"),
            (vec![], true, "closed the connection"),
        ] {
            let (address, _) = server(&replies).await;
            let problem = deliver(Encryption::None, None, address).await.expect_err(shown);
            assert!(problem.message.contains(shown), "{shown}: {problem}");
            assert_eq!(problem.context["retryable"], is_retryable, "{problem}");
        }
    }

    #[tokio::test]
    async fn a_password_is_never_shown_and_never_sent_without_tls_that_is_required() {
        let start_tls = "250-mail\r\n250 STARTTLS\r\n";
        let other = "250-mail\r\n250 AUTH CRAM-MD5\r\n";
        let wrong = "535 no correct horse\r\n";
        for (encryption, replies, is_retryable, shown) in [
            (Encryption::StartTls, vec![HELLO, PLAIN], false, "does not support STARTTLS"),
            (Encryption::StartTls, vec![HELLO, start_tls, "454 no\r\n"], true, "code 454: no"),
            (Encryption::None, vec![HELLO, other], false, "neither AUTH PLAIN nor AUTH LOGIN"),
            (Encryption::None, vec![HELLO, PLAIN, wrong], false, "code 535: no ***"),
        ] {
            let (address, commands) = server(&replies).await;
            let problem = deliver(encryption, Some(LOGIN), address).await.expect_err(shown);
            assert!(problem.message.contains(shown), "{shown}: {problem}");
            assert_eq!(problem.context["retryable"], is_retryable, "{problem}");
            if encryption == Encryption::StartTls {
                let commands = commands.await.expect("commands");
                assert!(!commands.contains("AUTH"), "{commands}");
            }
        }
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let accepted = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            acceptor.accept(stream).await.is_ok()
        });
        let problem = deliver(Encryption::Tls, Some(LOGIN), address).await.expect_err("refused");
        assert!(problem.message.contains("invalid peer certificate"), "{problem}");
        assert_eq!(problem.context["retryable"], true);
        assert!(!accepted.await.expect("an attempt"));
    }

    #[tokio::test]
    async fn a_server_that_refuses_connections_is_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let problem = deliver(Encryption::None, None, address).await.expect_err("refused");
        assert!(problem.message.contains("cannot be reached"), "{problem}");
        assert_eq!(problem.context["retryable"], true);
    }
}
