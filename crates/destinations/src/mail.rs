//! E-mail as a destination: one message for each record or result, through an SMTP server.
//!
//! [`MailRoute`] is a parsed address. The id of a message contains the id of the event, so that
//! mail servers and clients can detect a message that was sent twice. Addresses and headers never
//! contain line breaks, so a value cannot add a command or a header.

use headwater_model::{Problem, Timestamp};
use headwater_triggers::{ConnectionPolicy, ServerAddress};
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::raw::Raw;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::address_parts::{self, AddressOptions, invalid};
use crate::invocation_record::InvocationRecord;
use crate::payload::{IdentifiedPayload, Payload};
use crate::send_failure::{rejected, unsuitable};
use crate::smtp::{Encryption, Login, Mail, SmtpServer};

const EXAMPLE: &str =
    "smtp://user@mail.example.com?from=a@example.com&to=b@example.com&secret=MAIL";

/// The default ports for STARTTLS and for TLS from the first byte.
const PORT: u16 = 587;
const TLS_PORT: u16 = 465;

/// Maximum number of recipients.
const RECIPIENTS_MAX: usize = 20;

/// Maximum lengths of the parts of an e-mail address, in bytes (RFC 5321, 4.5.3.1).
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

/// Maximum length of a subject, in characters.
const SUBJECT_CHARACTERS_MAX: usize = 200;

/// Maximum length of the error message that an e-mail shows before the record, in characters.
const ERROR_CHARACTERS_MAX: usize = 2_000;

/// Maximum size of the record in an e-mail, in bytes.
const RECORD_BYTES_MAX: usize = 256 << 10;

/// Maximum size of a result in an e-mail, in bytes.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// An SMTP server with the sender and the recipients of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRoute {
    server: ServerAddress,
    encryption: Encryption,
    user: Option<String>,
    /// The name of the secret with the password.
    secret: Option<String>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl MailRoute {
    /// Parses the URL of a server, with the options in its query.
    pub(crate) fn parse(address: &str) -> Result<Self, Problem> {
        let url = address_parts::url(address, EXAMPLE)?;
        let example = format!("Write an address such as `{EXAMPLE}`.");
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(invalid("it has a path or a fragment", &example));
        }
        let mut options = AddressOptions::parse(url.query(), &["from", "to", "secret", "tls"])?;
        let missing =
            |name: &str| invalid(format_args!("the option `{name}` is missing"), &example);
        let from = options.one("from")?.ok_or_else(|| missing("from"))?;
        let to: Vec<String> = options.all("to");
        if to.is_empty() {
            return Err(missing("to"));
        }
        if to.len() > RECIPIENTS_MAX {
            let reason = format!("it has more than {RECIPIENTS_MAX} recipients");
            return Err(invalid(reason, "Send to a mailing list."));
        }
        let encryption = encryption(url.scheme(), options.one("tls")?.as_deref())?;
        let user = user(url.username())?;
        let secret = options.secret()?;
        check_login(encryption, user.as_deref(), secret.as_deref())?;
        let (scheme, port) = match encryption {
            Encryption::Tls => ("smtps", TLS_PORT),
            Encryption::StartTls | Encryption::None => ("smtp", PORT),
        };
        let host = address_parts::host(&url).to_ascii_lowercase();
        let server = ServerAddress { scheme, host, port: url.port().unwrap_or(port) };
        let from = Mailbox::parse(&from)?;
        let to = to.iter().map(|text| Mailbox::parse(text)).collect::<Result<_, Problem>>()?;
        Ok(MailRoute { server, encryption, user, secret, from, to })
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    pub(crate) fn server(&self) -> ServerAddress {
        self.server.clone()
    }

    /// Sends a record or a result as a message. The server must accept all recipients.
    pub(crate) async fn send(
        &self,
        content: &IdentifiedPayload<'_>,
        policy: &ConnectionPolicy,
        password: Option<&str>,
    ) -> Result<Value, Problem> {
        let message = self.message(content).await?;
        let addresses = policy.resolve(&self.server).await?;
        let login = match (&self.user, password) {
            (Some(user), Some(password)) => Some(Login { user, password }),
            _ => None,
        };
        let server = SmtpServer { name: &self.server, encryption: self.encryption, login };
        let to = self.to.iter().map(|mailbox| mailbox.address.as_str()).collect();
        server.deliver(&addresses, Mail { from: &self.from.address, to, message }).await?;
        Ok(json!({"recipients": self.to.len()}))
    }

    /// Returns the headers and the text of the e-mail, which are the same for each attempt to send
    /// it.
    async fn message(&self, content: &IdentifiedPayload<'_>) -> Result<Vec<u8>, Problem> {
        let MailContent { subject, time, text } = letter(content).await?;
        let (_, domain) = self.from.address.rsplit_once('@').unwrap_or_default();
        let subject = subject.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARACTERS_MAX);
        let mut message: Vec<u8> = Vec::new();
        MessageBuilder::new()
            .message_id(format!("{}@{domain}", content.id))
            .date(time.timestamp())
            .from(self.from.header())
            .to(Address::new_list(self.to.iter().map(Mailbox::header).collect()))
            .subject(subject.collect::<String>())
            // Prevents automatic replies, such as a notice of absence (RFC 3834).
            .header("Auto-Submitted", Raw::new("auto-generated"))
            .text_body(text)
            .serialize(&mut message);
        Ok(message)
    }
}

