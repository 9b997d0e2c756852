//! Columns and partition fields of CREATE TABLE, in types that tables can store.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, DataType, ExactNumberInfo, Expr, Query, TimezoneInfo,
    visit_expressions,
};
use headwater_model::PartitionField;
use headwater_sql::alter_table::{ParsedSortKey, comment_of, default_of};
use headwater_sql::data_type::{
    UnsupportedType, find_unsupported_type, has_nanosecond_precision, normalize, without_lengths,
};
use headwater_sql::table_name::span_start;
use headwater_sql_functions::{is_parsed, parse_texts};
use headwater_sql_resolve::name_scope;
use headwater_table_scan::plain_schema;
use headwater_tables::{
    COMMENT, SortColumn, has_nanoseconds, normalise_schema, parse_type, with_default,
};

use crate::datafusion_error::ResourceLimits;
use crate::error::{Error, Result, SqlError};
use crate::planner;

/// Returns the schema of a list of column definitions.
pub(crate) fn schema(
    state: &SessionState,
    columns: Vec<ColumnDef>,
    limits: ResourceLimits,
) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::with_capacity(columns.len());
    for column in columns {
        let name = column.name.value.clone();
        if fields.iter().any(|field| *field.name() == name) {
            return Err(Error::Sql(SqlError::Invalid {
                message: format!("there are two columns named `{name}`"),
                hint: None,
                position: span_start(column.name.span),
            }));
        }
        fields.push(field(state, column, limits)?);
    }
    Ok(Arc::new(normalise_schema(&Schema::new(fields))?))
}

/// Returns the field of one column definition, with its comment and default.
pub(crate) fn field(
    state: &SessionState,
    column: ColumnDef,
    limits: ResourceLimits,
) -> Result<Field> {
    let comment = comment_of(&column).map(|text| (COMMENT.to_owned(), text.to_owned()));
    let default = default_of(&column).cloned();
    let field = typed(state, column, limits)?;
    let mut metadata = field.metadata().clone();
    metadata.extend(comment);
    let field = field.with_metadata(metadata);
    let Some(default) = default else { return Ok(field) };
    let mut value = constant(default, limits)?;
    let normal = normalise_schema(&Schema::new(vec![field]))?;
    let to = normal.field(0).data_type();
    if is_parsed(value.data_type(), to) {
        value = parse_texts(&value, to).map_err(|error| limits.explain(&error))?;
    }
    Ok(with_default(normal.field(0).clone(), &value)?)
}

/// Evaluates an expression that contains no columns and does not depend on the current time.
pub(crate) fn constant(expr: Expr, limits: ResourceLimits) -> Result<ArrayRef> {
    let value = planner::constant(expr, None).and_then(|value| value.to_array());
    let value = value.map_err(|error| limits.explain(&error))?;
    // The planner returns strings as view types, so cast them to plain strings.
    let plain = plain_schema(&Schema::new(vec![Field::new("v", value.data_type().clone(), true)]));
    let cast = arrow::compute::cast(&value, plain.field(0).data_type());
    cast.map_err(|error| limits.explain(&error.into()))
}

/// Returns a field with the name, type and nullability of a column definition.
fn typed(state: &SessionState, mut column: ColumnDef, limits: ResourceLimits) -> Result<Field> {
    let required = column.options.iter().any(|option| option.option == ColumnOption::NotNull);
    let name = column.name.value.clone();
    let position = span_start(column.name.span);
    let written = column.data_type.to_string();
    without_lengths(&mut column.data_type);
    if let Some(UnsupportedType { written, instead }) = find_unsupported_type(&mut column.data_type)
    {
        return Err(Error::Sql(SqlError::Unsupported {
            what: format!("the type `{written}` of column `{name}`"),
            hint: Some(format!("Write `{instead}`; Iceberg has no smaller type.")),
            position,
        }));
    }
    normalize(&mut column.data_type);
    if let Some(data_type) = parse_iceberg_type(&column.data_type) {
        return Ok(Field::new(name, data_type, !required));
    }
    column.options.retain(|option| option.option == ColumnOption::NotNull);
    let planned =
        planner::columns(state, vec![column]).map_err(|error| match limits.explain(&error) {
            Error::Sql(SqlError::Unsupported { .. } | SqlError::Invalid { .. }) => {
                Error::Sql(SqlError::Unsupported {
                    what: format!("the type `{written}` of column `{name}`"),
                    hint: Some(
                        "Use INT, BIGINT, DOUBLE, DECIMAL(p, s), VARCHAR, BOOLEAN, DATE, TIME, \
                            TIMESTAMP, TIMESTAMP(9), TIMESTAMPTZ or BINARY."
                            .to_owned(),
                    ),
                    position,
                })
            }
            other => other,
        })?;
    Ok(planned.field(0).clone())
}

/// Parses type names that exist only in Iceberg.
fn parse_iceberg_type(data_type: &DataType) -> Option<arrow::datatypes::DataType> {
    let text = match data_type {
        DataType::Custom(name, arguments) if arguments.is_empty() => {
            Some(name.to_string().to_lowercase()).filter(|name| name != "uuid")?
        }
        DataType::Binary(None) => "binary".to_owned(),
        DataType::Timestamp(precision, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            match precision {
                None | Some(0..=6) => "timestamptz".to_owned(),
                Some(9) => "timestamptz_ns".to_owned(),
                Some(_) => return None,
            }
        }
        DataType::Decimal(ExactNumberInfo::None) | DataType::Numeric(ExactNumberInfo::None) => {
            "decimal(38, 10)".to_owned()
        }
        _ => return None,
    };
    parse_type(&text).ok()
}

/// Returns true if a query scans a timestamp column with nanoseconds or casts to `TIMESTAMP(9)`, so
/// that its result can have nanoseconds. The types of the plan are not sufficient, because
/// DataFusion's functions and literals have nanosecond types.
pub(crate) fn returns_nanoseconds(query: &Query, plan: &LogicalPlan) -> bool {
    let asked = visit_expressions(query, |expr| match expr {
        Expr::Cast { data_type, .. } if has_nanosecond_precision(data_type) => {
            ControlFlow::Break(())
        }
        Expr::TypedString(typed) if has_nanosecond_precision(&typed.data_type) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    let fine = |node: &LogicalPlan| match node {
        LogicalPlan::TableScan(scan) => {
            scan.source.schema().fields().iter().any(|field| has_nanoseconds(field.data_type()))
        }
        _ => false,
    };
    let mut found = asked.is_break();
    let walked = plan.apply_with_subqueries(|node| {
        found |= fine(node);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || walked.is_err()
}

/// Returns the partition fields with column names in the spelling of the schema.
pub(crate) fn partition(
    fields: Vec<PartitionField>,
    schema: &Schema,
) -> Result<Vec<PartitionField>> {
    let spelled = |field: PartitionField| {
        let names = schema.fields().iter().map(|column| column.name().as_str());
        if field.column.contains('.') {
            // Leave a struct field such as `a.b` as written: the table resolves its names.
            return Ok(field);
        }
        let column = name_scope::column(&field.column, names, &["the new table"], None)?;
        Ok(PartitionField { column: column.to_owned(), transform: field.transform })
    };
    fields.into_iter().map(spelled).collect()
}

/// Converts sort keys to sort columns.
pub(crate) fn sort(keys: Vec<ParsedSortKey>) -> Vec<SortColumn> {
    let key = |key: ParsedSortKey| SortColumn {
        name: key.column,
        descending: key.descending,
        nulls_first: key.nulls_first,
    };
    keys.into_iter().map(key).collect()
}
