//! Formats numbers with PostgreSQL's template patterns: `to_char(1234.5, '9,999.99')`.

/// Maximum number of digits of a pattern.
const DIGITS_MAX: usize = 100;

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternElement {
    /// A digit. `is_zero` is true for `0`, with which leading and trailing zeros are shown.
    Digit { is_zero: bool },
    /// A separator between groups of digits; a blank if no digit precedes it.
    Group,
    /// The decimal point.
    Point,
    /// `MI`: a minus sign or a blank.
    Minus,
    /// `PL`: a plus sign or a blank.
    Plus,
    /// `SG`: a plus or minus sign.
    Sign,
    /// `TH`: the ending of an English ordinal number.
    Ordinal { is_upper: bool },
    /// Text as written.
    Text(char),
}

/// The notation of the sign of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignNotation {
    /// A minus sign or a blank before the first digit.
    Default,
    /// `S` at the start: a plus or minus sign before the first digit.
    Leading,
    /// `S` at the end: a plus or minus sign after the number.
    Trailing,
    /// `PR`: negative numbers in angle brackets.
    Brackets,
    /// The pattern contains an element for the sign, such as `MI`.
    Placed,
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberFormat {
    places: Vec<PatternElement>,
    sign: SignNotation,
    /// True with `FM`: no blanks, and no trailing zeros.
    is_filled: bool,
    /// Number of digits before the point.
    whole: usize,
    /// Number of digits after the point.
    fraction: usize,
}

