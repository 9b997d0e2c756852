//! `[rates]` in the project file: the prices of units of usage. Errors name the key and its line.

use std::collections::BTreeMap;

use headwater_model::RateCard;
use toml::{Spanned, Value};

use crate::callable::is_money;
use crate::source_location::SourceText;
use crate::{Error, Result, unknown_name_hints};

/// The values of the section by key.
pub(super) type RatesSection = BTreeMap<String, Spanned<Value>>;

/// The keys of the section.
const KEYS: [&str; 7] = [
    "currency",
    "cpu_second",
    "memory_gib_second",
    "gib_read",
    "gib_written",
    "million_requests",
    "million_calls",
];

/// Parses the prices. A missing price has its default value.
///
/// Errors: `invalid_project` for an unknown key, a currency that is not text, or a price that is
/// not a finite number of at least 0.
pub(super) fn read(source: &SourceText<'_>, section: RatesSection) -> Result<RateCard> {
    let mut card = RateCard::default();
    for (key, value) in section {
        let at = source.at(value.span().start);
        let value = value.into_inner();
        if key == "currency" {
            let Value::String(code) = value else {
                let message = format!("`currency` in `[rates]` is `{value}`, which is not text");
                return Err(Error::invalid(
                    at,
                    message,
                    "Write a currency code such as `\"EUR\"`.",
                ));
            };
            card.currency = code;
            continue;
        }
        let Some(price) = price_of(&mut card, &key) else {
            let hint = unknown_name_hints::hint(&key, KEYS, "valid keys");
            return Err(Error::invalid(at, format!("unknown key `{key}`"), hint));
        };
        let Some(number) = number(&value).filter(|number| is_money(*number)) else {
            let message = format!("`{key}` in `[rates]` is `{value}`, which is not a price");
            let hint = "Write a number of at least 0, such as `0.00002`.";
            return Err(Error::invalid(at, message, hint));
        };
        *price = number;
    }
    Ok(card)
}

/// Returns the price in a rate card that a key sets; `None` for an unknown key.
fn price_of<'a>(card: &'a mut RateCard, key: &str) -> Option<&'a mut f64> {
    Some(match key {
        "cpu_second" => &mut card.cpu_second,
        "memory_gib_second" => &mut card.memory_gib_second,
        "gib_read" => &mut card.gib_read,
        "gib_written" => &mut card.gib_written,
        "million_requests" => &mut card.million_requests,
        "million_calls" => &mut card.million_calls,
        _ => return None,
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}