/// The content of a message.
struct MailContent {
    subject: String,
    time: Timestamp,
    text: String,
}

async fn letter(content: &IdentifiedPayload<'_>) -> Result<MailContent, Problem> {
    let (subject, time, mut text) = match content.payload {
        Payload::Record(json) => {
            let record = InvocationRecord { json };
            let invalid = |error| rejected(format!("the record has no valid time: {error}"));
            let time: Timestamp = record.time().parse().map_err(invalid)?;
            (format!("{} of {}", record.status(), record.function()), time, text(record))
        }
        Payload::Result(call) => {
            let body = content.body().await?.bytes;
            if body.len() > RESULT_BYTES_MAX {
                let most = RESULT_BYTES_MAX >> 20;
                return Err(unsuitable(
                    format!("the result has more than {most} MiB, the limit of an e-mail"),
                    "Write the result to a bucket, and send its key.",
                ));
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            (format!("result of {}", call.function), call.time, text)
        }
    };
    // Mail servers reject a carriage return without a line feed.
    text.retain(|c| matches!(c, '\n' | '\t') || !c.is_control());
    Ok(MailContent { subject, time, text })
}

/// An e-mail address with an optional name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mailbox {
    name: Option<String>,
    address: String,
}

impl Mailbox {
    /// Parses `ADDRESS` or `NAME <ADDRESS>`.
    fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        let named = text.strip_suffix('>').and_then(|text| text.rsplit_once('<'));
        let (name, address) = named.unwrap_or(("", text));
        if !is_address(address) {
            let hint = "Write an address such as `ana@example.com` or `Ana <ana@example.com>`.";
            return Err(invalid(format_args!("`{text}` is not an e-mail address"), hint));
        }
        let name = name.trim();
        let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
        let name = Some(quoted.unwrap_or(name).to_owned()).filter(|name| !name.is_empty());
        Ok(Mailbox { name, address: address.to_owned() })
    }

    fn header(&self) -> Address<'_> {
        Address::new_address(self.name.as_deref(), self.address.as_str())
    }
}

/// Returns true for an e-mail address that needs no quotes and no SMTP extension.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    (1..=LOCAL_BYTES_MAX).contains(&local.len())
        && local.chars().all(is_local)
        && domain.len() <= DOMAIN_BYTES_MAX
        && domain.split('.').all(is_label)
}

/// Returns the encryption that a scheme and the option `tls` select.
fn encryption(scheme: &str, tls: Option<&str>) -> Result<Encryption, Problem> {
    match (scheme, tls) {
        ("smtps", None) => Ok(Encryption::Tls),
        (_, None) => Ok(Encryption::StartTls),
        ("smtp", Some("none")) => Ok(Encryption::None),
        (_, Some(other)) => {
            let hint = "Remove `tls`. To send without TLS, write `smtp://` with `tls=none`.";
            Err(invalid(format_args!("`{other}` is not a value of `tls` for `{scheme}://`"), hint))
        }
    }
}

/// Returns the user of a URL without percent-encoding.
fn user(encoded: &str) -> Result<Option<String>, Problem> {
    let user = percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    if user.contains(char::is_control) {
        return Err(invalid("the user name contains control characters", "Correct the user name."));
    }
    Ok(Some(user).filter(|user| !user.is_empty()))
}

/// Checks that a user has a password, and that the password is sent with TLS only.
fn check_login(
    encryption: Encryption,
    user: Option<&str>,
    secret: Option<&str>,
) -> Result<(), Problem> {
    match (user, secret) {
        (Some(_), None) => {
            let hint = "Store the password with `headwater secret set NAME`, and add \
                        `secret=NAME`.";
            Err(invalid("it has a user, but `secret` is not set", hint))
        }
        (None, Some(_)) => {
            let hint = "Write the user before the host, as in `smtp://user@host`.";
            Err(invalid("it has a secret, but has no user", hint))
        }
        (Some(_), Some(_)) if encryption == Encryption::None => {
            Err(invalid("a password cannot be sent without TLS", "Remove `tls=none`."))
        }
        _ => Ok(()),
    }
}