impl NumberFormat {
    /// Parses a pattern. The error is the reason why the pattern is not valid.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let mut format = NumberFormat {
            places: Vec::new(),
            sign: SignNotation::Default,
            is_filled: false,
            whole: 0,
            fraction: 0,
        };
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let upper: String = rest.chars().take(4).collect::<String>().to_ascii_uppercase();
            let length = if let Some(length) = format.word(&upper, rest)? {
                length
            } else if first == '"' {
                let end = rest[1..].find('"').ok_or("a double quote is missing")?;
                format.places.extend(rest[1..=end].chars().map(PatternElement::Text));
                end + 2
            } else {
                format.letter(first)?;
                first.len_utf8()
            };
            rest = &rest[length..];
        }
        if format.whole + format.fraction > DIGITS_MAX {
            return Err(format!("it has more than {DIGITS_MAX} digits"));
        }
        Ok(format)
    }

    /// Parses a pattern that consists of several letters. Returns its length; `None` if the text
    /// begins with no such pattern.
    fn word(&mut self, upper: &str, rest: &str) -> Result<Option<usize>, String> {
        let placed = |this: &mut Self, place| {
            this.places.push(place);
            this.sign = SignNotation::Placed;
        };
        match &upper[..upper.len().min(2)] {
            "FM" => self.is_filled = true,
            "MI" => placed(self, PatternElement::Minus),
            // With `PL`, the minus sign of a negative number is still written before the first
            // digit.
            "PL" => self.places.push(PatternElement::Plus),
            "SG" => placed(self, PatternElement::Sign),
            "PR" => self.sign = SignNotation::Brackets,
            "TH" => {
                let is_upper = rest.starts_with('T');
                self.places.push(PatternElement::Ordinal { is_upper });
            }
            "RN" => return Err("Roman numerals (`RN`) are not supported".to_owned()),
            _ if upper == "EEEE" => return Err("exponents (`EEEE`) are not supported".to_owned()),
            _ => return Ok(None),
        }
        Ok(Some(2))
    }

    fn letter(&mut self, letter: char) -> Result<(), String> {
        match letter {
            '9' | '0' => {
                self.places.push(PatternElement::Digit { is_zero: letter == '0' });
                let is_fraction = self.places.contains(&PatternElement::Point);
                *(if is_fraction { &mut self.fraction } else { &mut self.whole }) += 1;
            }
            '.' | 'D' | 'd' if self.places.contains(&PatternElement::Point) => {
                return Err("it has two decimal points".to_owned());
            }
            '.' | 'D' | 'd' => self.places.push(PatternElement::Point),
            ',' | 'G' | 'g' => self.places.push(PatternElement::Group),
            'S' | 's' if self.whole + self.fraction == 0 => self.sign = SignNotation::Leading,
            'S' | 's' => self.sign = SignNotation::Trailing,
            'L' | 'l' => self.places.push(PatternElement::Text('$')),
            'V' | 'v' | 'E' | 'e' => return Err(format!("`{letter}` is not supported")),
            other => self.places.push(PatternElement::Text(other)),
        }
        Ok(())
    }

    /// Returns the number of decimal places to which a number is rounded.
    pub fn decimal_places(&self) -> usize {
        self.fraction
    }

    /// Formats a decimal number without an exponent. The number is rounded half away from zero.
    pub fn format(&self, number: &str) -> String {
        let (is_negative, digits) = match number.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, number),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            // Infinity and NaN have no digits, so show `#` as for a number that does not fit.
            return self.overflowed();
        }
        let (whole, fraction) = rounded(digits, self.fraction);
        if whole.len() > self.whole {
            return self.overflowed();
        }
        let is_zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
        self.assemble(&whole, &fraction, is_negative && !is_zero)
    }

    /// Returns the text for a number that does not fit: `#` in place of each digit.
    fn overflowed(&self) -> String {
        let mut text = String::from(if self.is_filled { "" } else { " " });
        text.extend(self.places.iter().filter_map(|place| match place {
            PatternElement::Digit { .. } => Some('#'),
            PatternElement::Group => Some(','),
            PatternElement::Point => Some('.'),
            PatternElement::Text(text) => Some(*text),
            _ => None,
        }));
        text
    }

    fn assemble(&self, whole: &str, fraction: &str, is_negative: bool) -> String {
        let shown_fraction = self.shown_fraction(fraction);
        let has_point = self.places.contains(&PatternElement::Point);
        // A number below 1 gets a zero before the point only if no digits after the point are
        // shown.
        let is_bare = self.is_filled && shown_fraction == 0;
        let whole = if whole.is_empty() && (!has_point || is_bare) { "0" } else { whole };
        let mut text = String::new();
        let (mut place, mut after) = (0, 0);
        // Position of the first digit or point, before which the sign is written.
        let mut start = None;
        let mut is_fraction = false;
        for one in &self.places {
            match one {
                PatternElement::Digit { .. } if is_fraction => {
                    if after < shown_fraction {
                        text.push_str(&fraction[after..=after]);
                    }
                    after += 1;
                }
                PatternElement::Digit { is_zero } => {
                    let from_right = self.whole - place;
                    place += 1;
                    let digit = whole.len().checked_sub(from_right).map(|at| &whole[at..=at]);
                    let digit =
                        digit.or(if *is_zero || start.is_some() { Some("0") } else { None });
                    match digit {
                        Some(digit) => {
                            start.get_or_insert(text.len());
                            text.push_str(digit);
                        }
                        None => self.blank(&mut text),
                    }
                }
                PatternElement::Group if start.is_some() => text.push(','),
                PatternElement::Point => {
                    start.get_or_insert(text.len());
                    is_fraction = true;
                    if !self.is_filled || self.fraction > 0 {
                        text.push('.');
                    }
                }
                PatternElement::Minus if is_negative => text.push('-'),
                PatternElement::Plus if !is_negative => text.push('+'),
                PatternElement::Group | PatternElement::Minus | PatternElement::Plus => {
                    self.blank(&mut text);
                }
                PatternElement::Sign => text.push(if is_negative { '-' } else { '+' }),
                PatternElement::Ordinal { is_upper } if !is_negative => {
                    text.push_str(&ordinal(whole, *is_upper));
                }
                PatternElement::Ordinal { .. } => {}
                PatternElement::Text(written) => text.push(*written),
            }
        }
        self.signed(text, start.unwrap_or(0), is_negative)
    }

    /// Returns the number of digits after the point: with `FM`, trailing zeros of `9` are omitted.
    fn shown_fraction(&self, fraction: &str) -> usize {
        if !self.is_filled {
            return self.fraction;
        }
        let digits: Vec<bool> = self
            .places
            .iter()
            .skip_while(|place| **place != PatternElement::Point)
            .filter_map(|place| match place {
                PatternElement::Digit { is_zero } => Some(*is_zero),
                _ => None,
            })
            .collect();
        let zeros = digits.iter().rposition(|is_zero| *is_zero).map_or(0, |at| at + 1);
        zeros.max(fraction.trim_end_matches('0').len())
    }

    fn blank(&self, text: &mut String) {
        if !self.is_filled {
            text.push(' ');
        }
    }

    fn signed(&self, mut text: String, start: usize, is_negative: bool) -> String {
        let sign = if is_negative { '-' } else { '+' };
        match self.sign {
            SignNotation::Default if is_negative => text.insert(start, '-'),
            SignNotation::Default if !self.is_filled => text.insert(0, ' '),
            SignNotation::Leading => text.insert(start, sign),
            SignNotation::Trailing => text.push(sign),
            SignNotation::Brackets if is_negative => {
                text.insert(start, '<');
                text.push('>');
            }
            SignNotation::Brackets if !self.is_filled => {
                text.insert(0, ' ');
                text.push(' ');
            }
            SignNotation::Default | SignNotation::Brackets | SignNotation::Placed => {}
        }
        text
    }
}

