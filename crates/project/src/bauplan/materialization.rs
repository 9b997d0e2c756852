//! Bauplan's materialization and cache strategies, as named in SQL and Python models.

use crate::{Error, Location, Materialization, Result, unknown_name_hints};

const STRATEGIES: [(&str, Materialization); 4] = [
    ("NONE", Materialization::None),
    ("REPLACE", Materialization::Replace),
    ("APPEND", Materialization::Append),
    ("OVERWRITE_PARTITIONS", Materialization::OverwritePartitions),
];

/// Parses a materialization strategy, case-insensitively.
pub(crate) fn parse(text: &str, at: &Location) -> Result<Materialization> {
    let found = STRATEGIES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, materialization)| materialization).ok_or_else(|| {
        let message = format!("`{text}` is not a materialization strategy");
        let names = STRATEGIES.map(|(name, _)| name);
        Error::invalid(at.clone(), message, unknown_name_hints::hint(text, names, "strategies"))
    })
}

/// Parses a cache strategy. Returns true if the model always runs; `None` for an unknown strategy.
pub(crate) fn parse_cache(text: &str) -> Option<bool> {
    let found = [("NONE", true), ("DEFAULT", false)]
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, always)| always)
}
