//! Values that a decorator may hold: literals, since a project is read and never run.

use ruff_python_ast::{Expr, Number, UnaryOp};

/// A literal of Python.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Literal>),
    Pairs(Vec<(Literal, Literal)>),
}

impl Literal {
    /// The value of an expression; none where it is no literal.
    pub fn of(expression: &Expr) -> Option<Literal> {
        Some(match expression {
            Expr::NoneLiteral(_) => Literal::None,
            Expr::BooleanLiteral(literal) => Literal::Bool(literal.value),
            Expr::StringLiteral(literal) => Literal::Text(literal.value.to_str().to_owned()),
            Expr::NumberLiteral(literal) => match &literal.value {
                Number::Int(number) => Literal::Int(number.as_i64()?),
                Number::Float(number) => Literal::Float(*number),
                Number::Complex { .. } => return None,
            },
            Expr::UnaryOp(operation) if operation.op == UnaryOp::USub => {
                match Literal::of(&operation.operand)? {
                    Literal::Int(number) => Literal::Int(-number),
                    Literal::Float(number) => Literal::Float(-number),
                    _ => return None,
                }
            }
            Expr::List(list) => Literal::List(all(&list.elts)?),
            Expr::Tuple(tuple) => Literal::List(all(&tuple.elts)?),
            Expr::Dict(dict) => {
                let pairs = dict.items.iter().map(|item| {
                    Some((Literal::of(item.key.as_ref()?)?, Literal::of(&item.value)?))
                });
                Literal::Pairs(pairs.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// The text, where it is one.
    pub fn text(self) -> Option<String> {
        match self {
            Literal::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of a list of texts; one text is a list of one.
    pub fn texts(self) -> Option<Vec<String>> {
        match self {
            Literal::Text(text) => Some(vec![text]),
            Literal::List(items) => items.into_iter().map(Literal::text).collect(),
            _ => None,
        }
    }
}

fn all(expressions: &[Expr]) -> Option<Vec<Literal>> {
    expressions.iter().map(Literal::of).collect()
}
