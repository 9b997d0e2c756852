//! Converts DataFusion's errors to [`Error`]. Internal details (types of the plan, hints about
//! DataFusion's settings, backtraces) are removed. Names are in backticks; positions are kept.

use std::error::Error as StdError;
use std::io::ErrorKind;

use arrow::error::ArrowError;
use datafusion::common::{Column, DataFusionError, SchemaError, Span};
use headwater_model::{Problem, ToProblem, nearest};
use headwater_sql::debug_text_detection::{debug_position, shows_debug};

use crate::error::{Error, Position, SqlError};
use crate::planner;
use headwater_sql_functions::ENGINE_LIMIT_REACHED;
use headwater_sql_functions::error_text::{clean, sql_words};

/// Limits of a statement, for error messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResourceLimits {
    /// Memory limit of the statement, in bytes.
    pub query_memory_bytes: u64,
    /// Memory limit of the engine, in bytes.
    pub engine_memory_bytes: u64,
    /// Spill limit, in bytes.
    pub spill_bytes: u64,
}

impl ResourceLimits {
    /// Converts an error of DataFusion to the error that the user sees.
    pub(crate) fn explain(&self, error: &DataFusionError) -> Error {
        match error {
            DataFusionError::Context(_, inner) => self.explain(inner),
            DataFusionError::Shared(inner) => self.explain(inner),
            DataFusionError::Collection(errors) => match errors.first() {
                Some(first) => self.explain(first),
                None => internal("DataFusion returned an error without a message"),
            },
            DataFusionError::Diagnostic(diagnostic, inner) => {
                placed(self.explain(inner), diagnostic.span)
            }
            DataFusionError::SchemaError(schema, _) => schema_error(schema),
            DataFusionError::SQL(parser, _) => {
                headwater_sql::parse::syntax(parser.as_ref().clone()).into()
            }
            DataFusionError::Plan(message) => plan_error(message),
            DataFusionError::NotImplemented(message) => not_implemented(message),
            DataFusionError::Execution(message) => {
                debug_error(message).unwrap_or_else(|| value(message))
            }
            DataFusionError::ArrowError(arrow, _) => self.arrow_error(arrow),
            DataFusionError::ParquetError(parquet) => self.storage(parquet.as_ref()),
            DataFusionError::ObjectStore(store) => self.storage(store.as_ref()),
            DataFusionError::IoError(io) => self.io(io),
            DataFusionError::ResourcesExhausted(message) => self.exhausted(message),
            DataFusionError::External(inner) => self.external(inner.as_ref()),
            DataFusionError::ExecutionJoin(join) if join.is_cancelled() => Error::Cancelled,
            DataFusionError::ExecutionJoin(_) => {
                internal("the execution of the statement panicked")
            }
            // DataFusion reports arguments that match no signature as an internal error.
            DataFusionError::Internal(message) if message.contains("match any signature") => {
                no_signature(message)
            }
            DataFusionError::Internal(message)
            | DataFusionError::Configuration(message)
            | DataFusionError::Substrait(message)
            | DataFusionError::Ffi(message) => internal(&clean(message)),
        }
    }

    fn arrow_error(&self, error: &ArrowError) -> Error {
        match error {
            ArrowError::DivideByZero => value("division by zero"),
            ArrowError::ArithmeticOverflow(message) => Error::Overflow { message: clean(message) },
            ArrowError::ComputeError(message) if regular_expression(message).is_some() => {
                value(&regular_expression(message).unwrap_or_default())
            }
            ArrowError::CastError(message)
            | ArrowError::ComputeError(message)
            | ArrowError::ParseError(message)
            | ArrowError::CsvError(message)
            | ArrowError::JsonError(message)
            | ArrowError::InvalidArgumentError(message) => value(message),
            ArrowError::SchemaError(message) | ArrowError::NotYetImplemented(message) => {
                Error::invalid(clean(message))
            }
            ArrowError::ExternalError(inner) => self.external(inner.as_ref()),
            ArrowError::IoError(_, io) => self.io(io),
            other => internal(&clean(&other.to_string())),
        }
    }

