//! Functions of other dialects, rewritten to functions of this dialect.
//!
//! Each rewrite is a template: `$1` stands for the first argument, `$0` for the name of the
//! function as a literal. A template applies only to calls with the stated number of arguments.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    ObjectNamePart, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use headwater_sql::expression::call;
use headwater_sql::parse::{parser, tokens};

/// Names that other systems use for a function of this dialect with the same arguments.
const NAMES: &[(&[&str], &str)] = &[
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
];

/// Aggregates that return a list as JSON.
const JSON_LISTS: [&str; 3] = ["json_agg", "jsonb_agg", "json_group_array"];

/// Aggregates of a value and a key. Their templates apply only to calls without a window.
const BY_KEY: [(&[&str], &str); 2] =
    [(&["arg_max", "argmax", "max_by"], "max_by"), (&["arg_min", "argmin", "min_by"], "min_by")];

/// Functions that join lists and ignore nulls.
const CONCATENATIONS: [&str; 4] = ["array_concat", "array_cat", "list_concat", "list_cat"];

/// Function names, number of arguments, and template.
const TEMPLATES: &[(&[&str], usize, &str)] = &[
    // Parts of a time, in DuckDB, Spark, MySQL and Snowflake.
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
    (&["unix_millis", "epoch_ms"], 1, "CAST(round(date_part('epoch', $1) * 1000) AS BIGINT)"),
    (&["to_unixtime"], 1, "date_part('epoch', $1)"),
    (&["timestamp_seconds"], 1, "to_timestamp($1)"),
    (&["add_months"], 2, "CAST($1 + $2 * INTERVAL '1 month' AS DATE)"),
    (&["getdate", "sysdate", "systimestamp"], 0, "now()"),
    (&["localtimestamp"], 0, "CAST(now() AS TIMESTAMP)"),
    // Formatting times as text, and parsing them. In BigQuery the format is the first argument.
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
    // Text.
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

/// Returns the template of `date_diff(unit, start, end)`: the number of unit boundaries between two
/// times.
fn difference_in(unit: &str) -> Option<String> {
    // A week begins on a Monday, and 1970-01-01 was a Thursday.
    let (seconds, offset) = match unit {
        "year" => return Some("date_part('year', $2) - date_part('year', $1)".to_owned()),
        "quarter" => return Some(difference_in_parts(unit, 4)),
        "month" => return Some(difference_in_parts(unit, 12)),
        "week" => (7 * 86_400, 3 * 86_400),
        "day" => (86_400, 0),
        "hour" => (3_600, 0),
        "minute" => (60, 0),
        "second" => (1, 0),
        _ => return None,
    };
    let of = |time| format!("floor((date_part('epoch', {time}) + {offset}) / {seconds})");
    Some(format!("CAST({} - {} AS BIGINT)", of("$2"), of("$1")))
}

/// Like [`difference_in`], for a unit of which every year has the same number, such as months.
fn difference_in_parts(unit: &str, per_year: u32) -> String {
    let of =
        |time| format!("(date_part('year', {time}) * {per_year} + date_part('{unit}', {time}))");
    format!("{} - {}", of("$2"), of("$1"))
}

/// Returns the equivalent expression for a call of another dialect's function.
pub fn respelled(function: &Function) -> Option<Expr> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    if name.quote_style.is_some() {
        return None;
    }
    let written = name.value.to_lowercase();
    let mut arguments = arguments(function)?;
    let is_difference = matches!(written.as_str(), "date_diff" | "datediff" | "timestamp_diff");
    if let Some(named) = renamed(function, &written) {
        return Some(named);
    }
    if function.over.is_some()
        && let Some((_, name)) = BY_KEY.iter().find(|(names, _)| names.contains(&written.as_str()))
    {
        return (written != *name).then(|| with_name(function, name));
    }
    if CONCATENATIONS.contains(&written.as_str()) {
        return without_nulls(function);
    }
    let template = if is_difference && arguments.len() == 3 {
        difference(&mut arguments)?
    } else if let Some(template) = in_unit(&written, &mut arguments) {
        template
    } else if JSON_LISTS.contains(&written.as_str()) && arguments.len() == 1 {
        "array_agg($1)".to_owned()
    } else {
        let fits = |(names, count, _): &&(&[&str], usize, &str)| {
            *count == arguments.len() && names.contains(&written.as_str())
        };
        TEMPLATES.iter().find(fits)?.2.to_owned()
    };
    let mut expr = parser(tokens(&template).ok()?).parse_expr().ok()?;
    let _ = expr.visit(&mut TemplateFiller { name: &written, span: name.span, arguments });
    let expr = with_clauses(expr, function)?;
    let is_json = JSON_LISTS.contains(&written.as_str());
    Some(if is_json { call("to_json", vec![expr]) } else { expr })
}

