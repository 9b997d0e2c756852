//! Time travel in the syntax of other systems: `FOR VERSION AS OF`, `FOR TIMESTAMP AS OF`, `FOR
//! SYSTEM_TIME AS OF`, `AT BRANCH`, `AT (TIMESTAMP => …)`. DataFusion parses some of these clauses,
//! but ignores them and reads the current table. This module moves each version into the table's
//! name, so later steps handle only names.

use std::ops::ControlFlow;

use headwater_model::{AncestorDistance, RefSpec, Timestamp, parse_timestamp};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, TableFactor, TableVersion, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use crate::error::{Error, NO_VALUE, Position, Result};
use crate::table_name::{ParsedTableName, RefKind, position, span_start};
use crate::table_references::ReferencedTable;

/// The state of a table that a time-travel clause selects.
enum TimeTravelTarget {
    /// The state at a ref, and the kind of ref that the clause requires.
    Ref(RefSpec, Option<RefKind>),
    /// The state at a time, at the ref that the statement reads.
    Time(Timestamp),
    /// The state in an Iceberg snapshot with this id.
    Snapshot(i64),
}

/// The value of a constant expression. It distinguishes only the types that a time-travel clause
/// accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum ConstantValue {
    /// NULL of any type.
    Null,
    /// Text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A date or timestamp, in UTC if it has no zone.
    Timestamp(Timestamp),
    /// Any other value.
    Other,
}

/// Function that evaluates a constant expression; `None` if the expression is not constant.
pub type ConstantEvaluator<'a> = dyn Fn(Expr) -> Option<ConstantValue> + 'a;

/// Type of a function pointer that can be used as [`ConstantEvaluator`].
pub type ConstantEvaluatorFn = fn(Expr) -> Option<ConstantValue>;

/// Moves the time-travel clause after a table into the table's name, and returns the tables that
/// had such a clause.
pub(crate) fn versions_into_names(
    query: &mut Query,
    constants: &ConstantEvaluator<'_>,
) -> Result<Vec<ReferencedTable>> {
    let mut versions = VersionRewriter { constants, mentions: Vec::new() };
    match query.visit(&mut versions) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(versions.mentions),
    }
}

struct VersionRewriter<'a> {
    constants: &'a ConstantEvaluator<'a>,
    mentions: Vec<ReferencedTable>,
}

impl VersionRewriter<'_> {
    fn take(&mut self, name: &mut ObjectName, version: TableVersion) -> Result<()> {
        let position = position(name);
        let expected =
            self.add_version_to_name(name, version).map_err(|error| error.placed(position))?;
        let table = ParsedTableName::of(name).map_err(|error| error.placed(position))?;
        self.mentions.push(ReferencedTable { table, position, expected });
        Ok(())
    }
}

impl VisitorMut for VersionRewriter<'_> {
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        if let TableFactor::Table { name, version, args: None, .. } = factor
            && let Some(version) = version.take()
            && let Err(error) = self.take(name, version)
        {
            return ControlFlow::Break(Box::new(error));
        }
        ControlFlow::Continue(())
    }
}

