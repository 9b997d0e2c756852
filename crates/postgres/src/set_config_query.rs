//! Queries that change settings, such as `SELECT current_setting('jit'), set_config('jit', 'off',
//! false)`. The session executes them itself, because an expression of the engine cannot change a
//! session. Like in PostgreSQL, the columns are evaluated from left to right.

use std::collections::BTreeMap;

use bytes::BufMut;
use headwater_model::{ErrorCode, Problem};
use headwater_postgres_catalog::{PgType, ScalarType};
use serde_json::Value;
use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableFactor,
    Value as Literal,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::backend_message::{ReplyWriter, ResultColumn};
use crate::frontend_message::ValueFormat;
use crate::session::Session;
use crate::settings::{Settings, parse_switch};

/// The function that changes a setting.
const SET_CONFIG: &str = "set_config";

/// The function that returns the value of a setting.
const CURRENT_SETTING: &str = "current_setting";

/// The lists of all settings, from which a query can select.
const LISTS: [&str; 2] = ["pg_settings", "pg_show_all_settings"];

/// An argument or a constant: a literal or a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Argument {
    Null,
    Text(String),
    Integer(i32),
    Boolean(bool),
    /// A parameter by its name, without the dollar sign.
    Parameter(String),
}

impl Argument {
    /// Returns the argument that an expression is, without casts; `None` for other expressions.
    fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => Argument::of(inner),
            Expr::Value(value) => Some(match &value.value {
                Literal::Null => Argument::Null,
                Literal::SingleQuotedString(text) => Argument::Text(text.clone()),
                Literal::Number(digits, _) => Argument::Integer(digits.parse().ok()?),
                Literal::Boolean(is_true) => Argument::Boolean(*is_true),
                Literal::Placeholder(name) => {
                    Argument::Parameter(name.strip_prefix('$')?.to_owned())
                }
                _ => return None,
            }),
            _ => None,
        }
    }

    /// Returns the argument with the value of its parameter.
    fn bound(&self, values: &BTreeMap<String, Value>) -> Self {
        let Argument::Parameter(name) = self else { return self.clone() };
        match values.get(name) {
            Some(Value::Null) => Argument::Null,
            Some(Value::String(text)) => Argument::Text(text.clone()),
            Some(other) => Argument::Text(other.to_string()),
            None => self.clone(),
        }
    }

    /// Returns the text of the value; `None` for null.
    fn text(&self) -> Result<Option<String>, Problem> {
        Ok(Some(match self {
            Argument::Null => return Ok(None),
            Argument::Text(text) => text.clone(),
            Argument::Integer(number) => number.to_string(),
            Argument::Boolean(is_true) => is_true.to_string(),
            Argument::Parameter(name) => {
                let message = format!("parameter `${name}` has no value");
                return Err(Problem::new(ErrorCode::InvalidSql, message));
            }
        }))
    }

    /// Returns the Boolean value of the last argument of `function`; false for null.
    fn switch(&self, function: &str) -> Result<bool, Problem> {
        let Some(text) = self.text()? else { return Ok(false) };
        parse_switch(&text).ok_or_else(|| {
            let message = format!("`{text}` is not a Boolean argument of `{function}`");
            Problem::new(ErrorCode::InvalidArgument, message).with_hint("Use `true` or `false`.")
        })
    }
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SettingExpr {
    /// `set_config(name, value, is_local)`
    SetConfig([Argument; 3]),
    /// `current_setting(name, is_optional)`
    CurrentSetting([Argument; 2]),
    /// A literal.
    Constant(Argument),
}

