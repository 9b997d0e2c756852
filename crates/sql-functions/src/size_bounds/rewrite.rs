//! Analyzer rule that replaces functions, operators and casts that may have large results by
//! functions with limited results.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{HigherOrderFunction, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast,
};
use datafusion::optimizer::AnalyzerRule;

use super::argument::fixed_width;
use super::budget::too_large;
use super::function::bounded;
use super::operator_functions::{CONCATENATION, CONSTANT, LAMBDA_INPUT, cast};

/// Minimum size of a constant whose copies count towards the memory limit, in bytes.
const CONSTANT_BYTES: usize = 4 << 10;

/// Functions that cast their first argument to a type that another argument gives.
const CASTS: [&str; 4] = ["arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

/// Maximum width of a fixed-size type, in bytes.
const WIDTH_MAX: u64 = 1 << 20;

/// The analyzer rule. It runs last, when all types in the plan are known.
#[derive(Debug)]
pub(crate) struct ResultSizeAnalyzerRule;

impl AnalyzerRule for ResultSizeAnalyzerRule {
    fn name(&self) -> &'static str {
        "bound_results"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(bound_plan)?.data)
    }
}

fn bound_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    // Do not limit constants in VALUES, because each of them is used for only one row.
    let constants = !matches!(plan, LogicalPlan::Values(_));
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        bound_value(expr, &names, &RewriteContext { schema: &schema, constants })
    })
}

/// The schema of the inputs of a plan node, and true if its large constants count towards the
/// memory limit.
struct RewriteContext<'a> {
    schema: &'a DFSchema,
    constants: bool,
}

/// Rewrites an expression of a plan and keeps its output name. A grouping set has no name, so its
/// expressions are rewritten individually.
fn bound_value(
    expr: Expr,
    names: &NamePreserver,
    context: &RewriteContext<'_>,
) -> Result<Transformed<Expr>> {
    if matches!(expr, Expr::GroupingSet(_)) {
        return expr.map_children(|part| bound_value(part, names, context));
    }
    let name = names.save(&expr);
    let changed = expr.transform_up(|part| bound_part(part, context))?;
    Ok(if changed.transformed { changed.update_data(|expr| name.restore(expr)) } else { changed })
}

fn bound_part(expr: Expr, context: &RewriteContext<'_>) -> Result<Transformed<Expr>> {
    let RewriteContext { schema, constants } = *context;
    if let Expr::ScalarFunction(function) = &expr
        && CASTS.contains(&function.func.name())
    {
        return named_cast(expr, schema);
    }
    Ok(match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => match bounded(&func) {
            Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })),
            None => Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right })
            if is_text(&left, schema) && is_text(&right, schema) =>
        {
            Transformed::yes(CONCATENATION.call(vec![*left, *right]))
        }
        Expr::Cast(Cast { expr, field }) if multiplies(&expr, field.data_type(), schema) => {
            Transformed::yes(cast(field, false).call(vec![*expr]))
        }
        Expr::TryCast(TryCast { expr, field }) if multiplies(&expr, field.data_type(), schema) => {
            Transformed::yes(cast(field, true).call(vec![*expr]))
        }
        Expr::Literal(value, metadata) if constants && value.size() > CONSTANT_BYTES => {
            Transformed::yes(CONSTANT.call(vec![Expr::Literal(value, metadata)]))
        }
        Expr::HigherOrderFunction(function) => lambda(function)?,
        other => Transformed::no(other),
    })
}

/// Limits a function that casts to a named type, which may have a large fixed size.
fn named_cast(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (_, to) = expr.to_field(schema)?;
    let width = fixed_width(to.data_type());
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else {
        return Ok(Transformed::no(expr));
    };
    if width > WIDTH_MAX {
        return Err(too_large(func.name(), width, "in one value", WIDTH_MAX));
    }
    match args.first() {
        Some(value) if multiplies(value, to.data_type(), schema) => {
            let cast = cast(to, func.name().contains("try"));
            Ok(Transformed::yes(cast.call(vec![value.clone()])))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
    }
}

fn is_text(expr: &Expr, schema: &DFSchema) -> bool {
    let is_text = |data_type: DataType| {
        data_type.is_string()
            || matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
    };
    expr.get_type(schema).is_ok_and(is_text)
}

/// Returns true if the result of a cast can be many times larger than its input: casts of lists of
/// nulls, and of dictionary or run-end encoded values.
fn multiplies(expr: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    let Ok(from) = expr.get_type(schema) else { return false };
    let shared = matches!(from, DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _));
    from != *to && (shared || from.is_nested())
}

/// Limits a higher-order function: outer columns in its lambda are repeated for each list element.
fn lambda(function: HigherOrderFunction) -> Result<Transformed<Expr>> {
    let mut captured: Vec<Expr> = Vec::new();
    for argument in function.args.iter().filter(|arg| matches!(arg, Expr::Lambda(_))) {
        argument.apply(|part| {
            if matches!(part, Expr::Column(_)) && !captured.contains(part) {
                captured.push(part.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if captured.is_empty() {
        return Ok(Transformed::no(Expr::HigherOrderFunction(function)));
    }
    let HigherOrderFunction { func, args } = function;
    let args = args.into_iter().map(|argument| match argument {
        lambda @ Expr::Lambda(_) => lambda,
        list => {
            let arguments = std::iter::once(list).chain(captured.iter().cloned());
            Expr::ScalarFunction(ScalarFunction {
                func: Arc::clone(&LAMBDA_INPUT),
                args: arguments.collect(),
            })
        }
    });
    let args = args.collect();
    Ok(Transformed::yes(Expr::HigherOrderFunction(HigherOrderFunction { func, args })))
}
