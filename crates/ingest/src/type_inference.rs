//! Type inference: statistics about a column's values, and the narrowest type that holds all
//! values.
//!
//! [`ColumnStatistics`] are collected per file and merged. The inferred type does not depend on the
//! order of files; the order affects only the value that is reported as the reason.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use headwater_tables::type_name;

use super::bad_row::{looks_null, quoted};
use super::csv_header::COLUMNS_MAX;
use super::type_widening::widen;
use super::value_class::{ValueClass, ValueClasses, classify};
use super::value_formats::MatchedFormats;

/// Maximum number of fields of a nested object. An object with more fields is assumed to be a map,
/// and its column becomes text.
const NESTED_FIELDS_MAX: usize = 1_000;

/// The first value of a [`ValueClass`] in a column, shown in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueExample {
    pub value: String,
    pub line: u64,
    pub file: Arc<str>,
}

/// Statistics about the values of one column.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnStatistics {
    classes: ValueClasses,
    examples: Vec<(ValueClass, ValueExample)>,
    /// Statistics about the fields of the values that are objects.
    pub fields: Option<Box<FieldStatistics>>,
    /// Statistics about the elements of the values that are lists.
    pub element: Option<Box<ColumnStatistics>>,
    /// The type of the column in files that declare types; `None` if no such file has the column.
    stored: Option<DataType>,
    /// True if a text in the column is not a null marker. The type is text unless texts are rare.
    settled: bool,
    /// True if the type is declared or is that of the table, so that values are not inspected.
    known: bool,
    touched: bool,
    /// Number of CSV values that are text, and number of CSV values of other classes.
    texts: u64,
    others: u64,
    /// True if some files are of a format such as JSON, which distinguishes texts from numbers.
    /// `texts` does not count the texts of these files.
    uncounted: bool,
    /// Date and number formats that the texts in CSV files match.
    looks: MatchedFormats,
}

/// Minimum number of values in a column whose rare texts are treated as bad values.
const VALUES_MIN: u64 = 1_000;

/// Minimum ratio of all values to texts at which the texts count as rare.
const VALUES_PER_TEXT: u64 = 1_000;

/// A column's type, and the reason for the type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResolvedType {
    pub data_type: DataType,
    pub reason: String,
    /// A hint, if the column became text but probably should have another type.
    pub hint: Option<String>,
}

impl ColumnStatistics {
    /// Creates statistics for a column with a known type, so that values are not inspected.
    pub fn known() -> Self {
        ColumnStatistics { settled: true, known: true, ..ColumnStatistics::default() }
    }

    /// Creates statistics from a file that declares its types.
    pub fn stored(data_type: DataType) -> Self {
        ColumnStatistics { stored: Some(data_type), ..ColumnStatistics::default() }
    }

    /// Returns true if values need not be inspected.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Returns true if the type is known, or is text unless texts in the column are rare.
    pub fn is_final(&self) -> bool {
        self.settled
    }

    /// Returns true if no value has been recorded yet.
    pub fn is_new(&self) -> bool {
        !self.touched && !self.settled && self.classes.is_empty()
    }

    /// Records a null.
    pub fn record_null(&mut self) {
        self.touched = true;
    }

    /// Records a text from a format that distinguishes texts from numbers, such as JSON.
    pub fn observe_word(&mut self, text: &str, line: u64, file: &Arc<str>) {
        self.uncounted = true;
        self.word(text, line, file);
    }

    fn word(&mut self, text: &str, line: u64, file: &Arc<str>) {
        self.observe(ValueClass::Text, || text.to_owned(), line, file);
        if !looks_null(text.trim()) {
            self.finalize_type(text, line, file);
        }
    }

    /// Records a value of a CSV file by the class of its text.
    pub fn observe_text(&mut self, text: &str, line: u64, file: &Arc<str>) {
        match classify(text) {
            None => {}
            Some(ValueClass::Text) => {
                self.texts += 1;
                self.looks.observe(text);
                if !self.settled {
                    self.word(text, line, file);
                }
            }
            Some(class) => {
                self.others += 1;
                self.observe(class, || text.to_owned(), line, file);
            }
        }
    }

    /// Records a value of a given class.
    pub fn observe(
        &mut self,
        class: ValueClass,
        value: impl FnOnce() -> String,
        line: u64,
        file: &Arc<str>,
    ) {
        if self.classes.insert(class) {
            let example = ValueExample { value: value(), line, file: file.clone() };
            self.examples.push((class, example));
        }
    }

