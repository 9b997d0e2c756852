//! Triggers in decorators: `@headwater.function(on=[{"schedule": "0 6 * * *"}])`.
//!
//! An item of `on` has the keys of `[[trigger]]` in `headwater.toml`. The same code parses and
//! checks items and `[[trigger]]` sections. The target of the trigger is the decorated function.

use ruff_text_size::TextRange;
use serde_json::{Map, Value};

use super::literal::Literal;
use super::literal_arguments::LiteralArguments;
use crate::manifest::{self, LocatedTrigger};
use crate::source_location::SourceText;
use crate::{Error, Location, Result};

const FORM: &str = "`on=[{\"schedule\": \"0 6 * * *\"}]`";

/// The keys of targets, which are allowed only in the project file.
const TARGETS: [&str; 4] = ["function", "import", "run", "parameters"];

/// Parses the triggers of a function. Triggers without a name are named after the function: the
/// first trigger is `NAME`, the second trigger is `NAME-2`.
pub(super) fn triggers(
    source: &SourceText<'_>,
    values: &LiteralArguments<'_>,
    function: &str,
) -> Result<Vec<LocatedTrigger>> {
    let mut triggers = Vec::new();
    for (index, (literal, range)) in values.items("on", FORM)?.into_iter().enumerate() {
        let name = match index {
            0 => function.to_owned(),
            _ => format!("{function}-{}", index + 1),
        };
        triggers.push(TriggerSpan { source, range }.trigger(literal, function, name)?);
    }
    Ok(triggers)
}

/// An item of `on`: its range in the source, for the locations of errors.
struct TriggerSpan<'a> {
    source: &'a SourceText<'a>,
    range: TextRange,
}

impl TriggerSpan<'_> {
    fn trigger(&self, literal: &Literal, function: &str, name: String) -> Result<LocatedTrigger> {
        let Literal::Map(entries) = literal else {
            let message = format!("`{}` in `on` is not a trigger", self.text());
            return Err(Error::invalid(self.locate(""), message, format!("Write {FORM}.")));
        };
        let target = entries.iter().find(|(key, _)| TARGETS.contains(&key.as_str()));
        if let Some((key, _)) = target {
            let message = format!(
                "a trigger in `on` always calls `{function}`; the key `{key}` is not supported"
            );
            let hint = "Remove the key, or declare the trigger in headwater.toml.";
            return Err(Error::invalid(self.locate(key), message, hint));
        }
        let entries = entries.iter().map(|(key, value)| (key.clone(), value.to_json()));
        let mut fields: Map<String, Value> = entries.collect();
        fields.entry("name").or_insert_with(|| name.into());
        fields.insert("function".to_owned(), function.into());
        let trigger = serde_json::from_value(Value::Object(fields))
            .map_err(|error| self.wrong(&error.to_string()))?;
        LocatedTrigger::checked(trigger, self.locate(""))
    }

    /// Converts a message of the parser to an error with a location and the most similar key.
    fn wrong(&self, message: &str) -> Error {
        let word = message.split('`').nth(1).unwrap_or_default();
        if message.starts_with("missing field") {
            let message = format!("the key `{word}` is missing");
            return Error::invalid(self.locate(""), message, format!("Add `\"{word}\": \"…\"`."));
        }
        let (message, hint) = manifest::describe(message, None);
        let general = || "Correct the value; docs/triggers.md shows the keys.".to_owned();
        Error::invalid(self.locate(word), message, hint.unwrap_or_else(general))
    }

    /// Returns the location of a quoted word in the item; otherwise the start of the item.
    fn locate(&self, word: &str) -> Location {
        let find = |quote: char| self.text().find(&format!("{quote}{word}{quote}"));
        let mut quotes = ['"', '\''].into_iter().filter(|_| !word.is_empty());
        let offset = quotes.find_map(find).unwrap_or_default();
        self.source.at(self.range.start().to_usize() + offset)
    }

    fn text(&self) -> &str {
        &self.source.text[self.range]
    }
}
