//! Estimates the rows of a plan, and the distinct values and the range of its columns.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ColumnStatistics, DFSchema, JoinType, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, FetchType, Join, LogicalPlan, Projection, TableScan,
};

use crate::selectivity::{UNKNOWN_CONDITION, apply};

/// Assumed ratio of the number of groups of a GROUP BY to the number of input rows.
const GROUPS: f64 = 0.1;

/// Estimated size of a relation.
#[derive(Debug, Clone)]
pub struct RelationEstimate {
    pub rows: f64,
    pub columns: HashMap<Column, ColumnEstimate>,
}

/// Estimated number of distinct values of a column, and its range; `None` if unknown.
#[derive(Debug, Clone, Default)]
pub struct ColumnEstimate {
    pub distinct: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl RelationEstimate {
    /// Returns the number of distinct values of a column, which is at most the number of rows;
    /// `None` if unknown.
    pub fn distinct(&self, column: &Column) -> Option<f64> {
        let known = self.columns.get(column)?;
        known.distinct.map(|distinct| distinct.min(self.rows).max(1.0))
    }

    /// Returns the estimate with its columns renamed: the n-th column of `from` becomes the n-th
    /// column of `to`.
    fn renamed(self, from: &DFSchema, to: &DFSchema) -> Self {
        let mut columns = self.columns;
        let pairs = from.columns().into_iter().zip(to.columns());
        let columns = pairs.filter_map(|(from, to)| Some((to, columns.remove(&from)?))).collect();
        RelationEstimate { rows: self.rows, columns }
    }
}

/// Estimates a plan; `None` if the size of some table is unknown.
pub fn estimate(plan: &LogicalPlan) -> Option<RelationEstimate> {
    match plan {
        LogicalPlan::TableScan(scan) => of_scan(scan),
        LogicalPlan::Filter(filter) => {
            let mut input = estimate(&filter.input)?;
            input.rows *= apply(&filter.predicate, &mut input);
            Some(input)
        }
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::SubqueryAlias(alias) => {
            Some(estimate(&alias.input)?.renamed(alias.input.schema(), &alias.schema))
        }
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) => estimate(input),
        LogicalPlan::Distinct(Distinct::On(distinct)) => Some(RelationEstimate {
            rows: estimate(&distinct.input)?.rows,
            columns: HashMap::new(),
        }),
        LogicalPlan::Join(join) => of_join(join),
        LogicalPlan::Sort(sort) => estimate(&sort.input),
        LogicalPlan::Window(window) => estimate(&window.input),
        LogicalPlan::Repartition(repartition) => estimate(&repartition.input),
        LogicalPlan::Limit(limit) => {
            let mut input = estimate(&limit.input)?;
            if let Ok(FetchType::Literal(Some(fetch))) = limit.get_fetch_type() {
                input.rows = input.rows.min(fetch as f64);
            }
            Some(input)
        }
        LogicalPlan::Union(union) => {
            let inputs: Option<Vec<_>> = union.inputs.iter().map(|one| estimate(one)).collect();
            let rows = inputs?.iter().map(|one| one.rows).sum();
            Some(RelationEstimate { rows, columns: HashMap::new() })
        }
        LogicalPlan::Values(values) => {
            Some(RelationEstimate { rows: values.values.len() as f64, columns: HashMap::new() })
        }
        LogicalPlan::EmptyRelation(empty) => {
            let rows = if empty.produce_one_row { 1.0 } else { 0.0 };
            Some(RelationEstimate { rows, columns: HashMap::new() })
        }
        _ => None,
    }
}

fn of_scan(scan: &TableScan) -> Option<RelationEstimate> {
    let statistics = source_as_provider(&scan.source).ok()?.statistics()?;
    let rows = *statistics.num_rows.get_value()? as f64;
    let schema = scan.source.schema();
    let mut columns = HashMap::new();
    for column in scan.projected_schema.columns() {
        let Ok(index) = schema.index_of(&column.name) else { continue };
        let Some(known) = statistics.column_statistics.get(index) else { continue };
        columns.insert(column, of_column(known, schema.field(index).data_type(), rows));
    }
    Some(RelationEstimate { rows, columns })
}

