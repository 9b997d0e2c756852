//! Detection of a CSV file's delimiter from its first rows.

use super::csv_record_scan::{FieldSpan, ScanResult, scan};

/// Candidate delimiters. If several fit equally well, the first of these delimiters is used.
const CANDIDATES: [u8; 4] = [b',', b'\t', b';', b'|'];

/// Number of bytes of a file to sample.
pub(crate) const SAMPLE_BYTES: usize = 64 * 1024;

/// Number of rows to sample.
const SAMPLE_ROWS: usize = 200;

/// Score of a delimiter for a sample; larger is better.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct DelimiterScore {
    /// Share of rows that have `width` fields, in thousandths; 0 if each row has only one field.
    regular: usize,
    /// The most frequent number of fields, ignoring rows with one field.
    width: usize,
}

/// Returns the delimiter that splits the sample into rows with the same number of fields; the comma
/// if no candidate does. `whole` is true if the sample is the complete file.
pub(crate) fn detect(sample: &[u8], whole: bool) -> u8 {
    let mut best = (DelimiterScore::default(), CANDIDATES[0]);
    for delimiter in CANDIDATES {
        let fit = fit(sample, whole, delimiter);
        if fit > best.0 {
            best = (fit, delimiter);
        }
    }
    best.1
}

fn fit(sample: &[u8], whole: bool, delimiter: u8) -> DelimiterScore {
    let mut widths: Vec<usize> = Vec::new();
    let mut spans: Vec<FieldSpan> = Vec::new();
    let mut rest = sample;
    while widths.len() < SAMPLE_ROWS && !rest.is_empty() {
        match scan(rest, whole, delimiter, &mut spans) {
            ScanResult::Record { length } => {
                let blank = spans.len() == 1 && spans[0].end == 0 && !spans[0].quoted;
                if !blank {
                    widths.push(spans.len());
                }
                rest = &rest[length.max(1)..];
            }
            ScanResult::Incomplete => break,
            // With a wrong delimiter, quotes look misplaced, and a row cannot be split. Count this
            // row as one with another number of fields, so that the delimiter gets a lower score.
            ScanResult::Unclosed | ScanResult::TextAfterQuote => {
                widths.push(0);
                let line = memchr::memchr2(b'\n', b'\r', rest).map_or(rest.len(), |at| at + 1);
                rest = &rest[line..];
            }
        }
    }
    // If several numbers of fields are equally frequent, use the number of the first row, which is
    // the header.
    let count = |width: usize| widths.iter().filter(|&&found| found == width).count();
    let width = widths.iter().copied().filter(|&width| width > 1).max_by_key(|&width| count(width));
    match width {
        Some(width) => DelimiterScore { regular: count(width) * 1000 / widths.len(), width },
        None => DelimiterScore::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_splits_rows_into_one_width() {
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
    fn a_sample_that_ends_within_a_row_is_enough() {
        let text = "a;b;c\n1;2;3\n".repeat(10_000);
        assert_eq!(detect(&text.as_bytes()[..SAMPLE_BYTES], false), b';');
    }
}
