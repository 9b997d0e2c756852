//! Rewrite of ASOF JOIN as a left or inner join. ASOF JOIN joins each row of the left side with the
//! nearest row of the right side.
//!
//! For `t ASOF JOIN p ON t.k = p.k AND t.at >= p.at`, each row of `p` gets the next value of `p.at`
//! with the same `p.k` as an additional column. `t` is joined with these rows. A row of `p` is the
//! nearest row if its own value satisfies the inequality and the next value does not.

use headwater_sql::ast_builders::{alias, all, binary, derived, item, name, only, star};
use headwater_sql::change::{QueryClauses, query_of};
use headwater_sql::expression::call;
use headwater_sql::name_match::equals_ignoring_case;
use headwater_sql::{Error, Result};
use headwater_sql_tokens::{ASOF_INNER, ASOF_LEFT};
use sqlparser::ast::{
    BinaryOperator, Expr, Function, Join, JoinConstraint, JoinOperator, OrderByExpr,
    OrderByOptions, TableFactor, UnaryOperator, WindowSpec, WindowType, visit_expressions,
};
use std::ops::ControlFlow;

use crate::Resolver;
use crate::name_scope::{Relation, UNNAMED};
use crate::using_clause::{self, ColumnSide};

/// The conditions of an ASOF JOIN: the equalities, and the inequality. The first operand of each
/// has columns of the join's left side.
#[derive(Default)]
struct AsofConditions {
    equal: Vec<[Expr; 2]>,
    nearest: Option<(Expr, BinaryOperator, Expr)>,
}

fn refused(what: &str) -> Error {
    Error::Unsupported {
        what: format!("ASOF JOIN {what}"),
        hint: Some("Write `a ASOF JOIN b ON a.key = b.key AND a.time >= b.time`.".to_owned()),
        position: None,
    }
}

impl Resolver<'_> {
    /// Rewrites an ASOF JOIN. Its left side has the relations with the indexes `start..before`, its
    /// right side is the relation with the index `before`.
    pub(crate) fn rewrite_asof_join(
        &mut self,
        join: &mut Join,
        start: usize,
        before: usize,
    ) -> Result<()> {
        let JoinOperator::AsOf { match_condition, constraint } = &mut join.join_operator else {
            return Ok(());
        };
        let kind = match match_condition {
            Expr::Identifier(kind) => Some(kind.value.as_str()),
            _ => None,
        };
        let is_left = kind != Some(ASOF_INNER);
        let mut exprs: Vec<Expr> = Vec::new();
        if !matches!(kind, Some(ASOF_INNER | ASOF_LEFT)) {
            exprs.push(match_condition.clone());
        }
        let mut conditions = AsofConditions::default();
        match constraint {
            JoinConstraint::On(on) => split(on.clone(), &mut exprs),
            JoinConstraint::Using(columns) => {
                let names: Vec<String> =
                    columns.iter().filter_map(using_clause::name_of).map(str::to_owned).collect();
                conditions = self.shared_columns(&names, start, before, exprs.is_empty())?;
            }
            JoinConstraint::None => {}
            JoinConstraint::Natural => return Err(refused("with NATURAL")),
        }
        for mut expr in exprs {
            self.expr(&mut expr)?;
            let relations = self.scopes.innermost().map(|scope| scope.relations.as_slice());
            let (left, right) = relations.unwrap_or_default().split_at(before);
            conditions.add(expr, left, right)?;
        }
        let condition = self.nearest(&mut join.relation, conditions, before)?;
        let on = JoinConstraint::On(condition);
        join.join_operator =
            if is_left { JoinOperator::LeftOuter(on) } else { JoinOperator::Inner(on) };
        Ok(())
    }

    /// Returns the conditions of a join with USING. The inequality compares the last column of
    /// USING.
    fn shared_columns(
        &mut self,
        names: &[String],
        start: usize,
        before: usize,
        has_inequality: bool,
    ) -> Result<AsofConditions> {
        let mut conditions = AsofConditions::default();
        let Some(scope) = self.scopes.innermost() else { return Ok(conditions) };
        scope.careful = true;
        for (place, name) in names.iter().enumerate() {
            let merged = using_clause::merge(scope, name, (start, before), ColumnSide::Left);
            let Some(Expr::BinaryOp { left, right, .. }) = merged else {
                return Err(refused("with USING between relations without an alias"));
            };
            if has_inequality && place + 1 == names.len() {
                conditions.nearest = Some((*left, BinaryOperator::GtEq, *right));
            } else {
                conditions.equal.push([*left, *right]);
            }
        }
        Ok(conditions)
    }

    /// Adds a column with the next value to the right side, and returns the condition of the
    /// rewritten join.
    fn nearest(
        &mut self,
        factor: &mut TableFactor,
        conditions: AsofConditions,
        before: usize,
    ) -> Result<Expr> {
        let Some((left, op, right)) = conditions.nearest else {
            return Err(refused("without an inequality"));
        };
        let Some(scope) = self.scopes.innermost() else { return Err(refused("here")) };
        let [relation] = &mut scope.relations[before..] else {
            return Err(refused("with several tables on the right side"));
        };
        if relation.label == UNNAMED {
            return Err(refused("with a subquery without an alias"));
        }
        let next = format!("\0next{before}");
        relation.columns.hidden.push(next.clone());
        let label = relation.label.clone();
        let keys = conditions.equal.iter().map(|[_, right]| right.clone()).collect();
        let is_backward = matches!(op, BinaryOperator::Gt | BinaryOperator::GtEq);
        let lead = lead(right.clone(), keys, is_backward);
        let placeholder = derived(query_of(QueryClauses::default()), None);
        let rows = query_of(QueryClauses {
            projection: vec![star(<_>::default()), item(lead, &next)],
            from: vec![only(std::mem::replace(factor, placeholder))],
            ..QueryClauses::default()
        });
        *factor = derived(rows, Some(alias(name(&label), Vec::new())));
        let next = Expr::CompoundIdentifier(vec![name(&label), name(&next)]);
        let is_beyond = Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(Expr::Nested(Box::new(binary(left.clone(), op.clone(), next.clone())))),
        };
        let is_last = binary(Expr::IsNull(Box::new(next)), BinaryOperator::Or, is_beyond);
        let equal = conditions
            .equal
            .into_iter()
            .map(|[left, right]| binary(left, BinaryOperator::Eq, right));
        let others = [binary(left, op, right), Expr::Nested(Box::new(is_last))];
        all(equal.chain(others)).ok_or_else(|| refused("without a condition"))
    }
}

