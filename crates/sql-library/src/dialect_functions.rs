//! Lists of the functions of other SQL dialects, with their equivalents in this dialect.

/// Functions of this dialect that other systems call by other names, with the same arguments: the
/// other names, and the name in this dialect.
pub(crate) const NAMES: &[(&[&str], &str)] = &[
    (&["array", "array_construct", "list_value"], "make_array"),
    (&["transform"], "list_transform"),
    (&["filter"], "list_filter"),
    (&["sequence", "generate_array", "generate_date_array"], "generate_series"),
    (&["size", "array_size"], "cardinality"),
    (&["explode"], "unnest"),
    (&["sort_array"], "array_sort"),
    (&["array_join"], "array_to_string"),
    (&["list_min"], "array_min"),
    (&["list_max"], "array_max"),
    (&["struct_extract"], "get_field"),
    (&["first"], "first_value"),
    (&["last"], "last_value"),
    (&["any", "some", "logical_or"], "bool_or"),
    (&["every", "logical_and"], "bool_and"),
    (&["variance"], "var_samp"),
    (&["arbitrary"], "any_value"),
    (&["percentile"], "quantile_cont"),
    (&["approx_quantile", "approx_percentile", "percentile_approx"], "approx_percentile_cont"),
    (&["format_string"], "printf"),
    (&["generate_uuid"], "uuid"),
    (&["sign"], "signum"),
    (&["is_nan"], "isnan"),
    (&["char"], "chr"),
    (&["regexp_contains"], "regexp_like"),
    (&["json_build_object", "jsonb_build_object", "object_construct"], "json_object"),
    (&["json_build_array", "jsonb_build_array"], "json_array"),
    (&["to_jsonb", "to_json_string", "row_to_json"], "to_json"),
    (&["jsonb_typeof"], "json_typeof"),
    (&["jsonb_array_length"], "json_array_length"),
    (&["json_format"], "parse_json"),
    (&["ceiling"], "ceil"),
    (&["truncate"], "trunc"),
    (&["prefix"], "starts_with"),
    (&["suffix"], "ends_with"),
    (&["strlen", "byte_length"], "octet_length"),
    (&["ord", "unicode"], "ascii"),
    (&["lcase"], "lower"),
    (&["ucase"], "upper"),
    (&["editdist3"], "levenshtein"),
    (&["fsum", "kahan_sum", "sumkahan"], "sum"),
    (&["favg"], "avg"),
    (&["array_to_json"], "to_json"),
    (&["string_split_regex", "regexp_split", "str_split_regex"], "regexp_split_to_array"),
    (&["map_from_arrays"], "map"),
    (&["timestamp_millis"], "to_timestamp_millis"),
    (&["timestamp_micros"], "to_timestamp_micros"),
    (&["formatreadablesize"], "format_bytes"),
];

/// Templates of the functions `quote_literal` and `quote_nullable`, which return a value as an SQL
/// literal.
const QUOTED: &str = "'''' || replace(CAST($1 AS VARCHAR), '''', '''''') || ''''";
const QUOTED_OR_NULL: &str =
    "coalesce('''' || replace(CAST($1 AS VARCHAR), '''', '''''') || '''', 'NULL')";

/// Aggregates that return a list as JSON.
pub(crate) const JSON_LISTS: [&str; 3] = ["json_agg", "jsonb_agg", "json_group_array"];

/// Aggregates of a value and a key: their names in other systems, and the name in this dialect. A
/// call without a window is rewritten by a template, a call with a window is only renamed.
pub(crate) const BY_KEY: [(&[&str], &str); 2] =
    [(&["arg_max", "argmax", "max_by"], "max_by"), (&["arg_min", "argmin", "min_by"], "min_by")];

/// Functions that join lists and ignore nulls.
pub(crate) const CONCATENATIONS: [&str; 4] =
    ["array_concat", "array_cat", "list_concat", "list_cat"];

