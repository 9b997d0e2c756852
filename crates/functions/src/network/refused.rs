//! What a function asked for and did not get: told in its output, and where it fails of that, named by
//! the hint of its error.

use std::fmt;

use parking_lot::Mutex;

use super::Host;

/// The most refusals that are told of one call.
pub(super) const TOLD_MAX: usize = 20;

/// Why a connection is not made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It leads to the host itself, or to what it alone can reach.
    Own,
    /// The function lists what it may reach, and this, as it would be listed, is not among that.
    Unlisted(Host),
    /// There is no room for one more.
    Full(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Own => {
                formatter.write_str("it is the host's own, or none that others can reach")
            }
            Refusal::Unlisted(_) => {
                formatter.write_str("`network` in the function's decorator does not list it")
            }
            Refusal::Full(why) => formatter.write_str(why),
        }
    }
}

/// The hosts that a call asked for although it does not list them, the first ones.
#[derive(Debug, Default)]
pub(crate) struct Unlisted(Mutex<Vec<Host>>);

impl Unlisted {
    /// Notes one.
    pub(super) fn note(&self, host: &Host) {
        let mut hosts = self.0.lock();
        if hosts.len() < TOLD_MAX && !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }

    /// What to do about an exception with this message: if it names such a host, or else means that a host
    /// could not be reached, which is the last that was asked for.
    pub(crate) fn hint(&self, message: &str, unreachable: bool) -> Option<String> {
        let hosts = self.0.lock();
        let named = hosts.iter().rfind(|host| message.contains(&host.name));
        let host = named.or_else(|| hosts.last().filter(|_| unreachable))?;
        Some(format!(
            "Add `\"{host}\"` to `network=[...]` in the function's decorator: it reaches the hosts that \
             are listed there, and no others."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_host_that_an_exception_is_about() {
        let unlisted = Unlisted::default();
        let host = |text: &str| text.parse::<Host>().unwrap();
        assert_eq!(unlisted.hint("no way to a.example.com", true), None);
        for text in ["a.example.com", "b.example.com:443", "b.example.com:443"] {
            unlisted.note(&host(text));
        }
        let check = |message: &str, unreachable: bool, named: Option<&str>| {
            let hint = unlisted.hint(message, unreachable);
            let wanted = named.map(|named| format!("Add `\"{named}\"` to `network=[...]`"));
            assert_eq!(hint.is_some(), wanted.is_some(), "{message}");
            assert!(hint.unwrap_or_default().starts_with(&wanted.unwrap_or_default()), "{message}");
        };
        check("no way to a.example.com", false, Some("a.example.com"));
        check("[Errno 104] Connection reset by peer", true, Some("b.example.com:443"));
        check("division by zero", false, None);
        for number in 0..100 {
            unlisted.note(&host(&format!("{number}.example.com")));
        }
        assert_eq!(unlisted.0.lock().len(), TOLD_MAX);
    }
}