    fn external(&self, error: &(dyn StdError + Send + Sync + 'static)) -> Error {
        if let Some(inner) = error.downcast_ref::<DataFusionError>() {
            return self.explain(inner);
        }
        if let Some(inner) = error.downcast_ref::<ArrowError>() {
            return self.arrow_error(inner);
        }
        let problem = error
            .downcast_ref::<Problem>()
            .cloned()
            .or_else(|| error.downcast_ref::<Error>().map(ToProblem::to_problem))
            .or_else(|| {
                error.downcast_ref::<headwater_sql_functions::Error>().map(ToProblem::to_problem)
            })
            .or_else(|| error.downcast_ref::<headwater_lake::Error>().map(ToProblem::to_problem))
            .or_else(|| error.downcast_ref::<headwater_tables::Error>().map(ToProblem::to_problem));
        match problem {
            Some(problem) => Error::Problem(problem),
            None => self.storage(error),
        }
    }

    /// Converts an I/O error, which may wrap another error.
    fn io(&self, error: &std::io::Error) -> Error {
        match error.get_ref() {
            Some(inner) => self.external(inner),
            None => self.storage(error),
        }
    }

    fn storage(&self, error: &(dyn StdError + 'static)) -> Error {
        let mut cause = Some(error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<std::io::Error>()
                && matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            {
                return Error::DiskFull;
            }
            cause = current.source();
        }
        let message = error.to_string();
        if let Some(message) = regular_expression(&message) {
            return Error::invalid(message);
        }
        if is_spill_limit_message(&message) {
            return Error::SpillLimit { limit: self.spill_bytes };
        }
        if let Some(file) = missing_file(&message) {
            let location = file.to_owned();
            return Error::Problem(headwater_tables::Error::Missing { location }.to_problem());
        }
        Error::Storage { message: clean(&message) }
    }

    fn exhausted(&self, message: &str) -> Error {
        if message.contains(ENGINE_LIMIT_REACHED) {
            Error::EngineMemory { limit: self.engine_memory_bytes }
        } else if is_spill_limit_message(message) {
            Error::SpillLimit { limit: self.spill_bytes }
        } else {
            Error::MemoryLimit { limit: self.query_memory_bytes }
        }
    }
}

/// Returns the file that the object store did not find. Takes the name from the message, because
/// the footer reader returns only the text of the error.
fn missing_file(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("Object at location ")?;
    rest.split_once(" not found").map(|(file, _)| file)
}

/// Returns the message for an invalid regular expression. The `regex` crate's message has several
/// lines: `regex parse error:`, the pattern, a caret, `error: unclosed group`.
fn regular_expression(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("regex parse error:")?;
    let (shown, reason) = rest.split_once("error: ")?;
    let reason = reason.lines().next().unwrap_or(reason);
    let pattern = shown.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(if pattern.starts_with("~~~") {
        format!("the regular expression does not compile: {reason}")
    } else {
        format!("the regular expression `{pattern}` does not compile: {reason}")
    })
}

fn is_spill_limit_message(message: &str) -> bool {
    message.contains("disk space") || message.contains("allowable limit")
}

/// Returns true if the error means that the statement's memory is exhausted.
pub(crate) fn is_out_of_memory(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => {
            !message.contains(ENGINE_LIMIT_REACHED) && !is_spill_limit_message(message)
        }
        _ => false,
    }
}

/// Arrow's message for a local time that does not exist or occurs twice, because the clocks of the
/// time zone change.
const NO_OFFSET: &str = "error computing timezone offset";

/// Headwater's message for a local time that does not exist or occurs twice.
pub(crate) const CLOCK_CHANGE: &str = "a clock change of the time zone skips or repeats this time";

fn value(message: &str) -> Error {
    Error::Value { message: clean(message).replace(NO_OFFSET, CLOCK_CHANGE), position: None }
}

fn internal(message: &str) -> Error {
    Error::Internal { message: message.to_owned() }
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            Error::Sql(SqlError::ColumnNotFound {
                column: column_name(field),
                relations: Vec::new(),
                near: nearest(&field.name, valid_fields.iter().map(|valid| valid.name.as_str())),
                position: column_position(field),
            })
        }
        SchemaError::AmbiguousReference { field } => Error::Sql(SqlError::Invalid {
            message: format!(
                "column `{}` is ambiguous: more than one table has this column",
                field.name
            ),
            hint: Some(format!("Write the table before the column, as in `t.{}`.", field.name)),
            position: column_position(field),
        }),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => Error::Sql(SqlError::Invalid {
            message: format!("there are two columns named `{name}`"),
            hint: Some("Give one of the columns another name with AS.".to_owned()),
            position: None,
        }),
    }
}

fn column_name(column: &Column) -> String {
    match &column.relation {
        Some(relation) => format!("{relation}.{}", column.name),
        None => column.name.clone(),
    }
}

