//! Denied connections of a call. They are reported in the function's output and in the hint of its
//! error.

use std::fmt;

use parking_lot::Mutex;

use super::AllowedHost;
use crate::LimitSource;

/// The maximum number of denials reported per call.
pub(super) const REPORTED_MAX: usize = 20;

/// Reason why a connection was denied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The destination is the host itself, or an address that only the host can reach.
    Own,
    /// The host is missing from the function's list of allowed hosts.
    Unlisted(AllowedHost),
    /// The maximum number of connections is reached; contains the error text.
    Full(String),
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Own => formatter
                .write_str("the address belongs to this host, or is not publicly reachable"),
            Denial::Unlisted(_) => {
                formatter.write_str("`network` of the function does not list the host")
            }
            Denial::Full(why) => formatter.write_str(why),
        }
    }
}

/// The hosts to which connections of a call were denied because the function's list does not
/// contain them. Only the first denied hosts are kept.
#[derive(Debug, Default)]
pub struct DeniedHosts(Mutex<Vec<AllowedHost>>);

impl DeniedHosts {
    /// Adds a denied host.
    pub(super) fn record(&self, host: &AllowedHost) {
        let mut hosts = self.0.lock();
        if hosts.len() < REPORTED_MAX && !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }

    /// Returns the hint for an exception of user code with this message. If the message contains a
    /// denied host, the hint names this host. Otherwise, if `unreachable` is set, the hint names
    /// the last denied host.
    pub fn hint(&self, message: &str, unreachable: bool, settings: LimitSource) -> Option<String> {
        let hosts = self.0.lock();
        let named = hosts.iter().rfind(|host| message.contains(&host.name));
        let host = named.or_else(|| hosts.last().filter(|_| unreachable))?;
        Some(settings.allow_hint(&host.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_host_that_an_exception_is_about() {
        let denied_hosts = DeniedHosts::default();
        let host = |text: &str| text.parse::<AllowedHost>().unwrap();
        let settings = LimitSource::Decorator;
        assert_eq!(denied_hosts.hint("no route to a.example.com", true, settings), None);
        for text in ["a.example.com", "b.example.com:443", "b.example.com:443"] {
            denied_hosts.record(&host(text));
        }
        let check = |message: &str, unreachable: bool, named: Option<&str>| {
            let hint = denied_hosts.hint(message, unreachable, settings);
            let wanted = named.map(|named| format!("Add `\"{named}\"` to `network=[...]`"));
            assert_eq!(hint.is_some(), wanted.is_some(), "{message}");
            assert!(hint.unwrap_or_default().starts_with(&wanted.unwrap_or_default()), "{message}");
        };
        check("no route to a.example.com", false, Some("a.example.com"));
        check("[Errno 104] Connection reset by peer", true, Some("b.example.com:443"));
        check("division by zero", false, None);
        for (settings, expected) in [
            (LimitSource::Deployment, "`--network b.example.com:443`"),
            (LimitSource::ProjectFile, "of the function in headwater.toml"),
        ] {
            let hint = denied_hosts.hint("reset", true, settings).expect("a hint");
            assert!(hint.contains(expected), "{hint}");
        }
        for number in 0..100 {
            denied_hosts.record(&host(&format!("{number}.example.com")));
        }
        assert_eq!(denied_hosts.0.lock().len(), REPORTED_MAX);
    }
}