/// Returns the call with the name of the equivalent function of this dialect.
fn renamed(function: &Function, written: &str) -> Option<Expr> {
    let (_, name) = NAMES.iter().find(|(names, _)| names.contains(&written))?;
    Some(with_name(function, name))
}

fn with_name(function: &Function, name: &str) -> Expr {
    let mut function = function.clone();
    if let Some(ObjectNamePart::Identifier(ident)) = function.name.0.first_mut() {
        name.clone_into(&mut ident.value);
    }
    Expr::Function(function)
}

/// Returns the call without NULL arguments, because DataFusion cannot combine their type with
/// lists. Returns `None` if nothing changes.
fn without_nulls(function: &Function) -> Option<Expr> {
    let mut function = function.clone();
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let count = list.args.len();
    list.args.retain(|argument| {
        !matches!(
            argument,
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan {
                value: Value::Null,
                ..
            },)))
        )
    });
    let is_less = (1..count).contains(&list.args.len());
    is_less.then_some(Expr::Function(function))
}

/// Returns the template of a function that adds units to a time or truncates it to a unit. Removes
/// the unit from the arguments.
fn in_unit(name: &str, arguments: &mut Vec<Expr>) -> Option<String> {
    const UNITS: [&str; 8] =
        ["year", "quarter", "month", "week", "day", "hour", "minute", "second"];
    let unit = |expr: &Expr| {
        let unit = unit_of(expr)?.to_lowercase();
        UNITS.contains(&unit.as_str()).then_some(unit)
    };
    match (name, arguments.len()) {
        ("dateadd" | "date_add" | "timestampadd", 3) => {
            let unit = unit(&arguments[0])?;
            arguments.remove(0);
            let (count, unit) = if unit == "quarter" { ("3 *", "month") } else { ("", &*unit) };
            Some(format!("$2 + {count} $1 * INTERVAL '1 {unit}'"))
        }
        ("date_trunc" | "timestamp_trunc" | "datetime_trunc", 2) => {
            if matches!(&arguments[0], Expr::Value(_)) {
                return None;
            }
            // In BigQuery, a WEEK begins on a Sunday and an ISOWEEK on a Monday.
            let unit = match &arguments[1] {
                Expr::Identifier(unit) if unit.value.eq_ignore_ascii_case("isoweek") => {
                    "week".to_owned()
                }
                Expr::Identifier(_) => unit(&arguments[1]).filter(|unit| unit != "week")?,
                _ => return None,
            };
            arguments.truncate(1);
            Some(format!("date_trunc('{unit}', $1)"))
        }
        _ => None,
    }
}

/// Returns the argument as text if it is the name of a unit.
fn unit_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(unit) => Some(&unit.value),
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(unit), .. }) => Some(unit),
        _ => None,
    }
}

/// Returns the arguments of a call if all of them are plain expressions.
fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let list = match &function.args {
        FunctionArguments::None => return Some(Vec::new()),
        FunctionArguments::Subquery(_) => return None,
        FunctionArguments::List(list) => list,
    };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// Returns the template of a difference, and removes the unit from the arguments. In DuckDB and