impl VersionRewriter<'_> {
    /// Adds the selected state to a table's name. Returns the kind of ref that the clause requires.
    fn add_version_to_name(
        &self,
        name: &mut ObjectName,
        version: TableVersion,
    ) -> Result<Option<RefKind>> {
        let at = position(name);
        let place = match version {
            TableVersion::ForSystemTimeAsOf(expr) | TableVersion::TimestampAsOf(expr) => {
                TimeTravelTarget::Time(self.evaluate_timestamp(expr, at)?)
            }
            TableVersion::VersionAsOf(expr) => self.version_of(expr, at)?,
            TableVersion::Function(Expr::Function(function)) => self.place_of(function, at)?,
            TableVersion::Function(_) => {
                return Err(Error::unsupported("AT (…) or BEFORE (…) after a table"));
            }
            TableVersion::Changes { .. } => {
                return Err(Error::unsupported("CHANGES (…) after a table"));
            }
        };
        let Some(ObjectNamePart::Identifier(ident)) = name.0.last_mut() else {
            return Err(Error::unsupported("a function in place of a name"));
        };
        if ident.value.contains(['@', '~', '*', '#']) {
            return Err(Error::Invalid {
                message: format!("the version of `{}` is given twice", ident.value),
                hint: Some("Leave out one of the versions.".to_owned()),
                position: at,
            });
        }
        let (suffix, expected) = match place {
            TimeTravelTarget::Ref(spec, kind) => (format!("@{spec}"), kind),
            TimeTravelTarget::Time(time) => (AncestorDistance::Time(time).to_string(), None),
            TimeTravelTarget::Snapshot(id) => (format!("#{id}"), None),
        };
        let value = format!("{}{suffix}", ident.value);
        *ident = Ident::with_quote_and_span('"', ident.span, value);
        Ok(expected)
    }

    /// Parses the value of `VERSION AS OF`: a snapshot id or the name of a ref.
    fn version_of(&self, expr: Expr, at: Option<Position>) -> Result<TimeTravelTarget> {
        if let Expr::Identifier(ident) = &expr {
            return Ok(TimeTravelTarget::Ref(ident.value.parse()?, None));
        }
        match self.value(expr, at)? {
            ConstantValue::Text(text) => Ok(TimeTravelTarget::Ref(text.parse()?, None)),
            ConstantValue::Integer(id) => Ok(TimeTravelTarget::Snapshot(id)),
            _ => Err(wrong("a version must be a snapshot's id or the name of a ref", at)),
        }
    }

    /// Parses `AT (BRANCH => 'dev')` and similar clauses. Rejects Snowflake's `BEFORE`.
    fn place_of(&self, function: Function, at: Option<Position>) -> Result<TimeTravelTarget> {
        let refused = || Error::unsupported("AT (…) or BEFORE (…) after a table");
        if !function.name.to_string().eq_ignore_ascii_case("AT") {
            return Err(refused());
        }
        let FunctionArguments::List(list) = function.args else { return Err(refused()) };
        let [FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), operator: _ }] =
            list.args.as_slice()
        else {
            return Err(refused());
        };
        let expr = expr.clone();
        match name.value.to_uppercase().as_str() {
            "VERSION" => self.version_of(expr, at),
            "TIMESTAMP" => Ok(TimeTravelTarget::Time(self.evaluate_timestamp(expr, at)?)),
            "SNAPSHOT" => match self.version_of(expr, at)? {
                TimeTravelTarget::Ref(RefSpec::Name(text), _) => match text.parse() {
                    Ok(id) => Ok(TimeTravelTarget::Snapshot(id)),
                    Err(_) => Err(wrong("a snapshot id must be a number", at)),
                },
                place => Ok(place),
            },
            "REF" => Ok(TimeTravelTarget::Ref(self.text(expr, at)?.parse()?, None)),
            "BRANCH" => {
                Ok(TimeTravelTarget::Ref(self.text(expr, at)?.parse()?, Some(RefKind::Branch)))
            }
            "TAG" => Ok(TimeTravelTarget::Ref(self.text(expr, at)?.parse()?, Some(RefKind::Tag))),
            "COMMIT" => {
                let hash = self.text(expr, at)?;
                Ok(TimeTravelTarget::Ref(
                    format!("@{}", hash.trim_start_matches('@')).parse()?,
                    None,
                ))
            }
            _ => Err(refused()),
        }
    }

    fn text(&self, expr: Expr, at: Option<Position>) -> Result<String> {
        if let Expr::Identifier(ident) = expr {
            return Ok(ident.value);
        }
        match self.value(expr, at)? {
            ConstantValue::Text(text) => Ok(text),
            _ => Err(wrong("the name of a ref must be text", at)),
        }
    }

    /// Evaluates a constant to a timestamp, in UTC if it has no zone.
    fn evaluate_timestamp(&self, expr: Expr, at: Option<Position>) -> Result<Timestamp> {
        let wrong = || {
            let message =
                "the time of a table's version must be a timestamp, such as '2026-11-01 12:00:00'";
            wrong(message, at)
        };
        match self.value(expr, at)? {
            ConstantValue::Text(text) => parse_timestamp(&text).ok_or_else(wrong),
            // A number is milliseconds since 1970, as in Spark and Trino.
            ConstantValue::Integer(millis) => {
                Timestamp::from_timestamp_millis(millis).ok_or_else(wrong)
            }
            ConstantValue::Timestamp(moment) => Ok(moment),
            ConstantValue::Null | ConstantValue::Other => Err(wrong()),
        }
    }

    fn value(&self, expr: Expr, at: Option<Position>) -> Result<ConstantValue> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = &expr {
            return Err(Error::Parameter {
                name: name.trim_start_matches('$').to_owned(),
                reason: NO_VALUE,
                position: span_start(*span),
            });
        }
        (self.constants)(expr).ok_or_else(|| wrong("the version of a table must be a constant", at))
    }
}

fn wrong(message: &str, position: Option<Position>) -> Error {
    Error::Invalid { message: message.to_owned(), hint: None, position }
}
