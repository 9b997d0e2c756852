//! Strings with `*` for any number of characters.

/// A string in which `*` matches any number of characters. `\*` is a literal star, and `\\` a
/// literal backslash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wildcard {
    /// The strings between the stars; one more than there are stars.
    parts: Vec<String>,
}

impl Wildcard {
    /// Parses a string with wildcards. The error is the reason.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = vec![String::new()];
        let mut characters = text.chars();
        let mut after_star = false;
        while let Some(character) = characters.next() {
            let is_star = character == '*';
            match character {
                '*' if after_star => return Err("has two consecutive `*`"),
                '*' => parts.push(String::new()),
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '\\')) => push(&mut parts, escaped),
                    _ => return Err("has a `\\` that precedes neither `*` nor `\\`"),
                },
                other => push(&mut parts, other),
            }
            after_star = is_star;
        }
        Ok(Wildcard { parts })
    }

    /// Returns true if every string matches.
    pub(crate) fn matches_all(&self) -> bool {
        self.parts.len() == 2 && self.parts.iter().all(String::is_empty)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.parts.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            // Take the first occurrence: it leaves the longest rest, so a later one cannot match
            // more.
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last.as_str())
    }
}

fn push(parts: &mut [String], character: char) {
    if let Some(last) = parts.last_mut() {
        last.push(character);
    }
}
