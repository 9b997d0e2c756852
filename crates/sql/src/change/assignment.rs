//! `SET a = 1, (b, c) = (2, 3)`: columns and their new values.

use sqlparser::ast::{Assignment, AssignmentTarget, Expr, Ident, ObjectName, Value};

use crate::error::{Error, Result};
use crate::table_name::{idents, position};

/// An assigned column, as written.
#[derive(Debug, Clone)]
pub struct AssignedColumn {
    /// The parts before the column name: none, or the table's name or alias.
    pub path: Vec<Ident>,
    /// Name of the column.
    pub column: Ident,
    /// True if the new value is DEFAULT.
    pub default: bool,
}

/// Returns each assigned column with its new value.
pub(super) fn assignments(list: Vec<Assignment>) -> Result<Vec<(AssignedColumn, Expr)>> {
    let mut found = Vec::with_capacity(list.len());
    for Assignment { target, value } in list {
        match target {
            AssignmentTarget::ColumnName(name) => found.push(assignment(&name, value)?),
            AssignmentTarget::Tuple(names) => {
                let values = match value {
                    Expr::Tuple(values) if values.len() == names.len() => values,
                    Expr::Tuple(values) => {
                        return Err(Error::Invalid {
                            message: format!(
                                "{} values are assigned to {} columns",
                                values.len(),
                                names.len()
                            ),
                            hint: None,
                            position: names.first().and_then(position),
                        });
                    }
                    _ => return Err(Error::unsupported("assigning one value to several columns")),
                };
                for (name, value) in names.iter().zip(values) {
                    found.push(assignment(name, value)?);
                }
            }
        }
    }
    Ok(found)
}

fn assignment(name: &ObjectName, value: Expr) -> Result<(AssignedColumn, Expr)> {
    let (value, default) = given(value);
    Ok((AssignedColumn { default, ..assigned(name)? }, value))
}

/// Parses a column name, optionally qualified by the table.
pub(super) fn assigned(name: &ObjectName) -> Result<AssignedColumn> {
    let mut parts: Vec<Ident> = idents(name)?.into_iter().cloned().collect();
    let nothing = || Error::Internal { message: "a column without a name".to_owned() };
    let column = parts.pop().ok_or_else(nothing)?;
    Ok(AssignedColumn { path: parts, column, default: false })
}

/// Returns the expression for a value, and true if the value is DEFAULT. The engine resolves
/// DEFAULT later.
pub(super) fn given(value: Expr) -> (Expr, bool) {
    if is_default(&value) { (Expr::value(Value::Null), true) } else { (value, false) }
}

/// Returns true if an expression is the keyword DEFAULT.
pub fn is_default(value: &Expr) -> bool {
    let Expr::Identifier(ident) = value else { return false };
    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("DEFAULT")
}
