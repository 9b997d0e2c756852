//! Rules that estimate the sizes of function results, by function name.
//!
//! All functions that DataFusion 55 and this crate register are listed. For an unlisted function,
//! the estimate is eight times the size of its arguments; a test fails if a function is unlisted.
//! Functions in Python have no estimate.

use super::call::{CallArguments, RowSizeBound};
use super::{lists, text};

/// Rule that estimates the size of a function's result.
#[derive(Clone, Copy)]
pub(super) enum SizeRule {
    /// Fixed size, such as a number or a timestamp.
    Fixed,
    /// At most this multiple of the size of the arguments.
    Within(u64),
    /// Computed by a function from the arguments of each row.
    Each(for<'a, 'b> fn(&'a CallArguments<'b>) -> RowSizeBound<'a>),
    /// The rule for casts that parse text. The size of a nested result is computed from the text of
    /// each row; for any other result, the rule is [`OTHERS`].
    Parsed,
}

/// Rule for functions that this module does not list.
pub(super) const OTHERS: SizeRule = SizeRule::Within(8);

/// Returns the rule that estimates the results of a function.
pub(super) fn rule(name: &str) -> SizeRule {
    listed(name).unwrap_or(OTHERS)
}

/// Functions with results of fixed size. The module `rewrite` handles casts that can have larger
/// results. `get_field`, `struct` and `named_struct` are listed because they do not copy their
/// arguments. They are never wrapped.
const FIXED: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "add",
    "age",
    "array_any_match",
    "array_avg",
    "array_dims",
    "array_distance",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_length",
    "array_ndims",
    "array_position",
    "array_product",
    "array_sum",
    "arrow_cast",
    "arrow_field",
    "arrow_metadata",
    "arrow_try_cast",
    "arrow_typeof",
    "ascii",
    "asin",
    "asinh",
    "at_time_zone",
    "atan",
    "atan2",
    "atanh",
    "bit_length",
    "cardinality",
    "cast_to_type",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "contains",
    "cos",
    "cosh",
    "cosine_distance",
    "cot",
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "days",
    "degrees",
    "digest",
    "empty",
    "ends_with",
    "epoch_ms",
    "exp",
    "factorial",
    "file_row_index",
    "find_in_set",
    "floor",
    "format_bytes",
    "from_unixtime",
    "gcd",
    "get_field",
    "hamming",
    "hashtext",
    "inner_product",
    "input_file_name",
    "isnan",
    "iszero",
    "jaro_similarity",
    "jaro_winkler_similarity",
    "json_array_length",
    "json_contains",
    "json_exists",
    "json_type",
    "json_typeof",
    "json_valid",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "lcm",
    "len",
    "list_entropy",
    "list_geomean",
    "list_kurtosis",
    "list_mad",
    "list_skewness",
    "ln",
    "log",
    "log10",
    "log2",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "md5",
    "multiply",
    "named_struct",
    "nanvl",
    "now",
    "octet_length",
    "pg_size_pretty",
    "pg_typeof",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "signum",
    "similar_to",
    "sin",
    "sinh",
    "sqrt",
    "starts_with",
    "strpos",
    "struct",
    "subtract",
    "tan",
    "tanh",
    "to_date",
    "to_hex",
    "to_local_time",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "trunc",
    "try_cast_to_type",
    "typeof",
    "union_tag",
    "uuid",
    "version",
];

fn listed(name: &str) -> Option<SizeRule> {
    if FIXED.contains(&name) {
        return Some(SizeRule::Fixed);
    }
    growing(name).or_else(|| within(name))
}

fn within(name: &str) -> Option<SizeRule> {
    let factor = match name {
        "array_any_value" | "array_compact" | "array_element" | "array_except" | "array_filter"
        | "array_first" | "array_max" | "array_min" | "array_pop_back" | "array_pop_front"
        | "array_remove" | "array_remove_all" | "array_remove_n" | "array_reverse"
        | "array_slice" | "array_sort" | "array_append" | "array_prepend" | "btrim"
        | "coalesce" | "concat" | "flatten" | "list_mode" | "list_quantile_disc" | "greatest"
        | "least" | "left" | "ltrim" | "make_array" | "map_entries" | "map_extract"
        | "map_keys" | "map_values" | "nullif" | "nvl" | "nvl2" | "reverse" | "right" | "rtrim"
        | "slice_of" | "split_part" | "substr" | "substr_index" | "union_extract"
        | "with_metadata" => 1,
        "array_concat" | "array_distinct" | "array_intersect" | "array_union" | "decode"
        | "encode" | "map" | "overlay" => 2,
        "initcap" | "lower" | "upper" => 3,
        "translate" => 4,
        "array_add"
        | "array_normalize"
        | "array_scale"
        | "array_subtract"
        | "list_histogram"
        | "regexp_extract_all"
        | "regexp_split_to_array"
        | "json_array"
        | "json_at_path"
        | "json_at_path_text"
        | "json_extract"
        | "json_extract_string"
        | "json_keys"
        | "json_object"
        | "parse_json"
        | "to_json" => 8,
        _ => return None,
    };
    Some(SizeRule::Within(factor))
}

