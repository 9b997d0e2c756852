//! The binary format of `numeric`: digits of base 10,000 with the position of the decimal point.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Sign of zero and positive numbers.
const POSITIVE: u16 = 0x0000;

/// Sign of negative numbers.
const NEGATIVE: u16 = 0x4000;

/// Maximum number of digits of base 10,000 that are read. It exceeds the precision of every decimal
/// type.
const GROUPS_MAX: usize = 64;

/// Writes a decimal number, given as text without an exponent.
pub fn put_binary(text: &str, out: &mut BytesMut) {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (NEGATIVE, digits),
        None => (POSITIVE, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let before = whole.len().div_ceil(4);
    let mut padded = "0".repeat(before * 4 - whole.len());
    padded.push_str(whole);
    padded.push_str(fraction);
    padded.push_str(&"0".repeat(fraction.len().next_multiple_of(4) - fraction.len()));
    let groups: Vec<u16> = padded
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
        .collect();
    let skipped = groups.iter().take_while(|group| **group == 0).count();
    let kept = groups[skipped..].iter().rposition(|group| *group != 0).map_or(0, |last| last + 1);
    let weight = if kept == 0 { 0 } else { before as i16 - skipped as i16 - 1 };
    out.put_u16(kept as u16);
    out.put_i16(weight);
    out.put_u16(if kept == 0 { POSITIVE } else { sign });
    out.put_u16(fraction.len() as u16);
    groups[skipped..skipped + kept].iter().for_each(|group| out.put_u16(*group));
}

/// Reads a decimal number as text; `None` for NaN, infinities and malformed bytes.
pub fn read_binary(mut bytes: Bytes) -> Option<String> {
    let count = usize::from(bytes.try_get_u16().ok()?);
    let weight = bytes.try_get_i16().ok()?;
    let sign = bytes.try_get_u16().ok()?;
    let scale = usize::from(bytes.try_get_u16().ok()?);
    let is_short = count <= GROUPS_MAX && weight.unsigned_abs() as usize <= GROUPS_MAX;
    if !is_short || scale > 4 * GROUPS_MAX || !matches!(sign, POSITIVE | NEGATIVE) {
        return None;
    }
    let mut groups = Vec::with_capacity(count);
    for _ in 0..count {
        groups.push(bytes.try_get_u16().ok().filter(|group| *group < 10_000)?);
    }
    let weight = i32::from(weight);
    let group = |position: i32| {
        let index = usize::try_from(weight - position).ok();
        index.and_then(|index| groups.get(index)).copied().unwrap_or(0)
    };
    let digits = |at: i32| format!("{:04}", group(at));
    let whole = (0..=weight.max(0)).rev().map(digits).collect::<Vec<_>>().concat();
    let whole = whole.trim_start_matches('0');
    let fraction = (1..=scale.div_ceil(4) as i32).map(|at| digits(-at)).collect::<Vec<_>>();
    let fraction: String = fraction.concat().chars().take(scale).collect();
    let sign = if sign == NEGATIVE { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if scale == 0 { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_binary_format() {
        for number in [
            "0",
            "0.00",
            "1",
            "-1",
            "9999",
            "10000",
            "12345678.9",
            "0.0001",
            "0.00001",
            "-0.5",
            "100000000",
            "1.50",
            "12345678901234567890123456789.012345678",
        ] {
            let mut out = BytesMut::new();
            put_binary(number, &mut out);
            assert_eq!(read_binary(out.freeze()).as_deref(), Some(number));
        }
    }

    #[test]
    fn digits_are_those_of_postgresql() {
        let mut out = BytesMut::new();
        put_binary("-12345.67", &mut out);
        assert_eq!(&out[..], b"\0\x03\0\x01\x40\0\0\x02\0\x01\x09\x29\x1a\x2c");
    }

    #[test]
    fn malformed_numbers_are_rejected() {
        for bytes in
            [&b""[..], b"\0\x01\0\0\0\0\0\0", b"\0\0\0\0\xc0\0\0\0", b"\xff\xff\0\0\0\0\0\0"]
        {
            assert_eq!(read_binary(Bytes::from_static(bytes)), None);
        }
    }
}