impl SettingExpr {
    fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Nested(inner) => SettingExpr::of(inner),
            Expr::Cast { expr: inner, data_type: DataType::Text, .. } => {
                // Settings are texts already.
                SettingExpr::of(inner).filter(|value| value.pg_type() == PgType::TEXT)
            }
            Expr::Function(function) => SettingExpr::call(function),
            Expr::Value(_) => match Argument::of(expr)? {
                // The type of a parameter is not known here.
                Argument::Parameter(_) => None,
                constant => Some(SettingExpr::Constant(constant)),
            },
            _ => None,
        }
    }

    fn call(function: &Function) -> Option<Self> {
        let FunctionArguments::List(list) = &function.args else { return None };
        let argument = |one: &FunctionArg| match one {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Argument::of(expr),
            _ => None,
        };
        let mut arguments = list.args.iter().map(argument).collect::<Option<Vec<_>>>()?;
        match (name_of(&function.name)?.as_str(), arguments.len()) {
            (SET_CONFIG, 3) => Some(SettingExpr::SetConfig(arguments.try_into().ok()?)),
            (CURRENT_SETTING, 1 | 2) => {
                arguments.resize(2, Argument::Boolean(false));
                Some(SettingExpr::CurrentSetting(arguments.try_into().ok()?))
            }
            _ => None,
        }
    }

    fn arguments(&self) -> &[Argument] {
        match self {
            SettingExpr::SetConfig(arguments) => arguments,
            SettingExpr::CurrentSetting(arguments) => arguments,
            SettingExpr::Constant(constant) => std::slice::from_ref(constant),
        }
    }

    fn bound(&self, values: &BTreeMap<String, Value>) -> Self {
        let bound = |argument: &Argument| argument.bound(values);
        match self {
            SettingExpr::SetConfig(arguments) => {
                SettingExpr::SetConfig(arguments.each_ref().map(bound))
            }
            SettingExpr::CurrentSetting(arguments) => {
                SettingExpr::CurrentSetting(arguments.each_ref().map(bound))
            }
            SettingExpr::Constant(constant) => SettingExpr::Constant(constant.clone()),
        }
    }

    /// Returns the name of a column with this value and without an alias.
    fn name(&self) -> &'static str {
        match self {
            SettingExpr::SetConfig(_) => SET_CONFIG,
            SettingExpr::CurrentSetting(_) => CURRENT_SETTING,
            SettingExpr::Constant(_) => "?column?",
        }
    }

    fn pg_type(&self) -> PgType {
        match self {
            SettingExpr::Constant(Argument::Integer(_)) => PgType::of(ScalarType::Int4),
            SettingExpr::Constant(Argument::Boolean(_)) => PgType::of(ScalarType::Bool),
            _ => PgType::TEXT,
        }
    }
}

/// A query whose columns are calls of `set_config` and `current_setting`, and literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetConfigQuery {
    columns: Vec<(String, SettingExpr)>,
    /// The setting that must exist for the query to return a row; `None` for a query without FROM.
    condition: Option<String>,
    /// The formats of the columns that the client requested.
    formats: Vec<ValueFormat>,
}

impl SetConfigQuery {
    /// Parses a query that calls `set_config`; `None` for any other query.
    pub fn parse(sql: &str) -> Option<Self> {
        if !sql.to_ascii_lowercase().contains(SET_CONFIG) {
            return None;
        }
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
        let [Statement::Query(query)] = statements.as_slice() else { return None };
        let select = only_select(query)?;
        let columns = select.projection.iter().map(|item| match item {
            SelectItem::UnnamedExpr(expr) => {
                let value = SettingExpr::of(expr)?;
                Some((value.name().to_owned(), value))
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                Some((alias.value.clone(), SettingExpr::of(expr)?))
            }
            _ => None,
        });
        let columns = columns.collect::<Option<Vec<_>>>()?;
        let changes =
            |(_, value): &(String, SettingExpr)| matches!(value, SettingExpr::SetConfig(_));
        let condition = if select.from.is_empty() && select.selection.is_none() {
            None
        } else {
            Some(listed_setting(select)?)
        };
        columns.iter().any(changes).then(|| SetConfigQuery {
            columns,
            condition,
            formats: Vec::new(),
        })
    }

