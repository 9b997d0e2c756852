//! Literals: Python values that can be determined without executing code.

use ruff_python_ast::{Expr, Number, UnaryOp};

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
    /// Reads an expression; `None` unless the whole expression is a literal.
    pub fn read(expression: &Expr) -> Option<Literal> {
        Some(match expression {
            Expr::NoneLiteral(_) => Literal::None,
            Expr::BooleanLiteral(literal) => Literal::Bool(literal.value),
            Expr::StringLiteral(literal) => Literal::Text(literal.value.to_str().to_owned()),
            Expr::NumberLiteral(literal) => match &literal.value {
                Number::Int(value) => Literal::Int(value.as_i64()?),
                Number::Float(value) => Literal::Float(*value),
                Number::Complex { .. } => return None,
            },
            Expr::UnaryOp(unary) if unary.op == UnaryOp::USub => {
                match Literal::read(&unary.operand)? {
                    Literal::Int(value) => Literal::Int(-value),
                    Literal::Float(value) => Literal::Float(-value),
                    _ => return None,
                }
            }
            Expr::List(list) => Literal::all(&list.elts)?,
            Expr::Tuple(tuple) => Literal::all(&tuple.elts)?,
            Expr::Dict(dict) => {
                let entry = |item: &ruff_python_ast::DictItem| {
                    let Literal::Text(key) = Literal::read(item.key.as_ref()?)? else {
                        return None;
                    };
                    Some((key, Literal::read(&item.value)?))
                };
                Literal::Map(dict.items.iter().map(entry).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    fn all(items: &[Expr]) -> Option<Literal> {
        items.iter().map(Literal::read).collect::<Option<_>>().map(Literal::List)
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
