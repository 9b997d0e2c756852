//! Parses the text form of bytes in PostgreSQL: `'\xff'` in hexadecimal, and `'a\\b\377'` with
//! escapes.
//!
//! Text without a backslash becomes its bytes in UTF-8. As in `DuckDB`, each byte may also be
//! written with a separate `\x`: `'\xAA\xBB'`.

/// Returns the bytes of a text; `None` if it is invalid.
pub(crate) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if text.starts_with("\\x") { hexadecimal(text) } else { escaped(text) }
}

/// Returns the bytes of hexadecimal digits; `None` if the text is invalid.
pub(crate) fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'x', rest @ ..] | [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] => rest,
            [high, low, rest @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest
            }
            [_] => return None,
        };
    }
}

/// Returns the 16 bytes of a UUID with hyphens; `None` for any other text.
pub(crate) fn uuid(text: &str) -> Option<Vec<u8>> {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] {
        return None;
    }
    hexadecimal(&text.replace('-', "")).filter(|bytes| bytes.len() == 16)
}

fn escaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_in_postgresql() {
        let check = |text: &str, expected: Option<&[u8]>| {
            assert_eq!(bytes_of(text).as_deref(), expected, "`{text}`");
        };
        check("\\x00FF", Some(b"\x00\xff"));
        check("\\xaa\\xbb", Some(b"\xaa\xbb"));
        check("a\\\\b\\377", Some(b"a\\b\xff"));
        check("", Some(b""));
        check("\\x0", None);
        check("\\xzz", None);
        check("a\\b", None);
    }

    #[test]
    fn uuids_have_hyphens() {
        let bytes = uuid("00112233-4455-6677-8899-aabbccddeeff").expect("a UUID");
        assert_eq!((bytes.len(), bytes[1], bytes[15]), (16, 0x11, 0xff));
        assert_eq!(uuid("00112233445566778899aabbccddeeff"), None);
        assert_eq!(uuid("0011223z-4455-6677-8899-aabbccddeeff"), None);
    }
}
