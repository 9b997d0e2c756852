//! Queries that acquire and release advisory locks, such as `SELECT pg_try_advisory_lock(1)`. The
//! session executes them itself, because the locks belong to its connection.

use std::collections::BTreeMap;

use bytes::BufMut;
use headwater_model::{ErrorCode, Problem, text_hash};
use headwater_postgres_catalog::{PgType, ScalarType};
use headwater_service::{AdvisoryKey, LockKind, LockMode, LockScope, TooManyLocks};
use serde_json::Value;
use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem, Statement, UnaryOperator,
    Value as Literal,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::backend_message::{ReplyWriter, ResultColumn};
use crate::frontend_message::ValueFormat;
use crate::session::{MessageResult, Session, until_stopped};
use crate::set_config_query::{name_of, only_select};

/// A function on advisory locks, or the name of the user, which `DataGrip` selects with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockFunction {
    /// Waits until the lock is acquired.
    Lock(LockKind),
    /// Acquires the lock if no lock of another connection excludes it.
    TryLock(LockKind),
    Unlock(LockMode),
    UnlockAll,
    User,
}

impl LockFunction {
    /// Returns the function with a name in lower case.
    fn named(name: &str) -> Option<Self> {
        let (exclusive, mode) = match name.strip_suffix("_shared") {
            Some(exclusive) => (exclusive, LockMode::Shared),
            None => (name, LockMode::Exclusive),
        };
        let session = LockKind { scope: LockScope::Session, mode };
        let transaction = LockKind { scope: LockScope::Transaction, mode };
        Some(match exclusive {
            "pg_advisory_lock" => LockFunction::Lock(session),
            "pg_advisory_xact_lock" => LockFunction::Lock(transaction),
            "pg_try_advisory_lock" => LockFunction::TryLock(session),
            "pg_try_advisory_xact_lock" => LockFunction::TryLock(transaction),
            "pg_advisory_unlock" => LockFunction::Unlock(mode),
            _ => return LockFunction::without_mode(name),
        })
    }

    /// Returns the function with a name in lower case that has no shared form.
    fn without_mode(name: &str) -> Option<Self> {
        Some(match name {
            "pg_advisory_unlock_all" => LockFunction::UnlockAll,
            "current_role" | "current_user" | "session_user" | "user" => LockFunction::User,
            _ => return None,
        })
    }

    fn has_key(self) -> bool {
        !matches!(self, LockFunction::UnlockAll | LockFunction::User)
    }

    /// Functions without a result have the type of an empty text.
    fn pg_type(self) -> PgType {
        match self {
            LockFunction::TryLock(_) | LockFunction::Unlock(_) => PgType::of(ScalarType::Bool),
            _ => PgType::TEXT,
        }
    }
}

/// A part of the number of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyPart {
    Number(i64),
    /// A parameter by its name, without the dollar sign.
    Parameter(String),
    /// `hashtext` of a parameter.
    ParameterHash(String),
}

