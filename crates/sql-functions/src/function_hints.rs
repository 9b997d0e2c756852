//! Hints for functions of other SQL systems that have a different name in this dialect.

use datafusion::execution::SessionState;
use headwater_model::nearest;

/// Names of functions of other SQL systems, with the hint for these names.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (
        &["date_diff", "datediff", "timestampdiff", "timestamp_diff", "months_between"],
        "Subtract the times: `t2 - t1`; or write `date_diff('day', start, end)`.",
    ),
    (
        &["date_add", "dateadd", "date_sub", "timestampadd", "adddate", "add_months"],
        "Add an interval: `t + INTERVAL '1 day'`.",
    ),
    (&["array_concat_agg"], "Write `array_agg`."),
    (&["array_agg_distinct"], "Write `array_agg(DISTINCT x)`."),
    (&["char_len"], "Write `length`."),
    (&["posexplode"], "Write `UNNEST(list) WITH ORDINALITY` in FROM."),
    (&["list_size", "array_count"], "Write `cardinality`."),
    (&["hash", "farm_fingerprint"], "Write `md5(text)`: hash values differ by system."),
    (
        &["read_csv", "read_csv_auto", "read_parquet", "read_json"],
        "Import the file with `headwater table import`.",
    ),
    (&["hll", "uniq"], "Write `approx_distinct`."),
    (&["sum_if", "sumif"], "Write `sum(x) FILTER (WHERE condition)`."),
    (&["time_format"], "Write `to_char(time, 'YYYY-MM-DD')`."),
    (&["str_to_date"], "Write `to_timestamp(text, '%Y-%m-%d')`."),
    (&["dayofweek"], "Write `date_part('dow', time)`: 0 is Sunday."),
    (&["regexp_substr"], "Write `regexp_match(text, pattern)[1]`."),
    (&["quantile"], "Write `approx_percentile_cont(x, 0.5)`."),
];

/// Returns the hint for an unknown function.
pub fn hint(state: &SessionState, function: &str) -> Option<String> {
    let written = function.to_lowercase();
    if written.starts_with("json") || written.starts_with("get_json") {
        return Some("Write `json_extract(text, '$.a')`, or read the text with Python.".to_owned());
    }
    let elsewhere = ELSEWHERE.iter().find(|(names, _)| names.contains(&written.as_str()));
    if let Some((_, hint)) = elsewhere {
        return Some((*hint).to_owned());
    }
    if state.window_functions().contains_key(&written) {
        return Some(format!("`{written}` is a window function: add `OVER (…)` after the call."));
    }
    let near = nearest(&written, names(state))?;
    Some(format!("Did you mean `{near}`?"))
}

/// Returns the names of all functions that users can call.
fn names(state: &SessionState) -> impl Iterator<Item = &str> {
    let scalar = state.scalar_functions().keys();
    let names = scalar.chain(state.aggregate_functions().keys());
    let names = names.chain(state.window_functions().keys());
    names.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;

    use super::*;

    #[test]
    fn hints_are_for_missing_functions_and_name_existing_ones() {
        let mut state = SessionStateBuilder::new().with_default_features().build();
        crate::register_for_constants(&mut state).unwrap();
        let there: Vec<&str> = names(&state).collect();
        for (functions, hint) in ELSEWHERE {
            for function in *functions {
                assert!(!there.contains(function), "`{function}` is there");
            }
            if let Some((_, code)) = hint.split_once('`')
                && let Some((name, _)) = code.split_once(['(', '`'])
                && name.chars().all(|letter| letter.is_lowercase() || letter == '_')
            {
                assert!(there.contains(&name), "`{hint}` names a function that is not there");
            }
        }
    }
}