    /// Marks the type as final, with this text as the example, because it is not a null marker.
    fn finalize_type(&mut self, text: &str, line: u64, file: &Arc<str>) {
        self.settled = true;
        let found = self.examples.iter_mut().find(|(class, _)| *class == ValueClass::Text);
        if let Some((_, example)) = found {
            *example = ValueExample { value: text.to_owned(), line, file: file.clone() };
        }
    }

    /// Merges other statistics of the column. Returns false if no type can hold the values of both.
    pub fn merge(&mut self, other: ColumnStatistics) -> bool {
        for (class, example) in other.examples {
            if self.classes.insert(class) {
                self.examples.push((class, example));
            } else if class == ValueClass::Text && other.settled && !self.settled {
                self.finalize_type(&example.value, example.line, &example.file);
            }
        }
        self.settled |= other.settled;
        self.known |= other.known;
        self.texts += other.texts;
        self.others += other.others;
        self.uncounted |= other.uncounted;
        self.looks.merge(&other.looks);
        match (&mut self.fields, other.fields) {
            (Some(fields), Some(more)) => fields.merge(*more),
            (fields @ None, Some(more)) => *fields = Some(more),
            (_, None) => {}
        }
        match (&mut self.element, other.element) {
            (Some(element), Some(more)) => {
                element.merge(*more);
            }
            (element @ None, Some(more)) => *element = Some(more),
            (_, None) => {}
        }
        self.stored = match (self.stored.take(), other.stored) {
            (Some(mine), Some(theirs)) => {
                let both = widen(&mine, &theirs);
                let possible = both.is_some();
                self.stored = Some(both.unwrap_or(mine));
                return possible;
            }
            (mine, theirs) => mine.or(theirs),
        };
        true
    }

    /// Returns the narrowest type that holds all values; `None` if one file declares a nested type
    /// and another has other values.
    pub fn resolve(&self) -> Option<ResolvedType> {
        let inferred = || "inferred".to_owned();
        let Some(stored) = &self.stored else {
            return Some(self.resolve_values());
        };
        if self.classes.is_empty() {
            return Some(ResolvedType {
                data_type: stored.clone(),
                reason: inferred(),
                hint: None,
            });
        }
        let values = self.resolve_values();
        let data_type = widen(stored, &values.data_type)?;
        Some(ResolvedType { data_type, ..values })
    }

    fn resolve_values(&self) -> ResolvedType {
        let seen = self.classes;
        if seen.is_empty() {
            let reason = "inferred: no values".to_owned();
            return ResolvedType { data_type: DataType::Utf8, reason, hint: None };
        }
        let data_type = self.type_of(seen);
        let others = self.type_of(seen.without(ValueClass::Text));
        let values = self.texts + self.others;
        let reason = self.reason(&data_type);
        let counted = self.texts > 0 && !self.uncounted;
        if data_type != DataType::Utf8 || !seen.contains(ValueClass::Text) || !counted {
            return ResolvedType { data_type, reason, hint: None };
        }
        if others == DataType::Utf8 || self.others < self.texts {
            return ResolvedType { data_type, reason, hint: self.looks.option(self.texts) };
        }
        let (texts, is) = (self.texts, if self.texts == 1 { "is" } else { "are" });
        let reason = format!("{reason}; {texts} of {values} values {is} text");
        if values >= VALUES_MIN && texts * VALUES_PER_TEXT <= values {
            return ResolvedType { data_type: others, reason, hint: None };
        }
        let hint = self.looks.option(texts).or_else(|| self.null_hint()).unwrap_or_else(|| {
            let wanted = type_name(&others);
            format!(
                "`--type COLUMN={wanted} --on-error reject` keeps the values of type {wanted}, and \
                 moves the other rows to the table of rejected rows."
            )
        });
        ResolvedType { data_type, reason, hint: Some(hint) }
    }

    /// Returns a hint to import the column's texts as null, if all of them are common null markers.
    fn null_hint(&self) -> Option<String> {
        let mut examples = self.examples.iter().filter(|_| !self.settled);
        let (_, example) = examples.find(|(class, _)| *class == ValueClass::Text)?;
        let null = quoted(example.value.trim());
        Some(format!("If `{null}` means null, import with `--null {null}`."))
    }

    /// Returns the narrowest type that holds values of these classes.
    fn type_of(&self, seen: ValueClasses) -> DataType {
        use ValueClass::{
            BigInteger, Boolean, Date, Integer, List, NotFinite, Object, Real, Timestamp,
            ZonedTimestamp,
        };
        if seen.is_empty() {
            DataType::Utf8
        } else if seen.only(&[Boolean]) {
            DataType::Boolean
        } else if seen.only(&[Integer]) {
            DataType::Int64
        } else if seen.only(&[Integer, BigInteger, Real, NotFinite])
            && (seen.contains(Real) || (seen.contains(Integer) && seen.contains(NotFinite)))
        {
            DataType::Float64
        } else if seen.only(&[Date]) {
            DataType::Date32
        } else if seen.only(&[Date, Timestamp]) {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        } else if seen.only(&[ZonedTimestamp]) {
            zoned_timestamp()
        } else if seen.only(&[Object]) {
            self.fields.as_ref().map_or(DataType::Utf8, |fields| fields.struct_type())
        } else if seen.only(&[List]) {
            self.list_type()
        } else {
            DataType::Utf8
        }
    }

