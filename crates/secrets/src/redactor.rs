//! Removal of secrets from text that leaves a function: printed lines, errors and JSON results.
//!
//! A value is found in plain form, as base64 (even inside longer base64), percent-encoded,
//! hexadecimal, and escaped for JSON. A value that a function splits, reverses or encrypts is not
//! found.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The text that replaces a value.
const REPLACEMENT: &str = "***";

/// Minimum length in bytes of a value, or of one of its lines, to be replaced. Shorter texts occur
/// by chance.
const BYTES_MIN: usize = 4;

/// Replaces known values in texts. Without values, it changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Redactor(Option<SecretPatterns>);

/// The texts to replace. For each text, `extensions` determines the adjacent characters that are
/// also replaced.
#[derive(Debug, Clone)]
struct SecretPatterns {
    search: AhoCorasick,
    extensions: Arc<[MatchExtension]>,
}

/// The adjacent characters that must be replaced together with a match, because they also encode
/// bits of the secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct MatchExtension {
    /// True for base64, which may end with padding.
    is_base64: bool,
    /// True if the previous digit also encodes bits of the value.
    before: bool,
    /// True if the next digit also encodes bits of the value.
    after: bool,
}

impl MatchExtension {
    /// Returns the range of a match, extended by these characters.
    fn extend(self, text: &str, found: Range<usize>) -> Range<usize> {
        let bytes = text.as_bytes();
        let is_digit = |at: usize| {
            bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte))
        };
        let Range { mut start, mut end } = found;
        if self.before && start > 0 && is_digit(start - 1) {
            start -= 1;
        }
        if self.after && is_digit(end) {
            end += 1;
        }
        let padding = bytes.iter().skip(end).take_while(|byte| **byte == b'=').take(2).count();
        if self.is_base64 {
            end += padding;
        }
        start..end
    }
}

impl Redactor {
    /// Creates a redactor for these values. For a value with several lines, each line is also
    /// replaced.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns: Vec<(String, MatchExtension)> = Vec::new();
        for value in values {
            let parts = std::iter::once(value).chain(value.lines().map(str::trim));
            let parts = parts.filter(|part| part.len() >= BYTES_MIN);
            patterns.extend(parts.flat_map(forms));
        }
        if patterns.is_empty() {
            return Redactor::default();
        }
        let (texts, extensions): (Vec<String>, Vec<MatchExtension>) = patterns.into_iter().unzip();
        let builder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
        // Building the search fails only for more patterns than memory can hold.
        Redactor(
            builder.ok().map(|search| SecretPatterns { search, extensions: extensions.into() }),
        )
    }

    /// Returns the text with `***` in place of each value.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(SecretPatterns { search, extensions }) = &self.0 else {
            return Cow::Borrowed(text);
        };
        let (mut redacted, mut copied) = (String::new(), 0);
        for found in search.find_iter(text) {
            // Skip a match that lies completely in the previous match, which is already replaced.
            if found.end() <= copied {
                continue;
            }
            let extension = extensions.get(found.pattern().as_usize()).copied().unwrap_or_default();
            let range = extension.extend(text, found.range());
            redacted.push_str(text.get(copied..range.start).unwrap_or_default());
            redacted.push_str(REPLACEMENT);
            copied = range.end;
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        redacted.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(redacted)
    }

    /// Returns true if there are no values to replace.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// Returns all forms of a value to replace (plain, base64 and others), each with its extension.
fn forms(value: &str) -> Vec<(String, MatchExtension)> {
    let escaped = serde_json::Value::from(value).to_string();
    let hexadecimal = hex::encode(value);
    let plain = [
        value.to_owned(),
        escaped.trim_matches('"').to_owned(),
        percent_encoded(value),
        hexadecimal.to_uppercase(),
        hexadecimal,
    ];
    let mut forms: Vec<_> =
        plain.into_iter().map(|form| (form, MatchExtension::default())).collect();
    forms.extend((0..3).flat_map(|offset| base64_at(value, offset)));
    forms.retain(|(form, _)| form.len() >= BYTES_MIN);
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Returns the base64 digits that encode only bits of the value, if the value begins `offset` bytes
/// after a multiple of three bytes in a longer text. The base64 of each such text contains these
/// digits.
fn base64_at(value: &str, offset: usize) -> [(String, MatchExtension); 2] {
    let bytes = [&vec![0; offset], value.as_bytes()].concat();
    // Leave out the first digits, which also encode bits of the preceding text, and the last digit,
    // which also encodes bits of the following text.
    let skipped = (offset * 8).div_ceil(6);
    let complete = bytes.len() * 8 / 6;
    let extension = MatchExtension {
        is_base64: true,
        before: offset > 0,
        after: !(bytes.len() * 8).is_multiple_of(6),
    };
    [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]
        .map(|text| (text.get(skipped..complete).unwrap_or_default().to_owned(), extension))
}

fn percent_encoded(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const KEY: &str = "sk_live/4eC39+Hq\"LyjW";

    #[test]
    fn a_value_is_replaced_in_each_common_encoding() {
        let redactor = Redactor::new([KEY]);
        let json = serde_json::json!({ "key": KEY }).to_string();
        let texts = [
            format!("key={KEY};"),
            json,
            format!("https://a.example/?key={}", percent_encoded(KEY)),
            hex::encode(KEY),
            STANDARD.encode(KEY),
        ];
        for text in texts {
            let redacted = redactor.redact(&text);
            assert!(redacted.contains(REPLACEMENT), "{text}: {redacted}");
            assert!(!redacted.contains("4eC39"), "{redacted}");
        }
        assert_eq!(redactor.redact("nothing here"), "nothing here");
    }

    #[test]
    fn a_value_is_found_within_longer_base64() {
        let redactor = Redactor::new([KEY]);
        for user in ["", "a", "ab", "abc", "user:"] {
            let text = STANDARD.encode(format!("{user}{KEY}@host"));
            let redacted = redactor.redact(&text);
            assert!(redacted.contains(REPLACEMENT), "{user}: {redacted}");
        }
    }

    #[test]
    fn all_digits_and_the_padding_of_base64_are_replaced() {
        for value in [KEY.to_owned(), format!("{KEY}x"), format!("{KEY}xy")] {
            let redactor = Redactor::new([&*value]);
            // `digits` is the number of digits that encode only `before`, and so are kept.
            for (before, digits) in [("", 0), ("a", 1), ("ab", 2), ("abc", 4)] {
                let text = format!("<{}>", STANDARD.encode(format!("{before}{value}")));
                let expected = format!("{}***>", &text[..=digits]);
                assert_eq!(redactor.redact(&text), expected, "{text}");
                let text = text.replace('=', "");
                assert_eq!(redactor.redact(&text), expected, "{text}");
            }
            assert_eq!(redactor.redact(&format!("{value}== {value}a")), "***== ***a");
        }
    }

    #[test]
    fn each_line_of_a_long_value_is_replaced() {
        let redactor = Redactor::new(["-----BEGIN KEY-----\nMIIEvQIBADAN\nabc\n"]);
        assert_eq!(redactor.redact("line: MIIEvQIBADAN"), "line: ***");
        // A short line of a value is not replaced, because such a text also occurs by chance.
        assert_eq!(redactor.redact("abc"), "abc");
        assert!(Redactor::new(["abc"]).is_empty());
    }
}
