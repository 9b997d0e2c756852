//! Column statistics of both sides, from the manifests or computed from the rows.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{Column, Result as PlanResult, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::{approx_distinct, count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use futures::TryStreamExt;
use headwater_engine::{Error, Result};
use headwater_lake::DiffSide;
use headwater_model::{ColumnStatistics, StatisticsDiff};
use headwater_table_scan::{LakeTable, of_scan, view_schema};
use serde_json::Value;
use std::sync::Arc;

use crate::compare::{ComparedSides, DiffOptions, StateComparer};
use crate::compared_columns::{ComparedColumns, SIDE};
use crate::row_encoding::to_json;

/// Suffixes of the output columns in the statistics plan, which are named after the columns of the
/// table.
const KINDS: [&str; 4] = ["values", "min", "max", "distinct"];

impl StateComparer {
    /// Returns the differing statistics of the compared columns.
    pub(crate) async fn diff_statistics(
        &self,
        sides: &ComparedSides<'_>,
        compared: &ComparedColumns,
        options: &DiffOptions,
    ) -> Result<Vec<StatisticsDiff>> {
        let names_before = compared.columns.iter().map(|column| column.name_before.clone());
        let names_after =
            compared.columns.iter().map(|column| column.is_after.then(|| column.name.clone()));
        let before = self.statistics(sides.before, names_before.collect(), options).await?;
        let after = self.statistics(sides.after, names_after.collect(), options).await?;
        let columns = compared.columns.iter().zip(before.into_iter().zip(after));
        let diffs = columns.filter_map(|(column, (before, after))| {
            let column = column.name.clone();
            (before != after).then_some(StatisticsDiff { column, before, after })
        });
        Ok(diffs.collect())
    }

    /// Returns the column statistics of one side, by column name on that side. Columns that the
    /// side lacks have no statistics.
    async fn statistics(
        &self,
        side: Option<&DiffSide>,
        names: Vec<Option<String>>,
        options: &DiffOptions,
    ) -> Result<Vec<Option<ColumnStatistics>>> {
        let Some(side) = side else { return Ok(vec![None; names.len()]) };
        if options.statistics {
            return self.read_statistics(side, &names, options).await;
        }
        let schema = view_schema(side.schema());
        let failed = |error| self.engine.plan_error(None, &error);
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let (total, _) = of_scan(side.plan(), &schema, &all).map_err(failed)?;
        let of_column = |name: Option<String>| {
            let Some(place) = name.and_then(|name| schema.index_of(&name).ok()) else {
                return Ok(None);
            };
            let known = &total.column_statistics[place];
            let nulls = known.null_count.get_value().map(|nulls| *nulls as u64);
            let bound =
                |value: &Precision<ScalarValue>| value.get_value().map_or(Ok(Value::Null), json_of);
            let nested = schema.field(place).data_type().is_nested();
            let exact = matches!(known.null_count, Precision::Exact(_))
                && (nested || is_exact(&known.min_value) && is_exact(&known.max_value))
                || side.rows() == 0;
            Ok(Some(ColumnStatistics {
                nulls,
                min: Some(bound(&known.min_value)?).filter(|value| !value.is_null()),
                max: Some(bound(&known.max_value)?).filter(|value| !value.is_null()),
                distinct: None,
                exact,
            }))
        };
        names.into_iter().map(of_column).collect::<PlanResult<_>>().map_err(failed)
    }

    /// Computes the statistics from the rows.
    async fn read_statistics(
        &self,
        side: &DiffSide,
        names: &[Option<String>],
        options: &DiffOptions,
    ) -> Result<Vec<Option<ColumnStatistics>>> {
        let memory_bytes = options.memory_bytes;
        let failed = |error| self.engine.plan_error(memory_bytes, &error);
        let plan = self.statistics_plan(side, names).map_err(failed)?;
        let batches = self.engine.run_plan(plan, memory_bytes).await?;
        let batches: Vec<RecordBatch> = batches.try_collect().await?;
        let row = batches.iter().find(|batch| batch.num_rows() == 1);
        let row = row.ok_or_else(|| Error::Internal { message: "no statistics".to_owned() })?;
        let found = |place: usize, kind: &str| -> PlanResult<Option<Value>> {
            let Some(column) = row.column_by_name(&format!("{place} {kind}")) else {
                return Ok(None);
            };
            json_of(&ScalarValue::try_from_array(column, 0)?).map(Some)
        };
        let of_column = |(place, name): (usize, &Option<String>)| {
            if name.is_none() {
                return Ok(None);
            }
            let values = found(place, KINDS[0])?.and_then(|values| values.as_u64());
            let shown = |value: Option<Value>| value.filter(|value| !value.is_null());
            Ok(Some(ColumnStatistics {
                nulls: values.map(|values| side.rows().saturating_sub(values)),
                min: shown(found(place, KINDS[1])?),
                max: shown(found(place, KINDS[2])?),
                distinct: found(place, KINDS[3])?.and_then(|distinct| distinct.as_u64()),
                exact: true,
            }))
        };
        names.iter().enumerate().map(of_column).collect::<PlanResult<_>>().map_err(failed)
    }

    fn statistics_plan(
        &self,
        side: &DiffSide,
        names: &[Option<String>],
    ) -> PlanResult<LogicalPlan> {
        let schema = view_schema(side.schema());
        let mut wanted: Vec<Expr> = vec![count(lit(1_i64)).alias("rows")];
        for (place, name) in names.iter().enumerate() {
            let Some(name) = name else { continue };
            let data_type = schema.field_with_name(name)?.data_type();
            let column = || Expr::Column(Column::new(Some(SIDE), name));
            wanted.push(count(column()).alias(format!("{place} {}", KINDS[0])));
            if !data_type.is_nested() {
                wanted.push(min(column()).alias(format!("{place} {}", KINDS[1])));
                wanted.push(max(column()).alias(format!("{place} {}", KINDS[2])));
            }
            if can_count(data_type) {
                wanted.push(approx_distinct(column()).alias(format!("{place} {}", KINDS[3])));
            }
        }
        let table = LakeTable::new(side.plan().clone(), self.engine.scans().clone());
        LogicalPlanBuilder::scan(SIDE, provider_as_source(Arc::new(table)), None)?
            .aggregate(Vec::<Expr>::new(), wanted)?
            .build()
    }
}

fn is_exact(value: &Precision<ScalarValue>) -> bool {
    matches!(value, Precision::Exact(_))
}

/// Returns true if distinct values of a type can be counted approximately.
fn can_count(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8View
                | DataType::BinaryView
                | DataType::Date32
                | DataType::Time64(_)
                | DataType::Timestamp(..)
        )
}

fn json_of(value: &ScalarValue) -> PlanResult<Value> {
    let array = value.to_array()?;
    let field = Field::new("value", array.data_type().clone(), true);
    let rows = to_json(&Schema::new(vec![field]).into(), vec![array])?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|mut row| row.get_mut("value").map(Value::take))
        .unwrap_or_default())
}