fn growing(name: &str) -> Option<SizeRule> {
    Some(match name {
        "repeat" => SizeRule::Each(text::repeat),
        "lpad" | "rpad" => SizeRule::Each(text::pad),
        "printf" | "format" => SizeRule::Each(text::printf),
        "replace" => SizeRule::Each(text::replace),
        "concat_ws" => SizeRule::Each(text::concat_ws),
        "to_char" | "date_format" => SizeRule::Each(text::to_char),
        "array_to_string" => SizeRule::Each(text::array_to_string),
        "string_to_array" => SizeRule::Each(text::string_to_array),
        "regexp_match" => SizeRule::Each(text::regexp_match),
        "regexp_replace" => SizeRule::Each(text::regexp_replace),
        "regexp_count" | "regexp_instr" | "regexp_like" => SizeRule::Each(text::regexp),
        "damerau_levenshtein" => SizeRule::Each(text::damerau_levenshtein),
        "levenshtein" => SizeRule::Each(text::levenshtein),
        "generate_series" | "range" => SizeRule::Each(lists::range),
        "array_repeat" => SizeRule::Each(lists::array_repeat),
        "array_resize" => SizeRule::Each(lists::array_resize),
        "array_replace" | "array_replace_all" | "array_replace_n" => {
            SizeRule::Each(lists::array_replace)
        }
        "array_positions" => SizeRule::Each(lists::positions),
        "arrays_zip" => SizeRule::Each(lists::arrays_zip),
        // Functions that users cannot call: casts of text, and casts to the type of a column.
        "\0parse_text" | "\0try_parse_text" => SizeRule::Parsed,
        assignment if assignment.starts_with("\0into ") => SizeRule::Parsed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use datafusion::execution::{SessionState, SessionStateBuilder};
    use datafusion::logical_expr::Signature;

    use super::*;

    /// Returns a state with DataFusion's functions and all functions of this crate.
    fn session() -> SessionState {
        let mut state = SessionStateBuilder::new().with_default_features().build();
        crate::register(&mut state).unwrap();
        state
    }

    /// Returns true if users cannot call the function in statements.
    fn is_internal(name: &str) -> bool {
        name.starts_with('\0')
    }

    /// Lists all functions with examples of their argument types, one per line.
    fn listing() -> String {
        let state = session();
        let mut lines = Vec::new();
        let mut add = |kind: &str, name: &str, signature: &Signature| {
            if is_internal(name) {
                return;
            }
            let examples = signature.type_signature.get_example_types();
            let types = |types: &Vec<DataType>| types.iter().map(kind_of).collect::<Vec<_>>();
            let mut examples: Vec<String> =
                examples.iter().map(|example| types(example).join(" ")).collect();
            examples.sort();
            examples.dedup();
            lines.push(format!("{kind} {name}: {}", examples.join(", ")).trim_end().to_owned());
        };
        for (name, function) in state.scalar_functions() {
            add("scalar", name, function.signature());
        }
        for (name, function) in state.aggregate_functions() {
            add("aggregate", name, function.signature());
        }
        for (name, function) in state.window_functions() {
            add("window", name, function.signature());
        }
        lines.sort();
        lines.join("\n") + "\n"
    }

    fn kind_of(data_type: &DataType) -> &'static str {
        match data_type {
            DataType::Boolean => "bool",
            it if it.is_integer() => "int",
            it if it.is_numeric() => "number",
            it if it.is_string() => "text",
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes",
            DataType::Date32 | DataType::Date64 => "date",
            DataType::Timestamp(_, _) => "timestamp",
            DataType::Time32(_) | DataType::Time64(_) => "time",
            DataType::Interval(_) | DataType::Duration(_) => "interval",
            it if it.is_nested() => "list",
            _ => "any",
        }
    }

    /// Generates the list of functions that the fuzz test of function calls reads.
    /// `HEADWATER_UPDATE=1` rewrites the file.
    #[test]
    fn the_list_of_functions_is_complete() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/functions.txt");
        if std::env::var_os("HEADWATER_UPDATE").is_some() {
            std::fs::write(path, listing()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), listing());
    }

    #[test]
    fn every_registered_function_has_a_rule() {
        let state = session();
        let functions = state.scalar_functions().values();
        let mut missing: Vec<&str> = functions.map(|function| function.name()).collect();
        missing.retain(|name| listed(name).is_none() && !is_internal(name));
        missing.sort_unstable();
        missing.dedup();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
