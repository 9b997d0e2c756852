//! Addresses of destinations. Parses text; does no I/O.

use headwater_model::{AccessObject, Action, Problem};
use headwater_queues::is_queue_name;
use headwater_triggers::ServerAddress;

use crate::address_parts::invalid;
use crate::http::HttpEndpoint;
use crate::mail::MailRoute;
use crate::object::ObjectTarget;
use crate::postgres::PostgresTable;
use crate::table::TableTarget;

/// Maximum length of an address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 1_000;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationAddress {
    /// A queue of the lake: `queue://NAME`.
    Queue(String),
    /// A URL that receives a POST request.
    Http(HttpEndpoint),
    /// A table that receives rows: `table://NAMESPACE.NAME`.
    Table(TableTarget),
    /// An object that is written: `bucket://BUCKET/KEY`.
    Object(ObjectTarget),
    /// A table of PostgreSQL that receives rows: `postgres://USER@HOST/DATABASE?table=NAME`.
    Postgres(PostgresTable),
    /// An SMTP server that receives an e-mail: `smtp://` or `smtps://`.
    Mail(Box<MailRoute>),
}

/// Returns true if a string is an address, and not the name of a function.
pub fn is_address(text: &str) -> bool {
    text.contains("://")
}

impl DestinationAddress {
    /// Parses an address. Error: `invalid_argument`.
    pub fn parse(address: &str) -> Result<Self, Problem> {
        let hint = "Write `queue://NAME`, `table://NAME`, `bucket://BUCKET/KEY`, a URL, \
                    `postgres://USER@HOST/DATABASE?table=NAME`, or `smtp://SERVER?from=A&to=B`.";
        if address.len() > ADDRESS_BYTES_MAX || address.contains(char::is_control) {
            let most = ADDRESS_BYTES_MAX;
            let reason = format!("it has more than {most} bytes, or control characters");
            return Err(invalid(reason, hint));
        }
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        match scheme {
            "queue" if is_queue_name(rest) => Ok(DestinationAddress::Queue(rest.to_owned())),
            "queue" => {
                let hint = "Name a queue, such as `queue://orders`: letters, digits, `-` and `_`.";
                Err(invalid(format_args!("`{rest}` is not a name of a queue"), hint))
            }
            "table" => TableTarget::parse(rest).map(DestinationAddress::Table),
            "bucket" => ObjectTarget::parse(rest).map(DestinationAddress::Object),
            "postgres" | "postgresql" => {
                PostgresTable::parse(address).map(DestinationAddress::Postgres)
            }
            "http" | "https" => HttpEndpoint::parse(address).map(DestinationAddress::Http),
            "smtp" | "smtps" => {
                MailRoute::parse(address).map(|route| DestinationAddress::Mail(Box::new(route)))
            }
            scheme => Err(invalid(format_args!("the scheme `{scheme}` is unknown"), hint)),
        }
    }

    /// Returns the rights that an identity needs to set the destination.
    pub fn rights(&self) -> Vec<(Action, AccessObject)> {
        let mut rights = match self {
            DestinationAddress::Queue(name) => vec![(Action::Write, AccessObject::queue(name))],
            DestinationAddress::Table(target) => target.rights(),
            DestinationAddress::Object(target) => target.rights(),
            DestinationAddress::Http(_)
            | DestinationAddress::Mail(_)
            | DestinationAddress::Postgres(_) => Vec::new(),
        };
        rights.extend(self.secret().map(|name| (Action::Use, AccessObject::secret(name))));
        rights
    }

    /// Returns the name of the secret that the destination uses.
    pub fn secret(&self) -> Option<&str> {
        match self {
            DestinationAddress::Http(endpoint) => endpoint.secret(),
            DestinationAddress::Mail(route) => route.secret(),
            DestinationAddress::Postgres(table) => table.secret(),
            DestinationAddress::Queue(_)
            | DestinationAddress::Table(_)
            | DestinationAddress::Object(_) => None,
        }
    }