/// Aggregates that are computed from the list of all values: their names, the number of arguments,
/// and the function that is applied to the list.
pub(crate) const LIST_AGGREGATES: &[(&[&str], usize, &str)] = &[
    (&["mode"], 1, "list_mode"),
    (&["quantile_disc", "quantile", "percentile_disc"], 2, "list_quantile_disc"),
    (&["histogram"], 1, "list_histogram"),
    (&["product"], 1, "list_product"),
    (&["mad"], 1, "list_mad"),
    (&["skewness"], 1, "list_skewness"),
    (&["kurtosis"], 1, "list_kurtosis"),
    (&["entropy"], 1, "list_entropy"),
    (&["geomean", "geometric_mean"], 1, "list_geomean"),
];

/// Functions that are rewritten by a template: their names, the number of arguments, and the
/// template.
pub(crate) const TEMPLATES: &[(&[&str], usize, &str)] = &[
    // DuckDB, Spark, MySQL, Snowflake: parts of a time.
    (
        &["year", "quarter", "month", "week", "day", "hour", "minute", "second", "epoch"],
        1,
        "date_part($0, $1)",
    ),
    (&["dayofmonth", "day_of_month"], 1, "date_part('day', $1)"),
    (&["dayofyear", "day_of_year"], 1, "date_part('doy', $1)"),
    (&["weekofyear", "week_of_year"], 1, "date_part('week', $1)"),
    (&["dayname"], 1, "to_char($1, '%A')"),
    (&["monthname"], 1, "to_char($1, '%B')"),
    (
        &["last_day"],
        1,
        "CAST(date_trunc('month', $1) + INTERVAL '1 month' - INTERVAL '1 day' AS DATE)",
    ),
    (&["unix_timestamp"], 1, "CAST(date_part('epoch', $1) AS BIGINT)"),
    (&["isodow", "day_of_week"], 1, "date_part('isodow', $1)"),
    (&["unix_seconds"], 1, "CAST(date_part('epoch', $1) AS BIGINT)"),
    (&["unix_millis"], 1, "CAST(round(date_part('epoch', $1) * 1000) AS BIGINT)"),
    (&["to_unixtime"], 1, "date_part('epoch', $1)"),
    (&["timestamp_seconds"], 1, "to_timestamp($1)"),
    (&["epoch_us", "unix_micros"], 1, "CAST(round(date_part('epoch', $1) * 1000000) AS BIGINT)"),
    (&["century"], 1, "CAST(ceil(date_part('year', $1) / 100.0) AS BIGINT)"),
    (&["decade"], 1, "CAST(floor(date_part('year', $1) / 10.0) AS BIGINT)"),
    (&["millennium"], 1, "CAST(ceil(date_part('year', $1) / 1000.0) AS BIGINT)"),
    (&["isoyear"], 1, "CAST(to_char($1, 'IYYY') AS BIGINT)"),
    (&["yearweek"], 1, "CAST(to_char($1, 'IYYYIW') AS BIGINT)"),
    (&["julian"], 1, "date_part('epoch', $1) / 86400 + 2440588"),
    (&["millisecond"], 1, "CAST(date_part('millisecond', $1) AS BIGINT)"),
    (&["microsecond"], 1, "CAST(date_part('microsecond', $1) AS BIGINT)"),
    (&["unix_date"], 1, "CAST(date_part('epoch', CAST($1 AS DATE)) / 86400 AS BIGINT)"),
    (&["date_from_unix_date"], 1, "CAST(DATE '1970-01-01' + make_interval(0, 0, 0, $1) AS DATE)"),
    (&["to_unix_timestamp"], 1, "CAST(date_part('epoch', CAST($1 AS TIMESTAMP)) AS BIGINT)"),
    (&["add_months"], 2, "CAST($1 + make_interval(0, $2) AS DATE)"),
    (&["age"], 1, "age(CAST(current_date AS TIMESTAMP), $1)"),
    // DuckDB: intervals from numbers.
    (&["to_years"], 1, "make_interval($1)"),
    (&["to_months"], 1, "make_interval(0, $1)"),
    (&["to_weeks"], 1, "make_interval(0, 0, $1)"),
    (&["to_days"], 1, "make_interval(0, 0, 0, $1)"),
    (&["to_hours"], 1, "make_interval(0, 0, 0, 0, $1)"),
    (&["to_minutes"], 1, "make_interval(0, 0, 0, 0, 0, $1)"),
    (&["to_seconds"], 1, "make_interval(0, 0, 0, 0, 0, 0, $1)"),
    (&["timezone"], 2, "$2 AT TIME ZONE $1"),
    (&["getdate", "sysdate", "systimestamp", "get_current_timestamp"], 0, "now()"),
    (&["transaction_timestamp", "statement_timestamp", "clock_timestamp"], 0, "now()"),
    (&["localtimestamp"], 0, "CAST(now() AS TIMESTAMP)"),
    // Formatting and parsing of times. In BigQuery the format is the first argument.
    (&["strftime"], 2, "to_char($1, $2)"),
    (&["format_date", "format_datetime", "format_timestamp"], 2, "to_char($2, $1)"),
    (&["strptime"], 2, "to_timestamp($1, $2)"),
    (&["parse_date"], 2, "to_date($2, $1)"),
    (&["parse_datetime", "parse_timestamp"], 2, "to_timestamp($2, $1)"),
    (&["date"], 1, "CAST($1 AS DATE)"),
    // Arithmetic with times: Spark adds a number of days, MySQL and BigQuery add intervals.
    (&["date_add", "adddate", "timestamp_add", "datetime_add"], 2, "$1 + $2"),
    (&["date_sub", "subdate", "timestamp_sub", "datetime_sub"], 2, "$1 - $2"),
    (
        &["datediff", "date_diff"],
        2,
        "CAST((date_part('epoch', CAST($1 AS DATE)) - date_part('epoch', CAST($2 AS DATE))) \
         / 86400 AS BIGINT)",
    ),
    (&["time_bucket"], 2, "date_bin($1, $2)"),
    // JSON: BigQuery, Trino, Spark and the SQL standard.
    (&["json_value", "json_extract_scalar", "get_json_object"], 2, "json_extract_string($1, $2)"),
    (&["json_query"], 2, "json_extract($1, $2)"),
    // Conditions.
    (&["if", "iff", "iif"], 3, "CASE WHEN $1 THEN $2 ELSE $3 END"),
    (&["isnull"], 1, "$1 IS NULL"),
    (&["isnotnull"], 1, "$1 IS NOT NULL"),
    (&["isnull"], 2, "coalesce($1, $2)"),
    (&["zeroifnull"], 1, "coalesce($1, 0)"),
    // Numbers.
    (&["mod"], 2, "$1 % $2"),
    (&["div"], 2, "$1 // $2"),
    (&["pmod"], 2, "($1 % $2 + $2) % $2"),
    (&["shiftleft"], 2, "$1 << $2"),
    (&["hypot"], 2, "sqrt($1 * $1 + $2 * $2)"),
    (&["safe_divide"], 2, "CASE WHEN $2 <> 0 THEN CAST($1 AS DOUBLE) / $2 END"),
    (&["ieee_divide"], 2, "CAST($1 AS DOUBLE) / $2"),
    (&["hex"], 1, "upper(to_hex($1))"),
    (&["e"], 0, "exp(1)"),
    (&["shiftright"], 2, "$1 >> $2"),
    (&["xor"], 2, "($1 | $2) - ($1 & $2)"),
    (&["isinf", "is_inf"], 1, "abs($1) = CAST('inf' AS DOUBLE)"),
    (&["isfinite"], 1, "abs(CAST($1 AS DOUBLE)) < CAST('inf' AS DOUBLE)"),
    (&["nullifzero"], 1, "nullif($1, 0)"),
    (&["to_base64", "base64"], 1, "encode($1, 'base64pad')"),
    (&["from_base64", "unbase64"], 1, "decode($1, 'base64pad')"),
    (&["unhex", "from_hex"], 1, "decode($1, 'hex')"),
    // Spark's casts.
    (&["int"], 1, "CAST($1 AS INT)"),
    (&["bigint"], 1, "CAST($1 AS BIGINT)"),
    (&["double"], 1, "CAST($1 AS DOUBLE)"),
    (&["boolean"], 1, "CAST($1 AS BOOLEAN)"),
    (&["string"], 1, "CAST($1 AS VARCHAR)"),
    // Lists.
    (&["list_reverse_sort"], 1, "array_sort($1, 'DESC', 'NULLS LAST')"),
    (&["list_unique"], 1, "cardinality(array_distinct($1))"),
    (&["slice"], 3, "array_slice($1, $2, $2 + $3 - 1)"),
    (&["json_object_keys", "jsonb_object_keys"], 1, "unnest(json_keys($1))"),
    (&["map_agg"], 2, "map(array_agg($1), array_agg($2))"),
    (&["array_first"], 1, "array_element($1, 1)"),
    (&["array_last"], 1, "array_element($1, -1)"),
    (&["map_contains", "map_contains_key", "map_has_key"], 2, "array_has(map_keys($1), $2)"),
    (&["string_to_table"], 2, "unnest(string_to_array($1, $2))"),
    (&["regexp_split_to_table"], 2, "unnest(regexp_split_to_array($1, $2))"),
    (&["json_extract_path", "jsonb_extract_path"], 2, "json_extract($1, $2)"),
    (&["json_extract_path", "jsonb_extract_path"], 3, "json_extract(json_extract($1, $2), $3)"),
    (&["json_extract_path_text", "jsonb_extract_path_text"], 2, "json_extract_string($1, $2)"),
    (
        &["json_extract_path_text", "jsonb_extract_path_text"],
        3,
        "json_extract_string(json_extract($1, $2), $3)",
    ),
    // Text.
    (&["quote_literal"], 1, QUOTED),
    (&["quote_nullable"], 1, QUOTED_OR_NULL),
    (&["regexp_full_match"], 2, "regexp_like($1, '^(?:' || $2 || ')$')"),
    (&["regexp_substr"], 2, "regexp_match($1, '(' || $2 || ')')[1]"),
    (&["regexp_matches"], 2, "regexp_like($1, $2)"),
    // Without a match the result is the empty text; a null text or pattern gives null.
    (
        &["regexp_extract"],
        2,
        "CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL \
         THEN coalesce((regexp_match($1, '(' || $2 || ')'))[1], '') END",
    ),
    (
        &["regexp_extract"],
        3,
        "CASE WHEN $1 IS NOT NULL AND $2 IS NOT NULL \
         THEN coalesce((regexp_match($1, '(' || $2 || ')'))[$3 + 1], '') END",
    ),
    (&["split"], 1, "string_to_array($1, ',')"),
    (&["space"], 1, "repeat(' ', $1)"),
    (&["string_split", "str_split", "split"], 2, "string_to_array($1, $2)"),
    (&["charindex", "locate"], 2, "strpos($2, $1)"),
    (&["gen_random_uuid"], 0, "uuid()"),
    // Aggregates.
    (&["list", "collect_list", "group_array"], 1, "array_agg($1)"),
    (&["collect_set"], 1, "array_agg(DISTINCT $1)"),
    (&["group_concat"], 1, "string_agg($1, ',')"),
    (&["listagg"], 1, "string_agg($1, '')"),
    (&["group_concat", "listagg"], 2, "string_agg($1, $2)"),
    (&["approx_count_distinct"], 1, "approx_distinct($1)"),
    (&["arg_max", "argmax", "max_by"], 2, "first_value($1 ORDER BY $2 DESC NULLS LAST)"),
    (&["arg_min", "argmin", "min_by"], 2, "first_value($1 ORDER BY $2 ASC NULLS LAST)"),
    (&["count_if", "countif"], 1, "count(CASE WHEN $1 THEN 1 END)"),
];
