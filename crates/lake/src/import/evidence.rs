//! What was seen of a column, and the type that holds all of it.
//!
//! [`Evidence`] is gathered file by file and merged; nothing in it depends on the order, except
//! which of several values is named as the reason.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::bad_row::{looks_null, quoted};
use super::class::{Class, Classes, classify};
use super::header::COLUMNS_MAX;
use super::widen::widen;

/// The most fields of one nested object; one with more is a map, and kept as text.
const NESTED_FIELDS_MAX: usize = 1_000;

/// A value that showed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub value: String,
    pub line: u64,
    pub file: Arc<str>,
}

/// What was seen of one column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    classes: Classes,
    examples: Vec<(Class, Example)>,
    /// The fields of the objects among the values.
    pub fields: Option<Box<Fields>>,
    /// The elements of the lists among the values.
    pub element: Option<Box<Evidence>>,
    /// The type of the column in the Parquet files that have it.
    stored: Option<DataType>,
    /// Whether nothing that follows can change the type.
    settled: bool,
    touched: bool,
}

/// A column's type, and why it is that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    pub data_type: DataType,
    pub reason: String,
}

impl Evidence {
    /// Evidence that a type is known from elsewhere, so that no value needs a look.
    pub fn known() -> Self {
        Evidence { settled: true, ..Evidence::default() }
    }

    /// Evidence from a file that says its types.
    pub fn stored(data_type: DataType) -> Self {
        Evidence { stored: Some(data_type), ..Evidence::default() }
    }

    /// Whether no further value can change the type.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether nothing at all was seen yet.
    pub fn is_new(&self) -> bool {
        !self.touched && !self.settled && self.classes.is_empty()
    }

    /// Takes note of a null.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// Takes a text that is nothing but text into account.
    pub fn see_word(&mut self, text: &str, line: u64, file: &Arc<str>) {
        self.see(Class::Text, || text.to_owned(), line, file);
        if !looks_null(text.trim()) {
            self.settle_with(text, line, file);
        }
    }

    /// Takes a text value into account.
    pub fn see_text(&mut self, text: &str, line: u64, file: &Arc<str>) {
        if self.settled {
            return;
        }
        match classify(text) {
            None => {}
            Some(Class::Text) => self.see_word(text, line, file),
            Some(class) => self.see(class, || text.to_owned(), line, file),
        }
    }

    /// Takes a value of a class into account.
    pub fn see(
        &mut self,
        class: Class,
        value: impl FnOnce() -> String,
        line: u64,
        file: &Arc<str>,
    ) {
        if self.classes.insert(class) {
            let example = Example { value: value(), line, file: file.clone() };
            self.examples.push((class, example));
        }
    }

    /// Notes the first text that means itself, in place of one that may mean null.
    fn settle_with(&mut self, text: &str, line: u64, file: &Arc<str>) {
        self.settled = true;
        let found = self.examples.iter_mut().find(|(class, _)| *class == Class::Text);
        if let Some((_, example)) = found {
            *example = Example { value: text.to_owned(), line, file: file.clone() };
        }
    }

