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

use crate::date_patterns::chrono_format;
use crate::dialect_functions::{
    BY_KEY, CONCATENATIONS, JSON_LISTS, LIST_AGGREGATES, NAMES, TEMPLATES,
};

/// Returns the template of `date_diff(unit, start, end)`: the number of unit boundaries between two
/// times.
fn difference_in(unit: &str) -> Option<String> {
    // `$1` and `$2` are the start and the end. The offset moves 1970-01-01, a Thursday, so that a
    // week begins on a Monday.
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

/// Returns the same template as [`difference_in`], for units of which a year has a fixed number,
/// such as months.
fn difference_in_parts(unit: &str, per_year: u32) -> String {
    let of =
        |time| format!("(date_part('year', {time}) * {per_year} + date_part('{unit}', {time}))");
    format!("{} - {}", of("$2"), of("$1"))
}

/// Functions of a time and a unit, such as `date_add(unit, count, time)`. They also have forms that
/// the lists in `dialect_functions` do not contain.
const WITH_UNIT: [&str; 10] = [
    "date_add",
    "date_diff",
    "date_trunc",
    "dateadd",
    "datediff",
    "datetime_diff",
    "datetime_trunc",
    "timestamp_diff",
    "timestamp_trunc",
    "timestampadd",
];

/// Returns true if [`respelled`] rewrites calls of the function with this name, at least for some
/// numbers of arguments. The name must be in lower case.
pub fn is_rewritten(name: &str) -> bool {
    NAMES.iter().any(|(names, _)| names.contains(&name))
        || TEMPLATES.iter().any(|(names, _, _)| names.contains(&name))
        || LIST_AGGREGATES.iter().any(|(names, _, _)| names.contains(&name))
        || BY_KEY.iter().any(|(names, _)| names.contains(&name))
        || JSON_LISTS.contains(&name)
        || CONCATENATIONS.contains(&name)
        || WITH_UNIT.contains(&name)
}

/// Returns the equivalent expression for a call of another dialect's function.
pub fn respelled(function: &Function) -> Option<Expr> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return None };
    if name.quote_style.is_some() {
        return None;
    }
    let written = name.value.to_lowercase();
    let mut arguments = arguments(function)?;
    let is_difference =
        matches!(written.as_str(), "date_diff" | "datediff" | "timestamp_diff" | "datetime_diff");
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
    if matches!(written.as_str(), "to_date" | "to_timestamp") {
        return with_chrono_format(&written, &arguments);
    }
    if let Some(list_aggregate) = list_aggregate(function, &written, &arguments) {
        return Some(list_aggregate);
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

/// Returns a call of `to_date` or `to_timestamp` in which the format, written with the patterns of
/// PostgreSQL or Spark, is replaced by chrono's format.
fn with_chrono_format(name: &str, arguments: &[Expr]) -> Option<Expr> {
    let [text, Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(pattern), .. })] =
        arguments
    else {
        return None;
    };
    let format = Expr::value(Value::SingleQuotedString(chrono_format(pattern)?));
    Some(call(name, vec![text.clone(), format]))
}

/// Returns a call that computes an aggregate from the list of all its values. The values are the
/// first argument or, as in PostgreSQL, the column in WITHIN GROUP (ORDER BY …).
fn list_aggregate(function: &Function, written: &str, arguments: &[Expr]) -> Option<Expr> {
    let mut aggregate = function.clone();
    let mut arguments = arguments.to_vec();
    if let [order] = function.within_group.as_slice() {
        if order.options.asc == Some(false) {
            return None;
        }
        aggregate.within_group.clear();
        arguments.insert(0, order.expr.clone());
    }
    let fits = |(names, count, _): &&(&[&str], usize, &str)| {
        *count == arguments.len() && names.contains(&written)
    };
    let (.., name) = LIST_AGGREGATES.iter().find(fits)?;
    let mut expr = call("array_agg", vec![arguments.remove(0)]);
    if let (Expr::Function(list), ObjectNamePart::Identifier(written)) =
        (&mut expr, aggregate.name.0.first()?)
        && let Some(ObjectNamePart::Identifier(ident)) = list.name.0.first_mut()
    {
        ident.span = written.span;
    }
    arguments.insert(0, with_clauses(expr, &aggregate)?);
    Some(call(name, arguments))
}

/// Returns the call with its function renamed to the equivalent function of Headwater's dialect;
/// `None` if [`NAMES`] lists no equivalent.
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

/// Returns the call without NULL arguments, because DataFusion cannot join an untyped null with a
/// list. Returns `None` if nothing changes.
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

/// Returns the template of a function that adds units to a time or truncates a time to a unit.
/// Removes the unit from `arguments`, so `$1` is the first of the other arguments.
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

/// Returns the template for the difference of two times, and removes the unit from the arguments.
/// In DuckDB and Snowflake, the unit is the first argument. In `BigQuery`, the unit is the last
/// argument, and the end precedes the start.
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

/// Adds the clauses of the original call, such as FILTER, to the function call of the template.
/// Returns `None` if the template is not a function call but there are clauses.
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
        let Expr::Function(function) = expr else { panic!("`{sql}` is not a function") };
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
        check("TO_DATE(a, 'DD.MM.YYYY')", "\"to_date\"(a, '%d.%m.%Y')");
        check("to_date(a, '%d.%m.%Y')", "unchanged");
        check("to_timestamp(a)", "unchanged");
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
        check("mode(a) FILTER (WHERE b)", "\"list_mode\"(\"array_agg\"(a) FILTER (WHERE b))");
        check("mode() WITHIN GROUP (ORDER BY a)", "\"list_mode\"(\"array_agg\"(a))");
        check(
            "quantile_disc(a, 0.5) OVER (PARTITION BY b)",
            "\"list_quantile_disc\"(\"array_agg\"(a) OVER (PARTITION BY b), 0.5)",
        );
    }

    #[test]
    fn the_names_of_rewritten_functions_are_known() {
        for name in
            ["year", "iff", "datediff", "dateadd", "timestampadd", "listagg", "max_by", "mode"]
        {
            assert!(is_rewritten(name), "{name}");
        }
        for name in ["json_agg", "list_concat", "transform", "timestamp_diff", "safe_divide"] {
            assert!(is_rewritten(name), "{name}");
        }
        assert!(!is_rewritten("twice") && !is_rewritten("Year"));
    }

    #[test]
    fn every_template_is_an_expression() {
        for (_, _, template) in TEMPLATES {
            let parsed = parser(tokens(template).unwrap()).parse_expr();
            assert!(parsed.is_ok(), "`{template}`: {parsed:?}");
        }
    }
}