fn column_position(column: &Column) -> Option<Position> {
    column.spans.first().map(span_position)
}

fn span_position(span: Span) -> Position {
    Position { line: span.start.line, column: span.start.column }
}

/// Sets the position of an error, unless it already has one.
fn placed(error: Error, span: Option<Span>) -> Error {
    let at = span.map(span_position).filter(|position| position.line > 0);
    match error {
        Error::Sql(error) => Error::Sql(error.placed(at)),
        other => other,
    }
}

/// Converts an error for arguments that match no signature of a function.
fn no_signature(message: &str) -> Error {
    let name = message.split(['\'', '`', '"']).nth(1).unwrap_or_default();
    Error::Sql(SqlError::Invalid {
        message: format!("no signature of the function `{name}` accepts these arguments"),
        hint: Some("Cast the arguments to the types that the function takes.".to_owned()),
        position: None,
    })
}

fn plan_error(message: &str) -> Error {
    let quoted = |after: &str| -> Option<String> {
        let rest = message.split_once(after)?.1;
        Some(rest.split_once(['\'', '"'])?.0.to_owned())
    };
    if let Some(function) = quoted("Invalid function '") {
        let hint = headwater_sql_functions::hint(planner::template(), &function);
        let message = format!("there is no function `{function}`");
        return Error::Sql(SqlError::Invalid { message, hint, position: None });
    }
    if let Some(call) = quoted("No function matches the given name and argument types '") {
        let call = sql_words(&call);
        return Error::Sql(SqlError::Invalid {
            message: format!("no signature of the function accepts `{call}`"),
            hint: Some("Cast the arguments to the types that the function takes.".to_owned()),
            position: None,
        });
    }
    if message.contains("must appear in the GROUP BY clause")
        && let Some(column) = quoted("column \"")
    {
        return Error::Sql(SqlError::Invalid {
            message: format!("`{column}` is neither in GROUP BY nor in an aggregate function"),
            hint: Some(
                "Add the column to GROUP BY, or use an aggregate function such as `max`."
                    .to_owned(),
            ),
            position: None,
        });
    }
    if message.contains("require unique expression names") {
        return same_names(message);
    }
    if let Some(error) = operand_types(message) {
        return error;
    }
    if message.contains("Inconsistent data length across values") {
        return Error::Sql(SqlError::Invalid {
            message: "the rows of VALUES do not all have the same number of values".to_owned(),
            hint: Some("Give each row a value for each column, such as NULL.".to_owned()),
            position: None,
        });
    }
    if let Some(error) = debug_error(message) {
        return error;
    }
    Error::invalid(clean(message))
}

/// Converts an error for operands that an arithmetic operator does not support: `Utf8 + Int64`.
fn operand_types(message: &str) -> Option<Error> {
    let rest = message.split_once("Cannot coerce arithmetic expression ")?.1;
    let operands = rest.split_once(" to valid types")?.0;
    let mut words = operands.split(' ');
    let (left, operator, right) = (words.next()?, words.next()?, words.next()?);
    let is_text = |name: &str| matches!(name, "Utf8" | "LargeUtf8" | "Utf8View");
    let hint = (is_text(left) || is_text(right))
        .then(|| "Cast the text to a number, as in `CAST(name AS DOUBLE)`.".to_owned());
    let (left, right) = (sql_words(left), sql_words(right));
    let message = format!("`{operator}` does not take {left} and {right}");
    words.next().is_none().then_some(Error::Sql(SqlError::Invalid {
        message,
        hint,
        position: None,
    }))
}

/// Converts a message that contains debug text of a syntax tree to an error without this text.
/// Keeps only the position from the debug text.
fn debug_error(message: &str) -> Option<Error> {
    if !shows_debug(message) {
        return None;
    }
    let position = debug_position(message);
    if message.contains("INTERVAL") {
        return Some(Error::Sql(SqlError::Invalid {
            message: "INTERVAL requires a string literal".to_owned(),
            hint: Some("Write `INTERVAL '1 day'`, or `n * INTERVAL '1 day'`.".to_owned()),
            position,
        }));
    }
    let (what, hint) = if message.contains("Lambda") {
        let hint = "Write `json_extract(text, '$.a')` or `text ->> 'a'` for a part of JSON text.";
        ("the operator `->` outside the arguments of a function", Some(hint.to_owned()))
    } else {
        ("this part of the statement", None)
    };
    let what = what.to_owned();
    Some(Error::Sql(SqlError::Unsupported { what, hint, position }))
}

