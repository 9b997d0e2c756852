//! Journal entries and key ranges.
//!
//! Keys are compared byte by byte, so timestamps with a fixed number of digits sort by time.

use bytes::Bytes;

/// A journal entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The position in the journal; later entries have higher positions.
    pub position: u64,
    /// Key of the entry.
    pub key: String,
    /// Value of the entry.
    pub value: Bytes,
}

/// A range of journal keys, with order and limit. The default is all keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The prefix that all keys share.
    pub prefix: String,
    /// The lower bound, inclusive.
    pub from: Option<String>,
    /// The upper bound, exclusive.
    pub until: Option<String>,
    /// True for descending order.
    pub reverse: bool,
    /// The maximum number of entries.
    pub limit: usize,
}

impl Default for KeyRange {
    fn default() -> Self {
        KeyRange {
            prefix: String::new(),
            from: None,
            until: None,
            reverse: false,
            limit: usize::MAX,
        }
    }
}

impl KeyRange {
    /// Returns the range of all keys.
    pub fn all() -> Self {
        KeyRange::default()
    }

    /// Returns the range of the keys with this prefix.
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        KeyRange { prefix: prefix.into(), ..KeyRange::default() }
    }

    /// Sets the lower bound, inclusive.
    #[must_use]
    pub fn from(mut self, key: impl Into<String>) -> Self {
        self.from = Some(key.into());
        self
    }

    /// Sets the upper bound, exclusive.
    #[must_use]
    pub fn until(mut self, key: impl Into<String>) -> Self {
        self.until = Some(key.into());
        self
    }

    /// Sets descending order.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Sets the maximum number of entries.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the inclusive lower bound and the exclusive upper bound, if any.
    pub(crate) fn bounds(&self) -> (&str, Option<String>) {
        let from = self.from.as_deref().unwrap_or_default().max(&self.prefix);
        let until = match (successor(&self.prefix), &self.until) {
            (Some(end), Some(until)) => Some(end.min(until.clone())),
            (end, until) => end.or_else(|| until.clone()),
        };
        (from, until)
    }
}

/// Returns the smallest string that is greater than every string with this prefix, or `None` if
/// there is none.
pub(crate) fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The order of code points equals the order of their UTF-8 bytes. Skip the surrogates after
        // U+D7FF, which are not characters.
        let next = if last == '\u{D7FF}' {
            '\u{E000}'
        } else {
            match char::from_u32(last as u32 + 1) {
                Some(next) => next,
                None => continue,
            }
        };
        text.push(next);
        return Some(text);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_is_the_exclusive_end_of_a_prefix() {
        let check = |prefix, end: Option<&str>| assert_eq!(successor(prefix).as_deref(), end);
        check("", None);
        check("a", Some("b"));
        check("job/", Some("job0"));
        check("a\u{10FFFF}", Some("b"));
        check("\u{10FFFF}", None);
        check("\u{D7FF}", Some("\u{E000}"));
        check("é", Some("ê"));
    }

    #[test]
    fn bounds_are_the_intersection_of_prefix_from_and_until() {
        let range = KeyRange::with_prefix("b").from("a").until("c");
        assert_eq!(range.bounds(), ("b", Some("c".to_owned())));
        let range = KeyRange::with_prefix("b").from("b5").until("b7");
        assert_eq!(range.bounds(), ("b5", Some("b7".to_owned())));
        assert_eq!(KeyRange::all().bounds(), ("", None));
    }
}