/// Snowflake, the unit is the first argument. In `BigQuery`, the unit is the last argument, and the
/// end precedes the start.
fn difference(arguments: &mut Vec<Expr>) -> Option<String> {
    let template = |unit: &Expr| difference_in(&unit_of(unit)?.to_lowercase());
    if let Some(template) = template(&arguments[0]) {
        arguments.remove(0);
        return Some(template);
    }
    let template = template(&arguments[2])?;
    arguments.truncate(2);
    arguments.reverse();
    Some(template)
}

/// Replaces the placeholders of a template by arguments. All parts of the result get the position
/// of the function.
struct TemplateFiller<'a> {
    name: &'a str,
    span: Span,
    arguments: Vec<Expr>,
}

impl VisitorMut for TemplateFiller<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(ValueWithSpan { value: Value::Placeholder(place), .. }) => {
                match place.trim_start_matches('$').parse::<usize>() {
                    Ok(0) | Err(_) => {
                        *expr = Expr::value(Value::SingleQuotedString(self.name.into()));
                    }
                    Ok(place) => *expr = self.arguments[place - 1].clone(),
                }
            }
            Expr::Value(value) => value.span = self.span,
            Expr::Function(function) => {
                for part in &mut function.name.0 {
                    if let ObjectNamePart::Identifier(ident) = part {
                        ident.span = self.span;
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Adds the clauses of the original call to the template's function. Returns `None` if there are
/// clauses and the template is not a function.
fn with_clauses(mut expr: Expr, written: &Function) -> Option<Expr> {
    let Function { filter, null_treatment, over, within_group, args, .. } = written.clone();
    let (distinct, mut clauses) = match args {
        FunctionArguments::List(list) => (list.duplicate_treatment, list.clauses),
        _ => (None, Vec::new()),
    };
    if !within_group.is_empty() {
        clauses.push(FunctionArgumentClause::OrderBy(within_group));
    }
    let is_plain = clauses.is_empty() && distinct.is_none() && filter.is_none() && over.is_none();
    match &mut expr {
        Expr::Function(function) => {
            (function.filter, function.over) = (filter, over);
            function.null_treatment = null_treatment;
            if let FunctionArguments::List(list) = &mut function.args {
                list.duplicate_treatment = distinct.or(list.duplicate_treatment);
                list.clauses.extend(clauses);
            }
            Some(expr)
        }
        _ => is_plain.then_some(expr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let expr = parser(tokens(sql).unwrap()).parse_expr().unwrap();
        let Expr::Function(function) = expr else { panic!("`{sql}` is no function") };
        let shown = respelled(&function).map(|expr| expr.to_string());
        assert_eq!(shown.as_deref().unwrap_or("unchanged"), expected, "`{sql}`");
    }

    #[test]
    fn a_call_becomes_its_template() {
        check("YEAR(t.day)", "date_part('year', t.day)");
        check("year(a, b)", "unchanged");
        check("\"year\"(a)", "unchanged");
        check("format_date('%Y', a + b)", "to_char(a + b, '%Y')");
        check(
            "datediff(minute, a, b)",
            "CAST(FLOOR((date_part('epoch', b) + 0) / 60) \
             - FLOOR((date_part('epoch', a) + 0) / 60) AS BIGINT)",
        );
        check("date_diff(b, a, YEAR)", "date_part('year', b) - date_part('year', a)");
        check("date_diff('eon', a, b)", "unchanged");
    }

    #[test]
    fn aggregates_keep_their_clauses() {
        check(
            "list(DISTINCT a ORDER BY b) FILTER (WHERE c) OVER (ORDER BY d)",
            "array_agg(DISTINCT a ORDER BY b) FILTER (WHERE c) OVER (ORDER BY d)",
        );
        check("listagg(a, ';') WITHIN GROUP (ORDER BY b)", "string_agg(a, ';' ORDER BY b)");
        check("max_by(a, b)", "first_value(a ORDER BY b DESC NULLS LAST)");
        check("if(a, b, c) OVER ()", "unchanged");
    }

    #[test]
    fn every_template_is_an_expression() {
        for (_, _, template) in TEMPLATES {
            let parsed = parser(tokens(template).unwrap()).parse_expr();
            assert!(parsed.is_ok(), "`{template}`: {parsed:?}");
        }
    }
}
