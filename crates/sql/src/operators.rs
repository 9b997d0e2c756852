//! Operators of other systems that sqlparser does not parse: `a ** b`, `a DIV b`, `json ? 'key'`,
//! `a IN list`, and list comprehensions: `[x + 1 FOR x IN list IF x > 0]`.

use sqlparser::ast::{
    BinaryOperator, Expr, LambdaFunction, LambdaFunctionParameter, LambdaSyntax,
    OneOrManyWithParens, UnaryOperator,
};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::HeadwaterDialect;
use crate::expression::{JSON_EXISTS, call};

/// An operator that this module parses.
enum Operator {
    Power,
    Div,
    HasKey,
    /// `IN [1, 2]`; the value is true for NOT IN.
    InList(bool),
}

/// Returns the operator at the parser's position.
fn next(parser: &Parser) -> Option<Operator> {
    let token = |place: usize| parser.peek_nth_token_ref(place);
    let is = |place: usize, keyword: Keyword| match &token(place).token {
        Token::Word(word) => word.keyword == keyword && word.quote_style.is_none(),
        _ => false,
    };
    let opens_list = |place: usize| token(place).token == Token::LBracket;
    match &token(0).token {
        Token::Mul if token(1).token == Token::Mul && touches(token(0), token(1)) => {
            Some(Operator::Power)
        }
        Token::Placeholder(sign) if sign == "?" => Some(Operator::HasKey),
        _ if is(0, Keyword::DIV) => Some(Operator::Div),
        _ if is(0, Keyword::IN) && opens_list(1) => Some(Operator::InList(false)),
        _ if is(0, Keyword::NOT) && is(1, Keyword::IN) && opens_list(2) => {
            Some(Operator::InList(true))
        }
        _ => None,
    }
}

fn touches(first: &TokenWithSpan, second: &TokenWithSpan) -> bool {
    first.span.end == second.span.start
}

/// Returns the precedence of the operator at the parser's position.
pub(crate) fn precedence(parser: &Parser) -> Option<u8> {
    let value = |precedence| HeadwaterDialect.prec_value(precedence);
    match next(parser)? {
        Operator::Power => Some(value(Precedence::AtTz) + 1),
        Operator::Div => Some(value(Precedence::MulDivModOp)),
        Operator::HasKey => Some(value(Precedence::PlusMinus) - 1),
        Operator::InList(_) => Some(value(Precedence::Between)),
    }
}

/// Parses the rest of the operator at the parser's position, after its left operand.
pub(crate) fn parse(
    parser: &mut Parser,
    left: &Expr,
    precedence: u8,
) -> Option<Result<Expr, ParserError>> {
    let operator = next(parser)?;
    let tokens = match operator {
        Operator::Power | Operator::InList(true) => 2,
        Operator::Div | Operator::HasKey | Operator::InList(false) => 1,
    };
    (0..tokens).for_each(|_| parser.advance_token());
    let left = left.clone();
    Some(parser.parse_subexpr(precedence).map(|right| match operator {
        Operator::Power => call("power", vec![left, right]),
        Operator::HasKey => call(JSON_EXISTS, vec![left, right]),
        Operator::Div => Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::DuckIntegerDivide,
            right: Box::new(right),
        },
        Operator::InList(negated) => in_list(left, right, negated),
    }))
}

/// Returns `value = ANY(list)`.
pub(crate) fn in_list(value: Expr, list: Expr, negated: bool) -> Expr {
    let found = Expr::AnyOp {
        left: Box::new(value),
        compare_op: BinaryOperator::Eq,
        right: Box::new(list),
        is_some: false,
    };
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) } } else { found }
}

/// Parses a list comprehension, which becomes calls of `list_filter` and `list_transform`.
pub(crate) fn comprehension(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    if parser.peek_token_ref().token != Token::LBracket {
        return None;
    }
    let parsed = parser.maybe_parse(|parser| {
        parser.expect_token(&Token::LBracket)?;
        let value = parser.parse_expr()?;
        parser.expect_keyword(Keyword::FOR)?;
        let name = parser.parse_identifier()?;
        parser.expect_keyword(Keyword::IN)?;
        let mut list = parser.parse_expr()?;
        let element = |body: Expr| {
            Expr::Lambda(LambdaFunction {
                params: OneOrManyWithParens::One(LambdaFunctionParameter {
                    name: name.clone(),
                    data_type: None,
                }),
                body: Box::new(body),
                syntax: LambdaSyntax::Arrow,
            })
        };
        if parser.parse_keyword(Keyword::IF) {
            let condition = parser.parse_expr()?;
            list = call("list_filter", vec![list, element(condition)]);
        }
        parser.expect_token(&Token::RBracket)?;
        Ok(call("list_transform", vec![list, element(value)]))
    });
    parsed.transpose()
}
