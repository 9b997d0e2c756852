//! Entries of a journal, and ranges of their keys.
//!
//! Keys are compared byte by byte, so a moment written with a fixed number of digits sorts by time.

use bytes::Bytes;

/// An entry of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the journal; later entries have higher ones.
    pub position: u64,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
}

/// Keys of a journal, and how many of their entries to take. The default is all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Keys that begin with this.
    pub prefix: String,
    /// The first key, itself included.
    pub from: Option<String>,
    /// Where the range ends, that key left out.
    pub until: Option<String>,
    /// Begin at the end.
    pub reverse: bool,
    /// The most entries to take.
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
    /// Every key.
    pub fn all() -> Self {
        KeyRange::default()
    }

    /// The keys that begin with `prefix`.
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        KeyRange { prefix: prefix.into(), ..KeyRange::default() }
    }

    /// Begins at `key`, itself included.
    #[must_use]
    pub fn from(mut self, key: impl Into<String>) -> Self {
        self.from = Some(key.into());
        self
    }

    /// Ends before `key`.
    #[must_use]
    pub fn until(mut self, key: impl Into<String>) -> Self {
        self.until = Some(key.into());
        self
    }

    /// Takes the last keys first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Takes at most `limit` entries.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The first key of the range and, where it ends, the key it ends before.
    pub(crate) fn bounds(&self) -> (&str, Option<String>) {
        let from = self.from.as_deref().unwrap_or_default().max(&self.prefix);
        let until = match (successor(&self.prefix), &self.until) {
            (Some(end), Some(until)) => Some(end.min(until.clone())),
            (end, until) => end.or_else(|| until.clone()),
        };
        (from, until)
    }
}

/// The least string that is greater than every string that begins with `prefix`; none where there is no
/// such string.
pub(crate) fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // Code points sort as their UTF-8 bytes do; the surrogates in between are no characters.
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
    fn a_prefix_ends_before_its_successor() {
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
    fn bounds_are_the_narrowest_of_prefix_from_and_until() {
        let range = KeyRange::with_prefix("b").from("a").until("c");
        assert_eq!(range.bounds(), ("b", Some("c".to_owned())));
        let range = KeyRange::with_prefix("b").from("b5").until("b7");
        assert_eq!(range.bounds(), ("b5", Some("b7".to_owned())));
        assert_eq!(KeyRange::all().bounds(), ("", None));
    }
}