    fn list_type(&self) -> DataType {
        let element = self.element.as_ref().map_or(DataType::Utf8, |element| {
            element.resolve().map_or(DataType::Utf8, |resolved| resolved.data_type)
        });
        DataType::List(Arc::new(Field::new("element", element, true)))
    }

    /// Returns the value that ruled out a type narrower than this; `inferred` if no value did.
    fn reason(&self, data_type: &DataType) -> String {
        const DECISIVE: [ValueClass; 9] = [
            ValueClass::Text,
            ValueClass::PaddedDigits,
            ValueClass::BigInteger,
            ValueClass::List,
            ValueClass::Object,
            ValueClass::ZonedTimestamp,
            ValueClass::Timestamp,
            ValueClass::Real,
            ValueClass::NotFinite,
        ];
        let alone = self.classes.iter().count() < 2;
        let meaningful = self.classes.contains(ValueClass::PaddedDigits)
            || self.classes.contains(ValueClass::BigInteger) && *data_type == DataType::Utf8;
        if alone && !meaningful {
            return "inferred".to_owned();
        }
        let find = |wanted: &ValueClass| self.examples.iter().find(|(class, _)| class == wanted);
        let Some((class, example)) = DECISIVE.iter().find_map(find) else {
            return "inferred".to_owned();
        };
        let ValueExample { value, line, file } = example;
        let shown = quoted(value);
        let mut reason = format!("`{shown}` in line {line} of `{file}` is {}", class.noun());
        if *class == ValueClass::Text && looks_null(value.trim()) {
            reason.push_str("; if it means null, import with `--null ");
            reason.push_str(&shown);
            reason.push('`');
        }
        reason
    }
}

/// Returns Iceberg's `timestamptz`.
pub(crate) fn zoned_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// Column statistics by field name, in the order of first appearance.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldStatistics {
    fields: Vec<(String, ColumnStatistics)>,
    places: HashMap<String, usize>,
    overflowed: bool,
}

impl FieldStatistics {
    /// Returns the statistics of a field, and inserts a new field; `None` if there are too many.
    /// The search starts at index `guess`: the index of the field in the previous object.
    pub fn entry(&mut self, name: &str, guess: usize) -> Option<&mut ColumnStatistics> {
        let place = match self.fields.get(guess) {
            Some((found, _)) if found == name => guess,
            _ => match self.places.get(name) {
                Some(&place) => place,
                None if self.fields.len() >= COLUMNS_MAX => {
                    self.overflowed = true;
                    return None;
                }
                None => {
                    self.places.insert(name.to_owned(), self.fields.len());
                    self.fields.push((name.to_owned(), ColumnStatistics::default()));
                    self.fields.len() - 1
                }
            },
        };
        self.fields.get_mut(place).map(|(_, evidence)| evidence)
    }

    /// Returns the number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns true if the number of fields exceeds the maximum number of columns of a table.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Returns the fields, in order.
    pub fn into_vec(self) -> Vec<(String, ColumnStatistics)> {
        self.fields
    }

    fn merge(&mut self, other: FieldStatistics) {
        self.overflowed |= other.overflowed;
        for (guess, (name, evidence)) in other.fields.into_iter().enumerate() {
            if let Some(mine) = self.entry(&name, guess) {
                mine.merge(evidence);
            }
        }
    }