    /// Adds what was seen of the same column elsewhere; false where no type holds both.
    pub fn merge(&mut self, other: Evidence) -> bool {
        for (class, example) in other.examples {
            if self.classes.insert(class) {
                self.examples.push((class, example));
            } else if class == Class::Text && other.settled && !self.settled {
                self.settle_with(&example.value, example.line, &example.file);
            }
        }
        self.settled |= other.settled;
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

    /// The narrowest type that holds everything seen; none where text and a stored nested column
    /// meet.
    pub fn resolve(&self) -> Option<Resolved> {
        let inferred = || "inferred".to_owned();
        let Some(stored) = &self.stored else {
            return Some(self.resolve_values());
        };
        if self.classes.is_empty() {
            return Some(Resolved { data_type: stored.clone(), reason: inferred() });
        }
        let values = self.resolve_values();
        let data_type = widen(stored, &values.data_type)?;
        Some(Resolved { data_type, reason: values.reason })
    }

    fn resolve_values(&self) -> Resolved {
        use Class::{
            BigInteger, Boolean, Date, Integer, List, NotFinite, Object, Real, Timestamp,
            ZonedTimestamp,
        };
        let seen = self.classes;
        let data_type = if seen.is_empty() {
            return Resolved { data_type: DataType::Utf8, reason: "inferred: no values".into() };
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
        };
        let reason = self.reason(&data_type);
        Resolved { data_type, reason }
    }

    fn list_type(&self) -> DataType {
        let element = self.element.as_ref().map_or(DataType::Utf8, |element| {
            element.resolve().map_or(DataType::Utf8, |resolved| resolved.data_type)
        });
        DataType::List(Arc::new(Field::new("element", element, true)))
    }

    /// The value that ruled a narrower type out, or `inferred` where none did.
    fn reason(&self, data_type: &DataType) -> String {
        const DECISIVE: [Class; 9] = [
            Class::Text,
            Class::PaddedDigits,
            Class::BigInteger,
            Class::List,
            Class::Object,
            Class::ZonedTimestamp,
            Class::Timestamp,
            Class::Real,
            Class::NotFinite,
        ];
        let alone = self.classes.iter().count() < 2;
        let meaningful = self.classes.contains(Class::PaddedDigits)
            || self.classes.contains(Class::BigInteger) && *data_type == DataType::Utf8;
        if alone && !meaningful {
            return "inferred".to_owned();
        }
        let find = |wanted: &Class| self.examples.iter().find(|(class, _)| class == wanted);
        let Some((class, example)) = DECISIVE.iter().find_map(find) else {
            return "inferred".to_owned();
        };
        let Example { value, line, file } = example;
        let shown = quoted(value);
        let mut reason = format!("`{shown}` in line {line} of `{file}` is {}", class.noun());
        if *class == Class::Text && looks_null(value.trim()) {
            reason.push_str("; if it means null, say so with `--null ");
            reason.push_str(&shown);
            reason.push('`');
        }
        reason
    }
}

/// Iceberg's `timestamptz`.
pub(crate) fn zoned_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// Evidence by name, in the order the names were first seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    fields: Vec<(String, Evidence)>,
    places: HashMap<String, usize>,
    overflowed: bool,
}

impl Fields {
    /// The evidence of a field, made where it is new; none where there are too many.
    /// `guess` is where it would stand if this object were like the last one.
    pub fn entry(&mut self, name: &str, guess: usize) -> Option<&mut Evidence> {
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
                    self.fields.push((name.to_owned(), Evidence::default()));
                    self.fields.len() - 1
                }
            },
        };
        self.fields.get_mut(place).map(|(_, evidence)| evidence)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there were more fields than a table may have columns.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The fields, in order.
    pub fn into_vec(self) -> Vec<(String, Evidence)> {
        self.fields
    }

    fn merge(&mut self, other: Fields) {
        self.overflowed |= other.overflowed;
        for (guess, (name, evidence)) in other.fields.into_iter().enumerate() {
            if let Some(mine) = self.entry(&name, guess) {
                mine.merge(evidence);
            }
        }
    }

    /// A struct of the fields; text where there are none or too many.
    fn struct_type(&self) -> DataType {
        if self.fields.is_empty() || self.overflowed || self.fields.len() > NESTED_FIELDS_MAX {
            return DataType::Utf8;
        }
        let field = |(name, evidence): &(String, Evidence)| {
            let data_type = evidence.resolve().map_or(DataType::Utf8, |found| found.data_type);
            Field::new(name, data_type, true)
        };
        DataType::Struct(self.fields.iter().map(field).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[&str]) -> Evidence {
        let mut evidence = Evidence::default();
        for (row, value) in values.iter().enumerate() {
            evidence.see_text(value, row as u64 + 2, &Arc::from("a.csv"));
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
        assert_eq!(reason(&["a", "2"]), "inferred");
        assert_eq!(reason(&["1", "x", "y"]), "`x` in line 3 of `a.csv` is text");
        assert_eq!(reason(&["1", "NA", "x"]), "`x` in line 4 of `a.csv` is text");
        assert!(reason(&["NA", "1"]).ends_with("if it means null, say so with `--null NA`"));
        assert!(reason(&["007"]).contains("a zero in front"));
        assert!(reason(&["1", "2.5"]).contains("`2.5` in line 3"));
    }

    proptest::proptest! {
        /// The type that was inferred from some texts takes every one of them.
        #[test]
        fn what_was_inferred_is_taken(
            values in proptest::collection::vec(
                "[-+]?[0-9]{0,20}([.][0-9]{0,3})?(e[0-9]{1,3})?| ?[0-9]{1,3} ?|\
                 nan|inf|[-]inf|true|False|\
                 20(13|24)-0[1-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9])?(Z|[+]0[0-9])?)?",
                0..6,
            ),
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let resolved = seen(&values).resolve().unwrap();
            let mut column = crate::import::column::Column::new(&resolved.data_type).unwrap();
            for value in values {
                let taken = value.trim().is_empty() || column.append_text(value).is_ok();
                proptest::prop_assert!(taken, "`{}` as {}", value, resolved.data_type);
            }
        }
    }
}