/// Returns a call of `lead` for the next value of a column: the next larger value or, if not
/// `is_ascending`, the next smaller value.
fn lead(value: Expr, partition_by: Vec<Expr>, is_ascending: bool) -> Expr {
    let key = OrderByExpr {
        expr: value.clone(),
        options: OrderByOptions { asc: Some(is_ascending), nulls_first: Some(true) },
        with_fill: None,
    };
    let spec =
        WindowSpec { window_name: None, partition_by, order_by: vec![key], window_frame: None };
    match call("lead", vec![value]) {
        Expr::Function(function) => {
            Expr::Function(Function { over: Some(WindowType::WindowSpec(spec)), ..function })
        }
        other => other,
    }
}

/// Splits a conjunction into its conditions.
fn split(expr: Expr, parts: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            split(*left, parts);
            split(*right, parts);
        }
        Expr::Nested(inner) => split(*inner, parts),
        other => parts.push(other),
    }
}

impl AsofConditions {
    /// Adds a condition whose names are resolved: an equality, or an inequality. The ASOF JOIN must
    /// have only one inequality.
    fn add(&mut self, expr: Expr, left: &[Relation], right: &[Relation]) -> Result<()> {
        let Expr::BinaryOp { left: one, op, right: other } = expr else {
            return Err(refused("with a condition that is not a comparison"));
        };
        let (one, op, other) = if is_of(&one, left) && is_of(&other, right) {
            (*one, op, *other)
        } else if is_of(&one, right) && is_of(&other, left) {
            (*other, flipped(op), *one)
        } else {
            return Err(refused("with a condition that does not compare both sides"));
        };
        match op {
            BinaryOperator::Eq => self.equal.push([one, other]),
            BinaryOperator::Gt
            | BinaryOperator::GtEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
                if self.nearest.is_none() =>
            {
                self.nearest = Some((one, op, other));
            }
            _ => return Err(refused("with more than one inequality")),
        }
        Ok(())
    }
}

fn flipped(op: BinaryOperator) -> BinaryOperator {
    match op {
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        other => other,
    }
}

/// Returns true if an expression uses columns, and only columns of these relations.
fn is_of(expr: &Expr, relations: &[Relation]) -> bool {
    let mut found = false;
    let visited = visit_expressions(expr, |expr| {
        let fits = match expr {
            Expr::CompoundIdentifier(names) => relations
                .iter()
                .any(|relation| names.first().is_some_and(|name| name.value == relation.label)),
            Expr::Identifier(name) => relations.iter().any(|relation| {
                relation.columns.all().any(|column| equals_ignoring_case(column, &name.value))
            }),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => false,
            _ => return ControlFlow::Continue(()),
        };
        found |= fits;
        if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    found && visited.is_continue()
}