    /// Returns a struct type of the fields, or text if there are none or too many.
    fn struct_type(&self) -> DataType {
        if self.fields.is_empty() || self.overflowed || self.fields.len() > NESTED_FIELDS_MAX {
            return DataType::Utf8;
        }
        let field = |(name, evidence): &(String, ColumnStatistics)| {
            let data_type = evidence.resolve().map_or(DataType::Utf8, |found| found.data_type);
            Field::new(name, data_type, true)
        };
        DataType::Struct(self.fields.iter().map(field).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[&str]) -> ColumnStatistics {
        let mut evidence = ColumnStatistics::default();
        for (row, value) in values.iter().enumerate() {
            evidence.observe_text(value, row as u64 + 2, &Arc::from("a.csv"));
        }
        evidence
    }

    #[test]
    fn the_type_holds_every_value() {
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
        let cases: [(&[&str], DataType); 20] = [
            (&[], DataType::Utf8),
            (&["", ""], DataType::Utf8),
            (&["true", "False"], DataType::Boolean),
            (&["1", "", "-2"], DataType::Int64),
            (&["1", "2.5"], DataType::Float64),
            (&["1", "NaN"], DataType::Float64),
            (&["nan", "inf"], DataType::Utf8),
            (&["1", "99999999999999999999"], DataType::Utf8),
            (&["1.5", "99999999999999999999"], DataType::Float64),
            (&["12", "007"], DataType::Utf8),
            (&["1.5", "007"], DataType::Utf8),
            (&["2013-01-01"], DataType::Date32),
            (&["2013-01-01", "2013-01-01 10:00"], timestamp.clone()),
            (&["2013-01-01 10:00:00"], timestamp),
            (&["2013-01-01T10:00:00Z"], zoned_timestamp()),
            (&["2013-01-01T10:00:00Z", "2013-01-01T10:00:00"], DataType::Utf8),
            (&["2013-01-01", "7"], DataType::Utf8),
            (&["true", "1"], DataType::Utf8),
            (&["1", "x", "2"], DataType::Utf8),
            (&["x", "1.5"], DataType::Utf8),
        ];
        for (values, data_type) in cases {
            assert_eq!(seen(values).resolve().unwrap().data_type, data_type, "{values:?}");
            let mut halves = seen(&values[..values.len() / 2]);
            halves.merge(seen(&values[values.len() / 2..]));
            assert_eq!(halves.resolve().unwrap().data_type, data_type, "{values:?} in two files");
        }
    }

    #[test]
    fn the_reason_is_the_value_that_ruled_a_narrower_type_out() {
        let reason = |values: &[&str]| seen(values).resolve().unwrap().reason;
        assert_eq!(reason(&["1", "2"]), "inferred");
        assert_eq!(reason(&["a", "b"]), "inferred");
        assert_eq!(reason(&["a", "2", "b"]), "`a` in line 2 of `a.csv` is text");
        assert_eq!(reason(&["1", "x", "y"]), "`x` in line 3 of `a.csv` is text");
        assert_eq!(reason(&["1", "NA", "x"]), "`x` in line 4 of `a.csv` is text");
        let null = "if it means null, import with `--null NA`; 1 of 2 values is text";
        assert!(reason(&["NA", "1"]).ends_with(null));
        assert!(reason(&["007"]).contains("a leading zero"));
        assert!(reason(&["1", "2.5"]).contains("`2.5` in line 3"));
    }

    #[test]
    fn a_text_among_a_thousand_values_is_a_bad_value_and_changes_no_type() {
        let check = |texts: usize, numbers: usize, expected: DataType| {
            let values = [vec!["x"; texts], vec!["1"; numbers]].concat();
            let resolved = seen(&values).resolve().unwrap();
            assert_eq!(resolved.data_type, expected, "{texts} of {}", texts + numbers);
            let mut halves = seen(&values[values.len() / 2..]);
            halves.merge(seen(&values[..values.len() / 2]));
            assert_eq!(halves.resolve().unwrap().data_type, expected, "in another order");
            resolved
        };
        let rare = check(1, 999, DataType::Int64);
        assert_eq!(rare.reason, "`x` in line 2 of `a.csv` is text; 1 of 1000 values is text");
        check(1, 998, DataType::Utf8);
        check(2, 1_998, DataType::Int64);
        let more = check(3, 1_998, DataType::Utf8);
        assert!(more.reason.ends_with("3 of 2001 values are text"), "{}", more.reason);
        assert!(more.hint.unwrap().starts_with("`--type COLUMN=long --on-error reject`"));
        assert_eq!(check(2, 1, DataType::Utf8).hint, None);
    }

    proptest::proptest! {
        /// A type that is inferred from texts must accept all of these texts.
        #[test]
        fn inferred_types_accept_the_values(
            values in proptest::collection::vec(
                "[-+]?[0-9]{0,20}([.][0-9]{0,3})?(e[0-9]{1,3})?| ?[0-9]{1,3} ?|\
                 nan|inf|[-]inf|true|False|\
                 20(13|24)-0[1-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9])?(Z|[+]0[0-9])?)?",
                0..6,
            ),
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let kind = seen(&values).resolve().unwrap().data_type;
            let mut column = crate::column_builder::ColumnBuilder::new(&kind).unwrap();
            for value in values {
                let taken = value.trim().is_empty() || column.append_text(value).is_ok();
                proptest::prop_assert!(taken, "`{}` as {}", value, kind);
            }
        }
    }
}