/// Returns the error for two columns with the same name, in DataFusion's format: `t.a`, `Int64(1)
/// AS a`.
fn same_names(message: &str) -> Error {
    let second = message.split("\" at position").nth(1);
    let second = second.and_then(|text| Some(text.split_once("and \"")?.1));
    let named = second.map(|text| text.rsplit_once(" AS ").map_or(text, |(_, name)| name));
    let is_path = |name: &&str| !name.is_empty() && !name.contains(['(', ')', ' ', '"']);
    let name = match named.filter(is_path) {
        Some(path) => path.rsplit('.').next().unwrap_or(path).to_owned(),
        None => sql_words(second.unwrap_or_default()),
    };
    let message = format!("there are two columns named `{name}`");
    let hint = Some("Give one of the columns another name with AS.".to_owned());
    Error::Sql(SqlError::Invalid { message, hint, position: None })
}

fn not_implemented(message: &str) -> Error {
    let text = clean(message);
    if text.contains("physical plan does not support logical expression") {
        if text.contains("ScalarSubquery(") || text.contains("OuterReferenceColumn(") {
            return Error::Sql(SqlError::Unsupported {
                what: "this form of correlated subquery".to_owned(),
                hint: Some(
                    "Compare columns of the two queries with `=`, or join with the subquery."
                        .to_owned(),
                ),
                position: None,
            });
        }
        if text.contains("WindowFunction(") {
            return Error::Sql(SqlError::Unsupported {
                what: "a window function outside SELECT, QUALIFY and ORDER BY".to_owned(),
                hint: Some("Write QUALIFY in place of WHERE.".to_owned()),
                position: debug_position(message),
            });
        }
        let what = if text.contains("Exists(") {
            "EXISTS outside WHERE"
        } else if text.contains("InSubquery(") {
            "IN with a subquery outside WHERE"
        } else {
            "this expression here"
        };
        return Error::unsupported(what);
    }
    if let Some(error) = debug_error(message) {
        return error;
    }
    if let Some((_, named)) = text.split_once("perator '") {
        let sign = match named.split('\'').next().unwrap_or_default() {
            "AtArrow" => "@>",
            "ArrowAt" => "<@",
            other => other,
        };
        return Error::unsupported(format!("the operator `{sign}` between values of these types"));
    }
    // Remove a prefix that means the same as the text "is not supported", which is appended below.
    let text = text.strip_prefix("unsupported ").unwrap_or(&text);
    let endings = [" is not supported", " not supported", " not implemented", " are not"];
    let end = endings.iter().filter_map(|ending| text.find(ending)).min().unwrap_or(text.len());
    let what = text[..end].trim();
    Error::unsupported(if what.is_empty() { "this" } else { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: DataFusionError, expected: &str) {
        let limits = ResourceLimits {
            query_memory_bytes: 1 << 20,
            engine_memory_bytes: 1 << 30,
            spill_bytes: 5,
        };
        assert_eq!(limits.explain(&error).to_string(), expected);
    }

    #[test]
    fn errors_contain_no_text_of_datafusion() {
        check(
            DataFusionError::Plan("Invalid function 'summ'.\nDid you mean 'sum'?".into()),
            "there is no function `summ`",
        );
        check(
            DataFusionError::NotImplemented("LATERAL VIEWS".into()),
            "LATERAL VIEWS is not supported",
        );
        check(
            DataFusionError::NotImplemented("FETCH clause is not supported yet".into()),
            "FETCH clause is not supported",
        );
        check(
            DataFusionError::ResourcesExhausted("Failed to allocate".into()),
            "the statement needs more than its memory limit of 1 MiB",
        );
        let same = "Projections require unique expression names but the expression \"t.a\" at \
                    position 0 and \"t.a\" at position 1 have the same name.";
        check(DataFusionError::Plan(same.into()), "there are two columns named `a`");
        check(
            DataFusionError::Internal("Oh.\nThis issue was likely caused by a bug".into()),
            "the statement failed inside the engine: oh",
        );
        check(
            DataFusionError::Plan(
                "Cannot coerce Utf8View + Int64(5) and Decimal128(10, 2) to a_Int64.".into(),
            ),
            "cannot coerce VARCHAR + 5 and DECIMAL(10, 2) to a_Int64",
        );
        let full = std::io::Error::from(ErrorKind::StorageFull);
        check(DataFusionError::IoError(full), "no space is left on the disk to spill to");
    }
}