    /// Returns the server that the destination connects to.
    pub fn server(&self) -> Option<ServerAddress> {
        match self {
            DestinationAddress::Http(endpoint) => Some(endpoint.server()),
            DestinationAddress::Mail(route) => Some(route.server()),
            DestinationAddress::Postgres(table) => Some(table.server()),
            DestinationAddress::Queue(_)
            | DestinationAddress::Table(_)
            | DestinationAddress::Object(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_state_the_rights_that_they_need() {
        for (address, rights, server) in [
            ("queue://orders", "write on queue:orders", ""),
            ("queue://orders.fifo", "write on queue:orders.fifo", ""),
            ("table://calls", "write on branch:main, insert on table:public.calls", ""),
            ("table://log.calls?branch=dev", "write on branch:dev, insert on table:log.calls", ""),
            ("bucket://reports/a/{event}.csv", "write on bucket:reports/a/{event}.csv", ""),
            ("postgres://u@h/d?table=t#secret=P", "use on secret:P", "postgres://h:5432"),
            ("https://example.com/a?b=c", "", "https://example.com:443"),
            (
                "http://[::1]:8080/#secret=TOKEN&header=X-Key&timeout=2s",
                "use on secret:TOKEN",
                "http://[::1]:8080",
            ),
            (
                "smtp://ana%40example.com@Mail.example.com?from=a+b@example.com\
                 &to=c@example.com&secret=MAIL",
                "use on secret:MAIL",
                "smtp://mail.example.com:587",
            ),
            ("smtps://example.com?from=a@b.c&to=d@e.f&to=g@h.i", "", "smtps://example.com:465"),
            ("smtp://h:25?from=Lake <a@b.c>&to=d@e.f&tls=none", "", "smtp://h:25"),
            ("smtp://[::1]/?from=a@b.c&to=d@e.f", "", "smtp://[::1]:587"),
        ] {
            let parsed = DestinationAddress::parse(address).expect(address);
            let named = parsed.rights().into_iter();
            let named: Vec<String> =
                named.map(|(action, object)| format!("{} on {object}", action.as_str())).collect();
            assert_eq!(named.join(", "), rights, "{address}");
            let named = parsed.server().map(|server| server.to_string()).unwrap_or_default();
            assert_eq!(named, server, "{address}");
        }
    }

    #[test]
    fn invalid_addresses_are_rejected_without_their_passwords() {
        for (address, reason) in [
            ("ftp://example.com", "the scheme `ftp` is unknown"),
            ("queue://a/b", "`a/b` is not a name of a queue"),
            ("queue://", "`` is not a name of a queue"),
            ("table://", "name"),
            ("table://a.b.c*", "name"),
            ("table://a?branch=../x", "name"),
            ("table://a?rows=1", "the option `rows` is unknown"),
            ("bucket://Reports/a", "`Reports` is not the name of a bucket"),
            ("bucket://reports", "it has no key"),
            ("bucket://reports/*", "the key contains `*`"),
            ("bucket://reports/{day}.csv", "the unknown value `{day}`"),
            ("bucket://reports/{event", "the unknown value `{}`"),
            ("postgres://u@h/d", "the option `table` is missing"),
            ("postgres://h/d?table=t", "the user name or the database name is missing"),
            ("postgres://u%00x@h/d?table=t", "contains control characters"),
            ("postgres://u:pa55word@h/d?table=t", "it contains a password"),
            ("postgres://u@h/d?table=a.b.c", "the option `table` must be"),
            ("postgres://u@h/d?table=t&sslmode=maybe", "`sslmode=maybe` is not supported"),
            ("https://", "host"),
            ("https://ana:pa55word@example.com", "it contains a password"),
            ("https://ana@example.com", "it contains a user"),
            ("https://example.com#token=pa55word", "the option `token` is unknown"),
            ("https://example.com#secret=a b", "secret"),
            ("https://example.com#header=a", "`header` is set, but `secret` is not"),
            ("https://example.com#secret=a&header=b c", "`b c` is not a name of a header"),
            ("https://example.com#secret=a&header=Content-Length", "cannot be set"),
            ("https://example.com#timeout=2h", "the timeout `2h` is not between"),
            ("https://example.com#timeout=1s&timeout=2s", "occurs more than once"),
            ("smtp://example.com", "the option `from` is missing"),
            ("smtp://example.com?from=a@b.c", "the option `to` is missing"),
            ("smtp://example.com?from=nothing&to=a@b.c", "`nothing` is not an e-mail address"),
            ("smtp://example.com?from=a@b.c&to=a@b.c>x", "is not an e-mail address"),
            ("smtp://example.com?from=a@b.c&to=a%20b@b.c", "is not an e-mail address"),
            ("smtp://example.com?from=a@b.c&to=ü@b.c", "is not an e-mail address"),
            ("smtp://example.com?from=a@b.c&to=a@b.c%0aBcc:x@y.z", "control characters"),
            ("smtp://ana:pa55word@example.com?from=a@b.c&to=d@e.f", "it contains a password"),
            ("smtp://ana@example.com?from=a@b.c&to=d@e.f", "`secret` is not set"),
            ("smtp://a%00b@example.com?from=a@b.c&to=d@e.f&secret=S", "control characters"),
            ("smtp://example.com?from=a@b.c&to=d@e.f&secret=S", "has no user"),
            ("smtp://example.com?from=a@b.c&to=d@e.f#secret=S", "a path or a fragment"),
            ("smtp://example.com/x?from=a@b.c&to=d@e.f", "a path or a fragment"),
            ("smtp://ana@h?from=a@b.c&to=d@e.f&secret=S&tls=none", "without TLS"),
            ("smtp://h?from=a@b.c&to=d@e.f&tls=maybe", "`maybe` is not a value of `tls`"),
            ("smtps://h?from=a@b.c&to=d@e.f&tls=none", "`none` is not a value of `tls`"),
        ] {
            let problem = DestinationAddress::parse(address).expect_err(address);
            assert!(problem.message.contains(reason), "{address}: {problem}");
            assert!(!problem.to_string().contains("pa55word"), "{problem}");
        }
        let long = format!("https://example.com/{}", "a".repeat(ADDRESS_BYTES_MAX));
        DestinationAddress::parse(&long).expect_err("too long");
    }
}