fn of_column(known: &ColumnStatistics, data_type: &DataType, rows: f64) -> ColumnEstimate {
    let min = known.min_value.get_value().and_then(number);
    let max = known.max_value.get_value().and_then(number);
    let counted = known.distinct_count.get_value().map(|count| *count as f64);
    let values = match (min, max) {
        (Some(min), Some(max)) if has_steps_of_one(data_type) => Some(max - min + 1.0),
        _ if *data_type == DataType::Boolean => Some(2.0),
        _ => None,
    };
    let distinct = counted.or(values.map(|values| values.min(rows)));
    ColumnEstimate { distinct, min, max }
}

/// Returns true for types with a countable number of values in a range, such as integers and dates.
fn has_steps_of_one(data_type: &DataType) -> bool {
    data_type.is_integer() || *data_type == DataType::Date32
}

/// Returns a number, date or timestamp as a number, in the unit of its type.
pub fn number(value: &ScalarValue) -> Option<f64> {
    let data_type = value.data_type();
    let value = match data_type {
        DataType::Date32 => value.cast_to(&DataType::Int32),
        DataType::Timestamp(..) => value.cast_to(&DataType::Int64),
        _ if data_type.is_numeric() => Ok(value.clone()),
        _ => return None,
    };
    match value.ok()?.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(number) => number.filter(|number| number.is_finite()),
        _ => None,
    }
}

fn of_projection(projection: &Projection) -> Option<RelationEstimate> {
    let input = estimate(&projection.input)?;
    let mut columns = HashMap::new();
    for (expr, output) in projection.expr.iter().zip(projection.schema.columns()) {
        if let Some(known) = source(expr).and_then(|column| input.columns.get(column)) {
            columns.insert(output, known.clone());
        }
    }
    Some(RelationEstimate { rows: input.rows, columns })
}

/// Returns the column if an expression is a column or an alias of one.
fn source(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => source(&alias.expr),
        _ => None,
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Option<RelationEstimate> {
    let input = estimate(&aggregate.input)?;
    let mut columns = HashMap::new();
    let mut groups: f64 = 1.0;
    for (expr, output) in aggregate.group_expr.iter().zip(aggregate.schema.columns()) {
        let known = source(expr).and_then(|column| input.columns.get(column));
        groups *= known.and_then(|known| known.distinct).unwrap_or(input.rows * GROUPS).max(1.0);
        if let Some(known) = known {
            columns.insert(output, known.clone());
        }
    }
    Some(RelationEstimate { rows: groups.min(input.rows.max(1.0)), columns })
}

fn of_join(join: &Join) -> Option<RelationEstimate> {
    let (left, right) = (estimate(&join.left)?, estimate(&join.right)?);
    let distinct = |expr: &Expr, input: &RelationEstimate| {
        source(expr).and_then(|column| input.distinct(column)).unwrap_or(input.rows).max(1.0)
    };
    let values = |side: fn(&(Expr, Expr)) -> &Expr, input: &RelationEstimate| {
        let product: f64 = join.on.iter().map(|pair| distinct(side(pair), input)).product();
        product.min(input.rows).max(1.0)
    };
    let (l, r) = (values(|pair| &pair.0, &left), values(|pair| &pair.1, &right));
    let filter = if join.filter.is_some() { UNKNOWN_CONDITION } else { 1.0 };
    let inner = left.rows * right.rows / if join.on.is_empty() { 1.0 } else { l.max(r) } * filter;
    let rows = match join.join_type {
        JoinType::Inner => inner,
        JoinType::Left | JoinType::LeftMark => inner.max(left.rows),
        JoinType::Right | JoinType::RightMark => inner.max(right.rows),
        JoinType::Full => inner.max(left.rows + right.rows),
        JoinType::LeftSemi => left.rows * (r / l).min(1.0),
        JoinType::RightSemi => right.rows * (l / r).min(1.0),
        JoinType::LeftAnti => left.rows * (1.0 - (r / l).min(0.9)),
        JoinType::RightAnti => right.rows * (1.0 - (l / r).min(0.9)),
    };
    let mut columns = left.columns;
    columns.extend(right.columns);
    Some(RelationEstimate { rows, columns })
}