impl KeyPart {
    fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => KeyPart::of(inner),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match KeyPart::of(expr)? {
                KeyPart::Number(number) => Some(KeyPart::Number(number.checked_neg()?)),
                KeyPart::Parameter(_) | KeyPart::ParameterHash(_) => None,
            },
            Expr::Function(function) if name_of(&function.name)? == "hashtext" => {
                match arguments(&function.args)? {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(text))] => KeyPart::hash_of(text),
                    _ => None,
                }
            }
            Expr::Value(value) => match &value.value {
                Literal::Number(digits, _) => Some(KeyPart::Number(digits.parse().ok()?)),
                Literal::SingleQuotedString(text) => {
                    Some(KeyPart::Number(text.trim().parse().ok()?))
                }
                Literal::Placeholder(name) => {
                    Some(KeyPart::Parameter(name.strip_prefix('$')?.to_owned()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the hash of a text literal or a parameter.
    fn hash_of(text: &Expr) -> Option<Self> {
        match text {
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => KeyPart::hash_of(inner),
            Expr::Value(value) => match &value.value {
                Literal::SingleQuotedString(text) => {
                    Some(KeyPart::Number(i64::from(text_hash(text))))
                }
                Literal::Placeholder(name) => {
                    Some(KeyPart::ParameterHash(name.strip_prefix('$')?.to_owned()))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the part with the value of its parameter.
    fn bound(&self, values: &BTreeMap<String, Value>) -> Self {
        let number = match self {
            KeyPart::Number(number) => Some(*number),
            KeyPart::Parameter(name) => match values.get(name) {
                Some(Value::Number(number)) => number.as_i64(),
                Some(Value::String(text)) => text.trim().parse().ok(),
                _ => None,
            },
            KeyPart::ParameterHash(name) => {
                values.get(name).and_then(Value::as_str).map(|text| i64::from(text_hash(text)))
            }
        };
        number.map_or_else(|| self.clone(), KeyPart::Number)
    }

    fn number(&self) -> Result<i64, Problem> {
        let (message, hint) = match self {
            KeyPart::Number(number) => return Ok(*number),
            KeyPart::Parameter(name) => (
                format!("parameter `${name}` is not the number of a lock"),
                "Send an integer of at most 64 bits, which is not null.",
            ),
            KeyPart::ParameterHash(name) => {
                (format!("parameter `${name}` is not text"), "Send text that is not null.")
            }
        };
        Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    }
}

/// A column of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LockColumn {
    name: String,
    function: LockFunction,
    key: Vec<KeyPart>,
}

impl LockColumn {
    fn of(item: &SelectItem) -> Option<Self> {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            _ => return None,
        };
        let none: &[FunctionArg] = &[];
        let (name, arguments) = match expr {
            Expr::Identifier(name) if name.quote_style.is_none() => {
                (name.value.to_ascii_lowercase(), none)
            }
            Expr::Function(function) => (name_of(&function.name)?, arguments(&function.args)?),
            _ => return None,
        };
        let function = LockFunction::named(&name)?;
        let part = |argument: &FunctionArg| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => KeyPart::of(expr),
            _ => None,
        };
        let key = arguments.iter().map(part).collect::<Option<Vec<_>>>()?;
        let is_complete =
            if function.has_key() { matches!(key.len(), 1 | 2) } else { key.is_empty() };
        is_complete.then(|| LockColumn { name: alias.unwrap_or(name), function, key })
    }

    fn key(&self) -> Result<AdvisoryKey, Problem> {
        let parts = self.key.iter().map(KeyPart::number).collect::<Result<Vec<_>, _>>()?;
        let key = match parts.as_slice() {
            [one] => Some(AdvisoryKey::One(*one)),
            [one, two] => {
                let parts = (i32::try_from(*one), i32::try_from(*two));
                let (Ok(one), Ok(two)) = parts else { return Err(out_of_range()) };
                Some(AdvisoryKey::Two(one, two))
            }
            _ => None,
        };
        key.ok_or_else(out_of_range)
    }
}

/// Returns the arguments of a function; `None` if they are a subquery.
fn arguments(arguments: &FunctionArguments) -> Option<&[FunctionArg]> {
    match arguments {
        FunctionArguments::None => Some(&[]),
        FunctionArguments::List(list) => Some(&list.args),
        FunctionArguments::Subquery(_) => None,
    }
}

fn out_of_range() -> Problem {
    let message = "the two numbers of an advisory lock must be in the range of `integer`";
    Problem::new(ErrorCode::InvalidArgument, message)
        .with_hint("Use one number of at most 64 bits, or two of at most 32 bits.")
}

/// A query whose columns are calls of functions on advisory locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvisoryLockQuery {
    columns: Vec<LockColumn>,
    /// The formats of the columns that the client requested.
    formats: Vec<ValueFormat>,
}

impl AdvisoryLockQuery {
    /// Parses a query that calls functions on advisory locks; `None` for any other query.
    pub fn parse(sql: &str) -> Option<Self> {
        let text = sql.to_ascii_lowercase();
        if !text.contains("pg_advisory_") && !text.contains("pg_try_advisory_") {
            return None;
        }
        let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?;
        let [Statement::Query(query)] = statements.as_slice() else { return None };
        let select = only_select(query)?;
        if !select.from.is_empty() || select.selection.is_some() {
            return None;
        }
        let columns = select.projection.iter().map(LockColumn::of).collect::<Option<Vec<_>>>()?;
        let is_lock = |column: &LockColumn| column.function != LockFunction::User;
        columns.iter().any(is_lock).then(|| AdvisoryLockQuery { columns, formats: Vec::new() })
    }

    /// Returns the names of the parameters.
    pub fn parameters(&self) -> Vec<String> {
        let names = self.parts().filter_map(|part| match part {
            KeyPart::Parameter(name) | KeyPart::ParameterHash(name) => Some(name.clone()),
            KeyPart::Number(_) => None,
        });
        names.collect()
    }

    /// Returns the type of a parameter.
    pub fn parameter_type(&self, name: &str) -> PgType {
        let is_text = |part: &KeyPart| matches!(part, KeyPart::ParameterHash(it) if it == name);
        if self.parts().any(is_text) { PgType::TEXT } else { PgType::of(ScalarType::Int8) }
    }

    fn parts(&self) -> impl Iterator<Item = &KeyPart> {
        self.columns.iter().flat_map(|column| &column.key)
    }

    /// Returns the query with the values of its parameters and the formats of its columns.
    #[must_use]
    pub fn bound(mut self, values: &BTreeMap<String, Value>, formats: &[ValueFormat]) -> Self {
        for part in self.columns.iter_mut().flat_map(|column| &mut column.key) {
            *part = part.bound(values);
        }
        self.formats = formats.to_vec();
        self
    }

    /// Returns the columns of the result, in text format.
    pub fn columns(&self) -> Vec<ResultColumn> {
        let column = |column: &LockColumn| ResultColumn {
            name: column.name.clone(),
            pg_type: column.function.pg_type(),
            is_binary: false,
        };
        self.columns.iter().map(column).collect()
    }
}

impl Session {
    /// Executes a query on advisory locks, and sends its row. The columns are evaluated from left
    /// to right. A cancel request and `statement_timeout` end the wait for a lock.
    pub(crate) async fn query_locks(
        &mut self,
        query: &AdvisoryLockQuery,
    ) -> MessageResult<&'static str> {
        let row = self.lock_row(query).await;
        if !self.is_in_transaction() {
            // Outside of a transaction, each statement is a transaction.
            self.connection.release_locks(&[LockScope::Transaction]);
        }
        let row = row?;
        self.wire.output.message(b'D', |out| {
            out.put_u16(row.len() as u16);
            for value in &row {
                out.put_u32(value.len() as u32);
                out.extend_from_slice(value);
            }
        });
        Ok("SELECT 1")
    }

    async fn lock_row(&mut self, query: &AdvisoryLockQuery) -> MessageResult<Vec<Vec<u8>>> {
        let mut row = Vec::with_capacity(query.columns.len());
        for (index, column) in query.columns.iter().enumerate() {
            let is_binary = ValueFormat::at(&query.formats, index) == ValueFormat::Binary;
            row.push(match self.apply_lock(column).await? {
                Some(is_true) if is_binary => vec![u8::from(is_true)],
                Some(true) => b"t".to_vec(),
                Some(false) => b"f".to_vec(),
                None if column.function == LockFunction::User => self.identity().user.into_bytes(),
                None => Vec::new(),
            });
        }
        Ok(row)
    }

    /// Calls a function. Returns its result; `None` for a function without a result.
    async fn apply_lock(&mut self, column: &LockColumn) -> MessageResult<Option<bool>> {
        match column.function {
            LockFunction::Lock(kind) => {
                let (token, timeout) = (self.connection.begin(), self.settings.statement_timeout());
                let locked = self.connection.lock(column.key()?, kind);
                let locked = until_stopped(locked, &token, timeout, &mut self.wire).await?;
                locked.map_err(too_many)?;
                Ok(None)
            }
            LockFunction::TryLock(kind) => {
                let locked = self.connection.try_lock(column.key()?, kind);
                Ok(Some(locked.map_err(too_many)?))
            }
            LockFunction::Unlock(mode) => {
                let key = column.key()?;
                let is_released = self.connection.unlock(key, mode);
                if !is_released {
                    let message = "the session does not hold the advisory lock";
                    let notice = Problem::new(ErrorCode::InvalidArgument, message);
                    self.wire.output.notice(&notice);
                }
                Ok(Some(is_released))
            }
            LockFunction::UnlockAll => {
                self.connection.release_locks(&[LockScope::Session]);
                Ok(None)
            }
            LockFunction::User => Ok(None),
        }
    }
}

fn too_many(_: TooManyLocks) -> Problem {
    let message = "the connection holds too many advisory locks";
    Problem::new(ErrorCode::TooBusy, message).with_hint("Release locks that are not used.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn locks_can_be_shared_and_have_the_hash_of_a_text() {
        let query = AdvisoryLockQuery::parse(
            "SELECT pg_advisory_lock_shared(hashtext('abc')::bigint), \
             pg_advisory_unlock_shared(hashtext($1), $2)",
        );
        let query = query.expect("a query");
        let session = LockKind { scope: LockScope::Session, mode: LockMode::Shared };
        let functions: Vec<LockFunction> = query.columns.iter().map(|it| it.function).collect();
        let expected = [LockFunction::Lock(session), LockFunction::Unlock(LockMode::Shared)];
        assert_eq!(functions, expected);
        assert_eq!(query.parameters(), ["1", "2"]);
        assert_eq!(query.parameter_type("1"), PgType::TEXT);
        assert_eq!(query.parameter_type("2"), PgType::of(ScalarType::Int8));
        assert_eq!(query.columns[0].key().ok(), Some(AdvisoryKey::One(-785_388_649)));
        let values = BTreeMap::from([("1".to_owned(), json!("a")), ("2".to_owned(), json!(9))]);
        let bound = query.bound(&values, &[]);
        assert_eq!(bound.columns[1].key().ok(), Some(AdvisoryKey::Two(1_075_015_857, 9)));
    }

    #[test]
    fn queries_of_locks_are_recognized() {
        let query = AdvisoryLockQuery::parse(
            "SELECT pg_try_advisory_lock(-5) AS got, pg_catalog.pg_advisory_lock(1, '2'::int), \
             pg_advisory_unlock($1), pg_advisory_unlock_all(), current_role;",
        );
        let query = query.expect("a query");
        assert_eq!(query.parameters(), ["1"]);
        let names: Vec<String> = query.columns().into_iter().map(|column| column.name).collect();
        let expected = [
            "got",
            "pg_advisory_lock",
            "pg_advisory_unlock",
            "pg_advisory_unlock_all",
            "current_role",
        ];
        assert_eq!(names, expected);
        let values = BTreeMap::from([("1".to_owned(), json!(9))]);
        let keys = |query: &AdvisoryLockQuery| {
            let keys = query.columns[..3].iter().map(|column| column.key().ok());
            keys.collect::<Vec<_>>()
        };
        assert_eq!(keys(&query)[2], None);
        let expected = [AdvisoryKey::One(-5), AdvisoryKey::Two(1, 2), AdvisoryKey::One(9)];
        assert_eq!(keys(&query.clone().bound(&values, &[])), expected.map(Some));
        let wide = AdvisoryLockQuery::parse("SELECT pg_advisory_lock(1, 2147483648)");
        for column in [&query.columns[2], &wide.expect("a query").columns[0]] {
            assert!(column.key().expect_err("no key").hint.is_some());
        }
        for other in [
            "SELECT pg_advisory_unlock_all_shared()",
            "SELECT pg_advisory_lock(hashtext('a' || $1))",
            "SELECT pg_try_advisory_lock(id) FROM t",
            "SELECT pg_try_advisory_lock(1), 2",
            "SELECT pg_try_advisory_lock()",
            "SELECT current_user",
            "SELECT 'pg_advisory_lock'",
        ] {
            assert_eq!(AdvisoryLockQuery::parse(other), None, "{other}");
        }
    }
}