/// Returns the text of a record's message.
fn text(record: InvocationRecord<'_>) -> String {
    let mut json = serde_json::to_string_pretty(record.json).unwrap_or_default();
    if json.len() > RECORD_BYTES_MAX {
        json.truncate(json.floor_char_boundary(RECORD_BYTES_MAX));
        json.push_str("\n(shortened)");
    }
    let shortened = |error: &str| error.chars().take(ERROR_CHARACTERS_MAX).collect::<String>();
    let error = record.error().map(shortened);
    let error = error.map(|error| format!("Error: {error}\n")).unwrap_or_default();
    format!(
        "Function: {}\nStatus: {}\nTime: {}\nEvent: {}\n{error}\n{json}\n",
        record.function(),
        record.status(),
        record.time(),
        record.call()
    )
}

#[cfg(test)]
mod tests {
    use headwater_functions::FunctionResult;

    use super::*;
    use crate::payload::ResultPayload;

    const EVENT: &str = "0191f5d0-0000-7000-8000-000000000001";

    async fn message(address: &str, json: &Value) -> String {
        let route = MailRoute::parse(address).expect("an address");
        let content = IdentifiedPayload { id: EVENT, payload: Payload::Record(json) };
        let message = route.message(&content).await.expect("a message");
        assert_eq!(route.message(&content).await.expect("a message"), message);
        String::from_utf8(message).expect("text")
    }

    fn record(function: &str, error: &str) -> Value {
        json!({
            "timestamp": "2026-03-01T10:00:00.250Z",
            "requestContext": {
                "requestId": "e1",
                "functionArn": format!("arn:aws:lambda:us-east-1:0:function:{function}"),
                "condition": "RetriesExhausted",
            },
            "responseContext": {"functionError": "Unhandled"},
            "responsePayload": {"errorMessage": error},
        })
    }

    #[tokio::test]
    async fn a_message_has_the_record_and_an_id_of_the_event() {
        let address = "smtp://h?from=Lake <lake@example.com>&to=ana@example.com&to=b+c@d.e";
        let message = message(address, &record("price:$LATEST", "no price")).await;
        let (head, body) = message.split_once("\r\n\r\n").expect("a body");
        for line in [
            "Message-ID: <0191f5d0-0000-7000-8000-000000000001@example.com>",
            "Date: Sun, 1 Mar 2026 10:00:00 +0000",
            "From: \"Lake\" <lake@example.com>",
            "To: <ana@example.com>, <b+c@d.e>",
            "Subject: RetriesExhausted of price",
            "Auto-Submitted: auto-generated",
            "Content-Type: text/plain; charset=\"utf-8\"",
        ] {
            assert!(head.lines().any(|shown| shown == line), "{line} in {head}");
        }
        for line in ["Function: price", "Event: e1", "Error: no price"] {
            assert!(body.lines().any(|shown| shown == line), "{line} in {body}");
        }
        assert!(body.contains("\"condition\": \"RetriesExhausted\""), "{body}");
    }

    #[tokio::test]
    async fn a_value_adds_no_header_and_no_carriage_return() {
        let json = record("a\r\nBcc: b", "one\rtwo\r\n.\r\nthree\u{0}");
        let message = message("smtp://h?from=Ünal \"x\" <a@b.c>&to=d@e.f", &json).await;
        let (head, body) = message.split_once("\r\n\r\n").expect("a body");
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(head.contains("From: =?utf-8?"), "{head}");
        assert!(head.is_ascii(), "{head}");
        assert!(!message.replace("\r\n", "").contains(['\r', '\n', '\0']), "{message}");
        assert!(body.contains("Error: onetwo\r\n.\r\nthree"), "{body}");
    }

    #[tokio::test]
    async fn a_long_record_is_shortened_and_long_lines_are_encoded() {
        let json = record("price", &"ü".repeat(RECORD_BYTES_MAX));
        let message = message("smtp://h?from=a@b.c&to=d@e.f", &json).await;
        assert!(message.is_ascii());
        assert!(message.lines().all(|line| line.len() <= 998));
        assert!(message.len() < 2 * RECORD_BYTES_MAX, "{}", message.len());
    }

    #[tokio::test]
    async fn a_result_is_the_text_of_a_message() {
        let route = MailRoute::parse("smtp://h?from=a@b.c&to=d@e.f").expect("an address");
        let sent = async |text: &str| {
            let value = FunctionResult::Json(serde_json::to_vec(text).expect("JSON").into());
            let time = Timestamp::UNIX_EPOCH;
            let call = ResultPayload { value: &value, event: EVENT, function: "report", time };
            let content = IdentifiedPayload { id: "e/output/1", payload: Payload::Result(call) };
            route.message(&content).await.map(|it| String::from_utf8(it).expect("text"))
        };
        let message = sent("Sales: 12\nReturns: 1").await.expect("a message");
        assert!(message.contains("Subject: result of report\r\n"), "{message}");
        assert!(message.ends_with("\r\n\r\nSales: 12\r\nReturns: 1"), "{message}");
        let problem = sent(&"x".repeat(RESULT_BYTES_MAX + 1)).await.expect_err("too long");
        assert!(problem.message.contains("the limit of an e-mail"), "{problem}");
    }
}