    /// Returns the names of the parameters.
    pub fn parameters(&self) -> Vec<String> {
        let arguments = self.columns.iter().flat_map(|(_, value)| value.arguments());
        let names = arguments.filter_map(|argument| match argument {
            Argument::Parameter(name) => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    /// Returns the query with the values of its parameters and the formats of its columns.
    #[must_use]
    pub fn bound(&self, values: &BTreeMap<String, Value>, formats: &[ValueFormat]) -> Self {
        let columns = self.columns.iter();
        SetConfigQuery {
            columns: columns.map(|(name, value)| (name.clone(), value.bound(values))).collect(),
            condition: self.condition.clone(),
            formats: formats.to_vec(),
        }
    }

    /// Returns the columns of the result, in text format.
    pub fn columns(&self) -> Vec<ResultColumn> {
        let column = |(name, value): &(String, SettingExpr)| ResultColumn {
            name: name.clone(),
            pg_type: value.pg_type(),
            is_binary: false,
        };
        self.columns.iter().map(column).collect()
    }
}

/// Returns the SELECT of a query that has no other clauses than FROM and WHERE.
pub fn only_select(query: &Query) -> Option<&Select> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let is_plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && select.distinct.is_none()
        && select.into.is_none()
        && select.having.is_none()
        && select.qualify.is_none();
    is_plain.then_some(&**select)
}

/// Returns the name of the setting in `FROM pg_settings WHERE name = 'name'`, the form in which
/// pgAdmin checks if a setting exists; `None` for other clauses.
fn listed_setting(select: &Select) -> Option<String> {
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, .. } = &from.relation else { return None };
    if !from.joins.is_empty() || !LISTS.contains(&name_of(name)?.as_str()) {
        return None;
    }
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = select.selection.as_ref()? else {
        return None;
    };
    match (&**left, Argument::of(right)?) {
        (Expr::Identifier(column), Argument::Text(setting)) if column.value == "name" => {
            Some(setting)
        }
        _ => None,
    }
}

/// Returns the name of a function or table in `pg_catalog`, in lower case.
pub fn name_of(name: &ObjectName) -> Option<String> {
    let parts = name.0.iter().map(ObjectNamePart::as_ident).collect::<Option<Vec<_>>>()?;
    match parts.as_slice() {
        [name] => Some(name.value.to_ascii_lowercase()),
        [namespace, name] if namespace.value.eq_ignore_ascii_case("pg_catalog") => {
            Some(name.value.to_ascii_lowercase())
        }
        _ => None,
    }
}

impl Session {
    /// Executes a query of settings, and sends its row. If the query fails outside of a
    /// transaction, its changes are undone.
    pub(crate) fn query_settings(
        &mut self,
        query: &SetConfigQuery,
    ) -> Result<&'static str, Problem> {
        let is_listed = |name: &String| self.settings.get(name).is_ok();
        if !query.condition.as_ref().is_none_or(is_listed) {
            return Ok("SELECT 0");
        }
        let before = self.settings.clone();
        let mut row = Vec::with_capacity(query.columns.len());
        let mut local = Vec::new();
        for (index, (_, value)) in query.columns.iter().enumerate() {
            match self.evaluate(value, &mut local) {
                Ok(text) => {
                    let is_binary = ValueFormat::at(&query.formats, index) == ValueFormat::Binary;
                    row.push(encoded(value, text, is_binary));
                }
                Err(problem) => {
                    if !self.is_in_transaction() {
                        self.replace_settings(before);
                    }
                    return Err(problem);
                }
            }
        }
        self.wire.output.message(b'D', |out| {
            out.put_u16(row.len() as u16);
            for value in &row {
                match value {
                    Some(bytes) => {
                        out.put_u32(bytes.len() as u32);
                        out.extend_from_slice(bytes);
                    }
                    None => out.put_i32(-1),
                }
            }
        });
        Ok("SELECT 1")
    }

    /// Evaluates a column; `None` for null. `local` has the changes that apply only to this
    /// statement: those of `set_config` with `is_local` outside of a transaction.
    fn evaluate(
        &mut self,
        value: &SettingExpr,
        local: &mut Vec<(String, String)>,
    ) -> Result<Option<String>, Problem> {
        match value {
            SettingExpr::Constant(constant) => constant.text(),
            SettingExpr::CurrentSetting([name, is_optional]) => {
                let Some(name) = name.text()? else { return Ok(None) };
                match self.visible_settings(local).get(&name) {
                    Ok(value) => Ok(Some(value.to_owned())),
                    Err(_) if is_optional.switch(CURRENT_SETTING)? => Ok(None),
                    Err(problem) => Err(problem),
                }
            }
            SettingExpr::SetConfig([name, value, is_local]) => {
                let Some(name) = name.text()? else {
                    let message = "the name of the setting in `set_config` is null";
                    return Err(Problem::new(ErrorCode::InvalidArgument, message));
                };
                let value = value.text()?;
                match (is_local.switch(SET_CONFIG)?, value.as_deref()) {
                    (true, value) if self.is_in_transaction() => self.set_local(&name, value)?,
                    (true, Some(value)) => {
                        self.settings.clone().set(&name, value)?;
                        local.push((name.clone(), value.to_owned()));
                        ""
                    }
                    (true, None) => "",
                    (false, Some(value)) => self.set(&name, value)?,
                    (false, None) => self.reset(Some(&name))?,
                };
                let settings = self.visible_settings(local);
                Ok(Some(settings.get(&name).map_or_else(|_| String::new(), str::to_owned)))
            }
        }
    }

