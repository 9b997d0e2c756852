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
enum ForeignOperator {
    Power,
    Div,
    HasKey,
    /// `IN [1, 2]`; with the value true, `NOT IN [1, 2]`.
    InList(bool),
}

/// Returns the operator at the parser's position; `None` for operators that sqlparser parses
/// itself.
fn next(parser: &Parser) -> Option<ForeignOperator> {
    let token = |place: usize| parser.peek_nth_token_ref(place);
    let is = |place: usize, keyword: Keyword| match &token(place).token {
        Token::Word(word) => word.keyword == keyword && word.quote_style.is_none(),
        _ => false,
    };
    let opens_list = |place: usize| token(place).token == Token::LBracket;
    match &token(0).token {
        Token::Mul if token(1).token == Token::Mul && is_adjacent(token(0), token(1)) => {
            Some(ForeignOperator::Power)
        }
        Token::Placeholder(sign) if sign == "?" => Some(ForeignOperator::HasKey),
        _ if is(0, Keyword::DIV) => Some(ForeignOperator::Div),
        _ if is(0, Keyword::IN) && opens_list(1) => Some(ForeignOperator::InList(false)),
        _ if is(0, Keyword::NOT) && is(1, Keyword::IN) && opens_list(2) => {
            Some(ForeignOperator::InList(true))
        }
        _ => None,
    }
}

fn is_adjacent(first: &TokenWithSpan, second: &TokenWithSpan) -> bool {
    first.span.end == second.span.start
}

/// Returns the precedence of the operator at the parser's position.
pub(crate) fn precedence(parser: &Parser) -> Option<u8> {
    let value = |precedence| HeadwaterDialect.prec_value(precedence);
    match next(parser)? {
        ForeignOperator::Power => Some(value(Precedence::AtTz) + 1),
        ForeignOperator::Div => Some(value(Precedence::MulDivModOp)),
        ForeignOperator::HasKey => Some(value(Precedence::PlusMinus) - 1),
        ForeignOperator::InList(_) => Some(value(Precedence::Between)),
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
        ForeignOperator::Power | ForeignOperator::InList(true) => 2,
        ForeignOperator::Div | ForeignOperator::HasKey | ForeignOperator::InList(false) => 1,
    };
    (0..tokens).for_each(|_| parser.advance_token());
    let left = left.clone();
    Some(parser.parse_subexpr(precedence).map(|right| match operator {
        ForeignOperator::Power => call("power", vec![left, right]),
        ForeignOperator::HasKey => call(JSON_EXISTS, vec![left, right]),
        ForeignOperator::Div => Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::DuckIntegerDivide,
            right: Box::new(right),
        },
        ForeignOperator::InList(negated) => in_list(left, right, negated),
    }))
}

/// Returns `value = ANY(list)` or, if `negated`, its negation.
pub(crate) fn in_list(value: Expr, list: Expr, negated: bool) -> Expr {
    let found = Expr::AnyOp {
        left: Box::new(value),
        compare_op: BinaryOperator::Eq,
        right: Box::new(list),
        is_some: false,
    };
    if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) } } else { found }
}

/// Functions that take a lambda, with the names that they have in other dialects.
const WITH_LAMBDA: [&str; 27] = [
    "aggregate",
    "all_match",
    "any_match",
    "apply",
    "array_all_match",
    "array_any_match",
    "array_apply",
    "array_filter",
    "array_first",
    "array_reduce",
    "array_transform",
    "exists",
    "filter",
    "forall",
    "list_all_match",
    "list_any_match",
    "list_apply",
    "list_filter",
    "list_first",
    "list_reduce",
    "list_transform",
    "none_match",
    "reduce",
    "transform",
    "transform_keys",
    "transform_values",
    "map_filter",
];

/// Parses the column of `column -> 'key'`, which sqlparser would parse as the parameter of a
/// lambda. Returns `None` where `->` does introduce a lambda: in COLUMNS, and after the first
/// argument of a function that takes a lambda.
pub(crate) fn name_before_arrow(parser: &mut Parser) -> Option<Expr> {
    let Token::Word(word) = &parser.peek_token_ref().token else { return None };
    let is_constant = word.quote_style.is_none()
        && matches!(word.keyword, Keyword::NULL | Keyword::TRUE | Keyword::FALSE);
    let is_arrow = parser.peek_nth_token_ref(1).token == Token::Arrow;
    if !is_arrow || is_constant || is_lambda(parser) {
        return None;
    }
    let name = word.to_ident(parser.peek_token_ref().span);
    parser.advance_token();
    Some(Expr::Identifier(name))
}

/// Returns true if `->` at the parser's position introduces a lambda: in COLUMNS, or after a comma
/// in the arguments of a function that takes a lambda.
fn is_lambda(parser: &Parser) -> bool {
    let is_space = |token: &Token| matches!(token, Token::Whitespace(_));
    let before = (0..parser.index()).rev().map(|place| &parser.token_at(place).token);
    let mut before = before.filter(|token| !is_space(token));
    let (mut depth, mut has_comma) = (0_usize, false);
    while let Some(token) = before.next() {
        match token {
            Token::RParen | Token::RBracket | Token::RBrace => depth += 1,
            Token::LParen if depth == 0 => {
                let Some(Token::Word(name)) = before.next() else { return false };
                let name = name.value.to_lowercase();
                return name == "columns" || has_comma && WITH_LAMBDA.contains(&name.as_str());
            }
            Token::LParen | Token::LBracket | Token::LBrace => {
                let Some(outer) = depth.checked_sub(1) else { return false };
                depth = outer;
            }
            Token::Comma if depth == 0 => has_comma = true,
            Token::SemiColon => return false,
            _ => {}
        }
    }
    false
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