/// Rounds decimal digits half away from zero. Returns the digits before the point, without leading
/// zeros, and the digits after the point.
fn rounded(digits: &str, places: usize) -> (String, String) {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(places).collect();
    let is_up = fraction.as_bytes().get(places).is_some_and(|next| *next >= b'5');
    let mut all = format!("{whole}{kept}").into_bytes();
    if is_up {
        let mut carries = true;
        for digit in all.iter_mut().rev() {
            carries = *digit == b'9';
            *digit = if carries { b'0' } else { *digit + 1 };
            if !carries {
                break;
            }
        }
        if carries {
            all.insert(0, b'1');
        }
    }
    let all = String::from_utf8_lossy(&all).into_owned();
    let (whole, fraction) = all.split_at(all.len() - places);
    (whole.trim_start_matches('0').to_owned(), fraction.to_owned())
}

/// Returns the ending of an ordinal number: `st`, `nd`, `rd` or `th`.
fn ordinal(whole: &str, is_upper: bool) -> String {
    let digits = whole.as_bytes();
    let tens = digits.len().checked_sub(2).map(|at| digits[at]);
    let ending = match digits.last() {
        _ if tens == Some(b'1') => "th",
        Some(b'1') => "st",
        Some(b'2') => "nd",
        Some(b'3') => "rd",
        _ => "th",
    };
    if is_upper { ending.to_uppercase() } else { ending.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_as_in_postgresql() {
        // The results in this list were computed by PostgreSQL 15.
        for (number, pattern, expected) in [
            ("1234.5", "9,999.99", " 1,234.50"),
            ("-0.5", "FM0.00", "-0.50"),
            ("0.1", "0.9", " 0.1"),
            ("485", "999", " 485"),
            ("-485", "999", "-485"),
            ("-5", "999", "  -5"),
            ("485", "9 9 9", " 4 8 5"),
            ("1485", "9,999", " 1,485"),
            ("485", "9,999", "   485"),
            ("148.5", "FM999.990", "148.500"),
            ("148.5", "FM999.999", "148.5"),
            ("-0.1", "FM9.99", "-.1"),
            ("0", "9999", "    0"),
            ("0", "9999.99", "     .00"),
            ("12345", "999", " ###"),
            ("485", "S999", "+485"),
            ("485", "999S", "485+"),
            ("-485", "999MI", "485-"),
            ("485", "999MI", "485 "),
            ("485", "FM999MI", "485"),
            ("-485", "999PR", "<485>"),
            ("5", "00000", " 00005"),
            ("482", "999th", " 482nd"),
            ("12", "FM999th", "12th"),
            ("9.995", "9.99", " #.##"),
            ("99.995", "FM999.00", "100.00"),
            ("0", "FM999.99", "0."),
            ("0.5", "FM999.99", ".5"),
            ("-0.001", "9.99", "  .00"),
            ("-12", "PL999", "  -12"),
            ("5", "SG999", "+  5"),
            ("1e5", "999", " ###"),
        ] {
            let format = NumberFormat::parse(pattern).expect(pattern);
            assert_eq!(format.format(number), expected, "{number} {pattern}");
        }
        assert!(NumberFormat::parse("9.9.9").is_err());
        assert!(NumberFormat::parse("RN").is_err());
    }
}