    /// Returns the current settings with the changes that apply only to this statement.
    fn visible_settings(&self, local: &[(String, String)]) -> Settings {
        let mut settings = self.current_settings();
        for (name, value) in local {
            // The value was accepted before, so it cannot be rejected here.
            let _ = settings.set(name, value);
        }
        settings
    }
}

/// Returns the bytes of a value in the format of its column; `None` for null.
fn encoded(value: &SettingExpr, text: Option<String>, is_binary: bool) -> Option<Vec<u8>> {
    match value {
        SettingExpr::Constant(Argument::Integer(number)) if is_binary => {
            Some(number.to_be_bytes().to_vec())
        }
        SettingExpr::Constant(Argument::Boolean(is_true)) if is_binary => {
            Some(vec![u8::from(*is_true)])
        }
        SettingExpr::Constant(Argument::Boolean(is_true)) => {
            Some(if *is_true { b"t".to_vec() } else { b"f".to_vec() })
        }
        _ => text.map(String::into_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(sql: &str) -> Option<Vec<(String, SettingExpr)>> {
        SetConfigQuery::parse(sql).map(|query| query.columns)
    }

    fn text(value: &str) -> Argument {
        Argument::Text(value.to_owned())
    }

    #[test]
    fn columns_are_calls_and_literals() {
        let jit = SettingExpr::CurrentSetting([text("jit"), Argument::Boolean(false)]);
        let off = SettingExpr::SetConfig([text("jit"), text("off"), Argument::Boolean(false)]);
        let one = SettingExpr::Constant(Argument::Integer(1));
        assert_eq!(
            parsed(
                "\n SELECT current_setting('jit') AS cur, -- the value before\n \
                 pg_catalog.SET_CONFIG('jit', 'off'::text, false) new, 1;"
            ),
            Some(vec![
                ("cur".to_owned(), jit),
                ("new".to_owned(), off),
                ("?column?".to_owned(), one),
            ])
        );
        for sql in [
            "SELECT current_setting('jit')",
            "SELECT set_config('jit', 'off', false), now()",
            "SELECT set_config(name, 'off', false) FROM t",
            "SELECT 'set_config'",
            "SELECT set_config('jit', 'off')",
        ] {
            assert_eq!(parsed(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_condition_names_a_setting() {
        let sql = "SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings() \
                   WHERE name = 'bytea_output'";
        let query = SetConfigQuery::parse(sql).expect(sql);
        assert_eq!(query.condition.as_deref(), Some("bytea_output"));
        let sql = "SELECT set_config('a.b', 'c', false) FROM pg_settings WHERE setting = 'a'";
        assert_eq!(SetConfigQuery::parse(sql), None);
    }

    #[test]
    fn arguments_can_be_parameters() {
        let sql = "SELECT set_config('TimeZone', $1, $2)";
        let query = SetConfigQuery::parse(sql).expect(sql);
        assert_eq!(query.parameters(), ["1", "2"]);
        let values = [("1".to_owned(), Value::from("it's")), ("2".to_owned(), Value::Null)];
        let bound = query.bound(&values.into(), &[ValueFormat::Binary]);
        assert_eq!(bound.parameters(), [""; 0]);
        let call = SettingExpr::SetConfig([text("TimeZone"), text("it's"), Argument::Null]);
        assert_eq!(bound.columns, [("set_config".to_owned(), call)]);
    }

    #[test]
    fn literals_have_their_types() {
        let sql = "SELECT set_config('a.b', 'c', false), 1, true, NULL";
        let query = SetConfigQuery::parse(sql).expect(sql);
        let types: Vec<u32> = query.columns().iter().map(|column| column.pg_type.oid()).collect();
        assert_eq!(types, [25, 23, 16, 25]);
        let bytes = |index: usize, is_binary| {
            let value = &query.columns[index].1;
            encoded(value, Some("text".to_owned()), is_binary)
        };
        assert_eq!(bytes(1, true), Some(vec![0, 0, 0, 1]));
        assert_eq!(bytes(2, false), Some(b"t".to_vec()));
        assert_eq!(bytes(2, true), Some(vec![1]));
    }
}
