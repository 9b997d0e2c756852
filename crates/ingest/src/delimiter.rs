//! Finds a CSV file's delimiter in its first rows.

use super::scan::{Scan, Span, scan};

/// The delimiters that are looked for; of two that fit equally well, the earlier one.
const CANDIDATES: [u8; 4] = [b',', b'\t', b';', b'|'];

/// Bytes of a file to look at.
pub(crate) const SAMPLE_BYTES: usize = 64 * 1024;

/// Rows to look at.
const SAMPLE_ROWS: usize = 200;

/// How well a delimiter explains a sample; the larger the better.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Fit {
    /// Rows of the most frequent width, in thousandths of all rows; none where that width is one.
    regular: usize,
    /// Fields in such a row.
    width: usize,
}

/// The delimiter that cuts the sample into rows of one width; the comma where none does.
/// `whole` says that the sample is all of the file.
pub(crate) fn detect(sample: &[u8], whole: bool) -> u8 {
    let mut best = (Fit::default(), CANDIDATES[0]);
    for delimiter in CANDIDATES {
        let fit = fit(sample, whole, delimiter);
        if fit > best.0 {
            best = (fit, delimiter);
        }
    }
    best.1
}

fn fit(sample: &[u8], whole: bool, delimiter: u8) -> Fit {
    let mut widths: Vec<usize> = Vec::new();
    let mut spans: Vec<Span> = Vec::new();
    let mut rest = sample;
    while widths.len() < SAMPLE_ROWS && !rest.is_empty() {
        match scan(rest, whole, delimiter, &mut spans) {
            Scan::Record { length } => {
                let blank = spans.len() == 1 && spans[0].end == 0 && !spans[0].quoted;
                if !blank {
                    widths.push(spans.len());
                }
                rest = &rest[length.max(1)..];
            }
            Scan::Incomplete => break,
            // A wrong delimiter makes quotes look misplaced, and a row that cannot be cut speaks
            // against it as one of another width does.
            Scan::Unclosed | Scan::TextAfterQuote => {
                widths.push(0);
                let line = memchr::memchr2(b'\n', b'\r', rest).map_or(rest.len(), |at| at + 1);
                rest = &rest[line..];
            }
        }
    }
    // The header, or the first row, is a row like the others: its width counts first among equals.
    let count = |width: usize| widths.iter().filter(|&&found| found == width).count();
    let width = widths.iter().copied().filter(|&width| width > 1).max_by_key(|&width| count(width));
    match width {
        Some(width) => Fit { regular: count(width) * 1000 / widths.len(), width },
        None => Fit::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_the_one_that_makes_rows_of_one_width() {
        let cases: [(&str, u8); 11] = [
            ("a,b\n1,2\n", b','),
            ("a;b\n1,5;2,5\n3,5;4,5\n", b';'),
            ("a\tb\n1\t2,3\n", b'\t'),
            ("a|b|c\n1|2|3\n", b'|'),
            ("name\nO'Neill, Jack\nplain\n", b','),
            ("a;b\n\"x,y\";1\n\"z,w\";2\n", b';'),
            ("id,text\n1,\"a;b;c\"\n2,\"d;e;f\"\n", b','),
            ("one column\nonly text\n", b','),
            ("", b','),
            ("a;b;c\n", b';'),
            ("note;amount\nhello, world;1\nyes;2\nno, no, no;3\n", b';'),
        ];
        for (text, delimiter) in cases {
            assert_eq!(detect(text.as_bytes(), true) as char, delimiter as char, "{text:?}");
        }
    }

    #[test]
    fn a_sample_cut_off_in_the_middle_of_a_row_is_enough() {
        let text = "a;b;c\n1;2;3\n".repeat(10_000);
        assert_eq!(detect(&text.as_bytes()[..SAMPLE_BYTES], false), b';');
    }
}
