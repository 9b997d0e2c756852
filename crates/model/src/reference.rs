//! Refs, which select a state of the lake. `main` and `v1.0` name a branch or a tag,
//! `main@3fa9c1d2` a commit in a branch's history, and `@3fa9c1d2` a commit. A hash may be
//! shortened to eight digits. `main~2` is the commit two steps before `main`, and
//! `main*2026-11-01T12:00:00Z` is `main` at that time.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NAME_BYTES_MAX, NameError};
use crate::{CommitId, Timestamp};

/// The branch of a new lake.
pub const MAIN_BRANCH: &str = "main";

/// Minimum number of digits of an abbreviated commit hash.
pub const HASH_DIGITS_MIN: usize = 8;

/// Checks a branch's or tag's name. Allowed are letters, digits and `. _ - /`. The name starts with
/// a letter, digit or `_`, and contains no `..` and no empty path segment. It does not end with `/`
/// or `.`.
pub fn check_ref_name(name: &str, what: &'static str) -> Result<(), NameError> {
    let fail = |reason| Err(NameError { name: name.to_owned(), what, reason });
    if name.is_empty() {
        return fail("the name is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return fail("the name is longer than 255 bytes");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return fail("the name must begin with a letter, a digit or an underscore");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c)) {
        return fail("the name can have only letters, digits, `.`, `_`, `-` and `/`");
    }
    if name.contains("..") || name.contains("//") || name.ends_with(['/', '.']) {
        return fail("the name contains `..` or `//`, or ends with `.` or `/`");
    }
    Ok(())
}

/// A ref as written; the catalog resolves it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RefSpec {
    /// The head of a branch, or the commit of a tag.
    Name(String),
    /// A commit in the history of a branch or tag, by its full or abbreviated hash.
    At {
        /// The branch or tag.
        name: String,
        /// Lower-case hexadecimal digits.
        hash: String,
    },
    /// A commit, by its full or abbreviated hash.
    Commit(String),
    /// An ancestor of another ref's commit: an earlier state of the branch. Only first parents are
    /// followed.
    Before {
        /// The other ref.
        of: Box<RefSpec>,
        /// The distance back from the other ref's commit.
        back: AncestorDistance,
    },
}

/// The distance from a commit back to an ancestor on the same branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AncestorDistance {
    /// A number of commits before it.
    Commits(u32),
    /// The last commit that was made at or before this time.
    Time(Timestamp),
}

impl AncestorDistance {
    /// Splits `name~2` or `name*2026-11-01` at its last `~` or `*`; `None` if the text contains
    /// neither character.
    pub fn split(text: &str) -> Result<Option<(&str, AncestorDistance)>, NameError> {
        let Some(at) = text.rfind(['~', '*']) else { return Ok(None) };
        let (before, rest) = (&text[..at], &text[at + 1..]);
        let fail = |reason| NameError { name: text.to_owned(), what: "ref", reason };
        let back = if text[at..].starts_with('~') {
            let commits = rest.parse().ok().filter(|_| rest.bytes().all(|b| b.is_ascii_digit()));
            AncestorDistance::Commits(
                commits.ok_or_else(|| fail("`~` must be followed by a number of commits"))?,
            )
        } else {
            let time = parse_timestamp(rest);
            AncestorDistance::Time(time.ok_or_else(|| {
                fail("`*` must be followed by a time, such as 2026-11-01T12:00:00Z")
            })?)
        };
        Ok(Some((before, back)))
    }
}

impl fmt::Display for AncestorDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AncestorDistance::Commits(count) => write!(f, "~{count}"),
            AncestorDistance::Time(time) => {
                write!(f, "*{}", time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            }
        }
    }
}

/// Parses a time: a date, a date and time with a zone (UTC by default), or milliseconds since 1970.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return DateTime::from_timestamp_millis(text.parse().ok()?);
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN).and_utc());
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"] {
        if let Ok(moment) = DateTime::parse_from_str(text, format) {
            return Some(moment.to_utc());
        }
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let local = |format| NaiveDateTime::parse_from_str(text, format).ok();
    formats.into_iter().find_map(local).map(|moment| moment.and_utc())
}

impl RefSpec {
    /// Returns the ref `main`.
    pub fn main() -> Self {
        RefSpec::Name(MAIN_BRANCH.to_owned())
    }
}

impl FromStr for RefSpec {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((of, back)) = AncestorDistance::split(text)? {
            return Ok(RefSpec::Before { of: Box::new(of.parse()?), back });
        }
        let Some((name, hash)) = text.split_once('@') else {
            check_ref_name(text, "ref")?;
            return Ok(RefSpec::Name(text.to_owned()));
        };
        let digits = hash.len() >= HASH_DIGITS_MIN && hash.len() <= 64;
        if !digits || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            let reason = "a commit is 8 to 64 hexadecimal digits";
            return Err(NameError { name: text.to_owned(), what: "ref", reason });
        }
        let hash = hash.to_ascii_lowercase();
        if name.is_empty() {
            return Ok(RefSpec::Commit(hash));
        }
        check_ref_name(name, "ref")?;
        Ok(RefSpec::At { name: name.to_owned(), hash })
    }
}

impl fmt::Display for RefSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefSpec::Name(name) => f.write_str(name),
            RefSpec::At { name, hash } => write!(f, "{name}@{hash}"),
            RefSpec::Commit(hash) => write!(f, "@{hash}"),
            RefSpec::Before { of, back } => write!(f, "{of}{back}"),
        }
    }
}

impl Serialize for RefSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RefSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A resolved ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedRef {
    /// The commit.
    #[schema(value_type = String)]
    pub commit: CommitId,
    /// The branch, if the ref is the head of a branch. Without a branch, the ref is read-only.
    pub branch: Option<String>,
}
