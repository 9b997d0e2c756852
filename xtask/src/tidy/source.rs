//! Rust source with comments and literals blanked out, so that a simple scan finds items.

/// Replaces comments and the contents of literals by spaces; line breaks are kept.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            at += if is_word(bytes[at]) { word_length(&bytes[at..]) } else { 1 };
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns true if a byte is part of an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Returns the position after the bracket that closes the one at `open`.
pub fn closing(text: &[u8], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in text.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Returns the 1-based line of a position.
pub fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn word_length(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_word(**byte)).count()
}

/// Returns the end of the comment or literal at `at`, or `at` if there is none.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return at + block_comment_length(rest);
    }
    let prefix = rest.iter().take_while(|byte| matches!(byte, b'b' | b'r' | b'c')).count();
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let quote = prefix + hashes;
    let is_raw = rest[..prefix].contains(&b'r');
    match rest.get(quote) {
        Some(b'"') if is_raw => at + raw_length(rest, quote, hashes),
        Some(b'"') if hashes == 0 => at + quoted_length(rest, quote),
        Some(b'\'') if hashes == 0 && !is_raw && is_char(&rest[quote..]) => {
            at + quoted_length(rest, quote)
        }
        _ => at,
    }
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn raw_length(rest: &[u8], quote: usize, hashes: usize) -> usize {
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = &rest[quote + 1..];
    let found = body.windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |found| quote + 1 + found + end.len())
}

fn quoted_length(rest: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == rest[quote] => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Returns true if a quote opens a character, not a lifetime.
fn is_char(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) => {
            let length = match first {
                0..0x80 => 1,
                0x80..0xE0 => 2,
                0xE0..0xF0 => 3,
                _ => 4,
            };
            rest.get(1 + length) == Some(&b'\'')
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let check = |text: &str, expected: &str| assert_eq!(blank(text), expected);
        check("a // fn\nb", "a      \nb");
        check("a /* x /* y */ z */ b", "a                   b");
        check("f(\"fn {\", 'x')", "f(      ,    )");
        check("r#\"a\"b\"# c", "         c");
        check("&'a str, '\\''", "&'a str,     ");
        check("for b in c", "for b in c");
    }
}
