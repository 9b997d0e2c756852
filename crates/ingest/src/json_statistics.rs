//! Collects column statistics from JSON texts.

use std::fmt::{Formatter, Result as FmtResult};
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json_value::Key;
use super::type_inference::{ColumnStatistics, FieldStatistics};
use super::value_class::{ValueClass, classify};

/// Position of a value in its file.
#[derive(Clone, Copy)]
pub(crate) struct JsonPosition<'a> {
    pub line: u64,
    pub file: &'a Arc<str>,
}

/// Records every field of an object. Returns an error if the text is not a JSON object. Fields are
/// not inspected if `known` returns true for them.
pub(crate) fn record_object(
    text: &str,
    fields: &mut FieldStatistics,
    known: &dyn Fn(&str) -> bool,
    place: JsonPosition<'_>,
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    (&mut json).deserialize_map(ObjectVisitor { fields, known, place })?;
    json.end()
}

struct ObjectVisitor<'e> {
    fields: &'e mut FieldStatistics,
    known: &'e dyn Fn(&str) -> bool,
    place: JsonPosition<'e>,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> FmtResult {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut guess = 0;
        while let Some(key) = map.next_key_seed(Key)? {
            let count = self.fields.len();
            match self.fields.entry(&key, guess) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(statistics) => {
                    let new = statistics.is_new();
                    if new && (self.known)(&key) {
                        *statistics = ColumnStatistics::known();
                    }
                    map.next_value_seed(ValueVisitor { statistics, place: self.place })?;
                }
            }
            guess = if self.fields.len() > count { count + 1 } else { guess + 1 };
        }
        Ok(())
    }
}

/// Records the value of one field in the statistics of its column.
struct ValueVisitor<'e> {
    statistics: &'e mut ColumnStatistics,
    place: JsonPosition<'e>,
}

impl ValueVisitor<'_> {
    fn observe(&mut self, class: ValueClass, value: impl FnOnce() -> String) {
        self.statistics.observe(class, value, self.place.line, self.place.file);
    }
}

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.statistics.is_final() {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> FmtResult {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.statistics.record_null();
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.observe(ValueClass::Boolean, || value.to_string());
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.observe(ValueClass::Integer, || value.to_string());
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        let class =
            if i64::try_from(value).is_ok() { ValueClass::Integer } else { ValueClass::BigInteger };
        self.observe(class, || value.to_string());
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.observe(ValueClass::Real, || value.to_string());
        Ok(())
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        // A number in a JSON string is text, because the writer of the file chose a string.
        match classify(value) {
            Some(
                class @ (ValueClass::Date | ValueClass::Timestamp | ValueClass::ZonedTimestamp),
            ) => {
                self.observe(class, || value.to_owned());
            }
            _ => self.statistics.observe_word(value, self.place.line, self.place.file),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.observe(ValueClass::List, || "[…]".to_owned());
        let element = self.statistics.element.get_or_insert_default();
        while list
            .next_element_seed(ValueVisitor { statistics: element, place: self.place })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        self.observe(ValueClass::Object, || "{…}".to_owned());
        let fields = self.statistics.fields.get_or_insert_default();
        ObjectVisitor { fields, known: &|_| false, place: self.place }.visit_map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(lines: &[&str]) -> String {
        let mut fields = FieldStatistics::default();
        let file: Arc<str> = Arc::from("f");
        for (index, line) in lines.iter().enumerate() {
            let place = JsonPosition { line: index as u64 + 1, file: &file };
            record_object(line, &mut fields, &|_| false, place).unwrap();
        }
        let name = |(name, statistics): (String, ColumnStatistics)| {
            let resolved = statistics.resolve().unwrap();
            format!("{name} {}", resolved.data_type)
        };
        fields.into_vec().into_iter().map(name).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn fields_get_the_type_that_represents_every_value() {
        let check =
            |lines: &[&str], expected: &str| assert_eq!(types(lines), expected, "{lines:?}");
        check(
            &[r#"{"a": 1, "b": "1"}"#, r#"{"a": 2.5, "c": true}"#],
            "a Float64; b Utf8; c Boolean",
        );
        check(&[r#"{"a": "2013-01-01"}"#, r#"{"a": null}"#], "a Date32");
        check(&[r#"{"a": 1}"#, r#"{"a": "x"}"#], "a Utf8");
        check(&[r#"{"a": 1}"#, r#"{"a": {"b": 1}}"#], "a Utf8");
        check(&[r#"{"a": 18446744073709551615}"#], "a Utf8");
        check(&[r#"{"a": {}}"#, r#"{"b": null}"#], "a Utf8; b Utf8");
        check(
            &[r#"{"a": {"x": 1}}"#, r#"{"a": {"y": [1, null]}}"#],
            "a Struct(\"x\": Int64, \"y\": List(Int64, field: 'element'))",
        );
        check(&[r#"{"a": [[]]}"#], "a List(List(Utf8, field: 'element'), field: 'element')");
    }
}
