//! Casts of text to bytes, lists, structs and maps, which Arrow does not do as PostgreSQL does.
//!
//! A text literal that is compared with bytes or with a Boolean is cast, too. DataFusion cannot
//! compare a Boolean with text, and resolves the types of a select list before rewrites run. So
//! [`BooleanComparisonPlanner`] casts the literals of comparison operators during planning.

use std::iter::once;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::bytes_and_nested_parser::{is_parsed, parse_value, try_parse_value};

/// Rewrite of casts from text to bytes and nested values.
#[derive(Debug)]
pub struct TextCastRewrite;

impl FunctionRewrite for TextCastRewrite {
    fn name(&self) -> &'static str {
        "parse_text"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        let parsed = parse_cast(expr, schema);
        Ok(if parsed.transformed { parsed } else { parse_compared(parsed.data, schema) })
    }
}

/// Replaces a cast from text for which Arrow returns another result than PostgreSQL.
pub fn parse_cast(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (inner, to, is_strict) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field.data_type(), true),
        Expr::TryCast(TryCast { expr, field }) => (expr, field.data_type(), false),
        _ => return Transformed::no(expr),
    };
    if !inner.get_type(schema).is_ok_and(|from| is_parsed(&from, to)) {
        return Transformed::no(expr);
    }
    let parser = TextParser::udf(to.clone(), is_strict);
    Transformed::yes(parser.call(vec![(**inner).clone()]))
}

/// Converts text literals to bytes or Booleans if the expression compares them with such values.
fn parse_compared(mut expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_changed = match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            parse_literals(once(&mut **right), left, schema)
                || parse_literals(once(&mut **left), right, schema)
        }
        Expr::InList(InList { expr, list, .. }) => parse_literals(list.iter_mut(), expr, schema),
        Expr::Between(Between { expr, low, high, .. }) => {
            parse_literals([&mut **low, &mut **high].into_iter(), expr, schema)
        }
        Expr::Case(Case { expr: Some(expr), when_then_expr, .. }) => {
            parse_literals(when_then_expr.iter_mut().map(|(when, _)| &mut **when), expr, schema)
        }
        _ => false,
    };
    if is_changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Converts text literals to bytes or Booleans if this is the type of `other`, the expression with
/// which they are compared. Returns true if a literal was changed.
fn parse_literals<'a>(
    literals: impl Iterator<Item = &'a mut Expr>,
    other: &Expr,
    schema: &DFSchema,
) -> bool {
    let mut texts = literals.filter(|literal| is_text(literal)).peekable();
    if texts.peek().is_none() {
        return false;
    }
    let Ok(to) = other.get_type(schema) else { return false };
    if !to.is_binary() && to != DataType::Boolean {
        return false;
    }
    let parser = TextParser::udf(to.clone(), true);
    for literal in texts {
        let text = std::mem::take(literal);
        *literal = match to {
            DataType::Boolean => Expr::Cast(Cast::new(Box::new(text), DataType::Boolean)),
            _ => parser.call(vec![text]),
        };
    }
    true
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.data_type().is_string())
}

/// The expression planner for comparisons of Booleans with text literals.
#[derive(Debug)]
pub struct BooleanComparisonPlanner;

impl ExprPlanner for BooleanComparisonPlanner {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let RawBinaryExpr { op, left, right } = &mut expr;
        if matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq) && !cast_to_boolean(right, left, schema)
        {
            cast_to_boolean(left, right, schema);
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Casts a text literal to a Boolean if `other`, the expression with which it is compared, is a
/// Boolean. Returns true if the literal was cast.
fn cast_to_boolean(literal: &mut Expr, other: &Expr, schema: &DFSchema) -> bool {
    let is_boolean = || other.get_type(schema).is_ok_and(|it| it == DataType::Boolean);
    is_text(literal) && is_boolean() && parse_literals(once(literal), other, schema)
}

/// Function that reads a value from text; invalid text is an error or null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextParser {
    to: DataType,
    is_strict: bool,
    signature: Signature,
}

impl TextParser {
    fn udf(to: DataType, is_strict: bool) -> ScalarUDF {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::new_from_impl(TextParser { to, is_strict, signature })
    }
}

impl ScalarUDFImpl for TextParser {
    fn name(&self) -> &'static str {
        if self.is_strict { "\0parse_text" } else { "\0try_parse_text" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text] = &arguments.args[..] else {
            return internal_err!("a cast takes one argument");
        };
        if self.is_strict { parse_value(text, &self.to) } else { try_parse_value(text, &self.to) }
    }
}
