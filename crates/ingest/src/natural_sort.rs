//! Natural sort order of paths: `part-2.csv` before `part-10.csv`.

use std::cmp::Ordering;

/// Compares two paths: folder by folder, runs of digits by value, everything else by bytes. Paths
/// that are equal by these rules (`a1`, `a01`) are compared by bytes, so the order is total.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let mut parts_left = left.split('/');
    let mut parts_right = right.split('/');
    loop {
        let order = match (parts_left.next(), parts_right.next()) {
            (Some(a), Some(b)) => compare_part(a.as_bytes(), b.as_bytes()),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (None, None) => return left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while let (Some(a), Some(b)) = (left.first(), right.first()) {
        let order = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (number_left, number_right) = (take_digits(&mut left), take_digits(&mut right));
            number_left.len().cmp(&number_right.len()).then_with(|| number_left.cmp(number_right))
        } else {
            let order = a.cmp(b);
            left = &left[1..];
            right = &right[1..];
            order
        };
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

/// Removes the digits at the start of the text and returns them without leading zeros.
fn take_digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    *text = rest;
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_natural_order() {
        let sorted = [
            "/d/2013/1/a.csv",
            "/d/2013/2/a.csv",
            "/d/2013/10/a.csv",
            "/d/a.csv",
            "/d/a0.csv",
            "/d/a00.csv",
            "/d/a2.csv",
            "/d/a02b.csv",
            "/d/a10.csv",
            "/d/b.csv",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{} {}", pair[0], pair[1]);
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater);
        }
        assert_eq!(compare("x1", "x1"), Ordering::Equal);
    }
}
