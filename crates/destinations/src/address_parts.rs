//! Parts of addresses: options, durations and hosts. Does no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{ErrorCode, Problem, parse_duration};
use url::Url;
use url::form_urlencoded;

/// Maximum time limit that a user can set for a server.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Returns the error for an invalid address. The message does not contain the address, because it
/// may contain a password.
pub(crate) fn invalid(reason: impl std::fmt::Display, hint: &str) -> Problem {
    Problem::new(ErrorCode::InvalidArgument, format!("the destination is invalid: {reason}"))
        .with_hint(hint)
}

/// The options of an address, by name.
#[derive(Debug, Default)]
pub(crate) struct AddressOptions(BTreeMap<String, Vec<String>>);

impl AddressOptions {
    /// Parses `name=value` pairs separated by `&`. Errors: an unknown or empty option.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
        // The URL parser would decode `+` as a space, but in an e-mail address it is a `+`.
        let text = text.unwrap_or_default().replace('+', "%2B");
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let hint = format!("Use only {}.", listed(known));
            if !known.contains(&&*name) {
                return Err(invalid(format_args!("the option `{name}` is unknown"), &hint));
            }
            if value.is_empty() || value.contains(char::is_control) {
                let reason = format!("the option `{name}` is empty or has control characters");
                return Err(invalid(reason, "Give the option a value."));
            }
            options.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Ok(AddressOptions(options))
    }

    /// Removes an option, and returns all its values.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).unwrap_or_default()
    }

    /// Removes an option, and returns its value. Error: the option has several values.
    pub fn one(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.all(name);
        if values.len() > 1 {
            let reason = format!("the option `{name}` occurs more than once");
            return Err(invalid(reason, "Write each option once."));
        }
        Ok(values.pop())
    }

    /// Removes the option `secret`, and returns the name of the secret.
    pub fn secret(&mut self) -> Result<Option<String>, Problem> {
        let Some(name) = self.one("secret")? else { return Ok(None) };
        match headwater_secrets::check_name(&name) {
            Ok(()) => Ok(Some(name)),
            Err(error) => Err(invalid(error, "Store it with `headwater secret set NAME`.")),
        }
    }

    /// Removes the option `timeout`, and returns its value.
    pub fn timeout(&mut self, default: Duration) -> Result<Duration, Problem> {
        let Some(text) = self.one("timeout")? else { return Ok(default) };
        let parsed = parse_duration(&text).ok();
        parsed.filter(|time| !time.is_zero() && *time <= TIMEOUT_MAX).ok_or_else(|| {
            let most = TIMEOUT_MAX.as_secs();
            let reason = format!("the timeout `{text}` is not between 0s and {most}s");
            invalid(reason, "Write a duration such as `10s`.")
        })
    }
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Parses a URL with a host and without a password.
pub(crate) fn url(text: &str, example: &str) -> Result<Url, Problem> {
    let hint = format!("Write an address such as `{example}`.");
    let url = Url::parse(text).map_err(|error| invalid(error, &hint))?;
    if url.password().is_some() {
        let hint = "Remove the password; store it with `headwater secret set NAME`, and add \
                    `secret=NAME`.";
        return Err(invalid("it contains a password", hint));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("it has no host", &hint));
    }
    Ok(url)
}

/// Returns a part of a URL without percent-encoding.
pub(crate) fn decoded(part: &str) -> String {
    // The query parser of `url` decodes `+` as a space, so `+` is encoded first.
    let query = format!("v={}", part.replace('+', "%2B"));
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// Returns the host of a URL without brackets.
pub(crate) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
}
