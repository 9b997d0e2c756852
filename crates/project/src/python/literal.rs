//! Literals: Python values that can be determined without executing code.

use ruff_python_ast::{DictItem, Expr, Number, UnaryOp};
use ruff_text_size::{Ranged, TextRange};
use serde_json::Value;

/// A literal value in the source.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Literal>),
    Map(Vec<(String, Literal)>),
}

impl Literal {
    /// Reads an expression. The error is the range of the innermost part that is not a literal.
    pub fn read(expression: &Expr) -> Result<Literal, TextRange> {
        let other = || expression.range();
        Ok(match expression {
            Expr::NoneLiteral(_) => Literal::None,
            Expr::BooleanLiteral(literal) => Literal::Bool(literal.value),
            Expr::StringLiteral(literal) => Literal::Text(literal.value.to_str().to_owned()),
            Expr::NumberLiteral(literal) => match &literal.value {
                Number::Int(value) => Literal::Int(value.as_i64().ok_or_else(other)?),
                Number::Float(value) => Literal::Float(*value),
                Number::Complex { .. } => return Err(other()),
            },
            Expr::UnaryOp(unary) if unary.op == UnaryOp::USub => {
                match Literal::read(&unary.operand)? {
                    Literal::Int(value) => Literal::Int(-value),
                    Literal::Float(value) => Literal::Float(-value),
                    _ => return Err(other()),
                }
            }
            Expr::List(list) => Literal::all(&list.elts)?,
            Expr::Tuple(tuple) => Literal::all(&tuple.elts)?,
            Expr::Dict(dict) => {
                let entry = |item: &DictItem| {
                    // An item without a key is an unpacked mapping: `**mapping`.
                    let written = item.key.as_ref().ok_or_else(|| item.value.range())?;
                    let Literal::Text(key) = Literal::read(written)? else {
                        return Err(written.range());
                    };
                    Ok((key, Literal::read(&item.value)?))
                };
                Literal::Map(dict.items.iter().map(entry).collect::<Result<_, _>>()?)
            }
            _ => return Err(other()),
        })
    }

    fn all(items: &[Expr]) -> Result<Literal, TextRange> {
        items.iter().map(Literal::read).collect::<Result<_, _>>().map(Literal::List)
    }

    /// Returns the value as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Literal::None => Value::Null,
            Literal::Bool(flag) => Value::from(*flag),
            Literal::Int(number) => Value::from(*number),
            Literal::Float(number) => Value::from(*number),
            Literal::Text(text) => Value::from(text.as_str()),
            Literal::List(items) => items.iter().map(Literal::to_json).collect(),
            Literal::Map(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
            }
        }
    }

    /// Returns the text of a size or a duration: a string, or a plain number.
    pub fn as_quantity(&self) -> Option<String> {
        match self {
            Literal::Text(text) => Some(text.clone()),
            Literal::Int(number) => Some(number.to_string()),
            Literal::Float(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Returns the texts of a list. A single text counts as a list with one item.
    pub fn as_texts(&self) -> Option<Vec<String>> {
        match self {
            Literal::Text(text) => Some(vec![text.clone()]),
            Literal::List(items) => items
                .iter()
                .map(|item| match item {
                    Literal::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }
}
