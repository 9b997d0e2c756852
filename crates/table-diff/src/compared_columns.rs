//! Columns of a row comparison, with a common type for both sides.

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, cast, lit};
use headwater_engine::{Error, Result, SqlError};
use headwater_lake::{ColumnMatch, DiffSide};
use headwater_model::{ErrorCode, Problem, TableName, nearest};
use headwater_sql::name_match::equals_ignoring_case;
use headwater_table_scan::view_schema;
use headwater_tables::{KEYS_PROPERTY, ScanPlan, initial_default};

/// Alias of the table in a query plan. The plans of both sides use the same alias.
pub(crate) const SIDE: &str = "side";

/// Maximum number of columns listed in a hint.
const NAMES_SHOWN: usize = 8;

/// Columns and key of a row comparison.
#[derive(Debug, Clone)]
pub(crate) struct ComparedColumns {
    /// Key columns; empty if whole rows are compared.
    pub key: Vec<String>,
    /// Compared columns, in the table's order.
    pub columns: Vec<ComparedColumn>,
    /// Columns that are not compared.
    pub left_out: Vec<String>,
    /// If true, files that both sides share are compared, too: some of their values may be read
    /// differently on each side.
    all_files: bool,
}

/// A compared column.
#[derive(Debug, Clone)]
pub(crate) struct ComparedColumn {
    /// Column name.
    pub name: String,
    /// Common type of both sides.
    pub data_type: DataType,
    /// Expression that reads the column on the first side.
    pub before: Expr,
    /// Expression that reads the column on the second side.
    pub after: Expr,
    /// Name on the first side, if the column exists there.
    pub name_before: Option<String>,
    /// True if the column exists on the second side.
    pub is_after: bool,
}

impl ComparedColumns {
    pub(crate) fn of(
        before: Option<&DiffSide>,
        after: Option<&DiffSide>,
        key: &[String],
        table: &TableName,
    ) -> Result<Self> {
        let mut compared = match (before, after) {
            (Some(before), Some(after)) => ComparedColumns::of_both(before, after),
            (Some(side), None) => ComparedColumns::of_one(side, false),
            (None, Some(side)) => ComparedColumns::of_one(side, true),
            (None, None) => ComparedColumns::empty(),
        };
        compared.key = if key.is_empty() {
            compared.declared_key((before, after), table)
        } else {
            compared.requested_key(key, table)?
        };
        Ok(compared)
    }

    fn empty() -> Self {
        ComparedColumns {
            key: Vec::new(),
            columns: Vec::new(),
            left_out: Vec::new(),
            all_files: false,
        }
    }

    fn of_one(side: &DiffSide, is_after: bool) -> Self {
        let schema = view_schema(side.schema());
        let column = |field: &FieldRef| ComparedColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            before: column(field.name()),
            after: column(field.name()),
            name_before: (!is_after).then(|| field.name().clone()),
            is_after,
        };
        ComparedColumns {
            columns: schema.fields().iter().map(column).collect(),
            ..ComparedColumns::empty()
        }
    }

    fn of_both(before: &DiffSide, after: &DiffSide) -> Self {
        let pairs = after.same_columns(before);
        let (one, other) = (view_schema(before.schema()), view_schema(after.schema()));
        let mut compared = ComparedColumns::empty();
        for (field, pair) in other.fields().iter().zip(&pairs) {
            match compared_column(&one, field, *pair) {
                Some(column) => compared.columns.push(column),
                None => compared.left_out.push(field.name().clone()),
            }
        }
        let gone = one.fields().iter().enumerate();
        let gone = gone.filter(|(at, _)| pairs.iter().all(|pair| pair.before != Some(*at)));
        compared.left_out.extend(gone.map(|(_, field)| field.name().clone()));
        // If a column was dropped and created again in the same table, the old files have values of
        // the old column only.
        let is_recreated = pairs.iter().any(|pair| pair.before.is_some() && !pair.by_id);
        compared.all_files = is_recreated && before.table().id() == after.table().id();
        compared
    }

    /// Returns the scan plans of the files to compare, per side.
    pub(crate) fn files(
        &self,
        before: Option<&DiffSide>,
        after: Option<&DiffSide>,
    ) -> (Option<ScanPlan>, Option<ScanPlan>) {
        let files = |side: Option<&DiffSide>, other: Option<&DiffSide>| {
            let side = side?;
            let all = self.all_files;
            Some(if all { side.plan().clone() } else { side.files_not_in(other) })
        };
        (files(before, after), files(after, before))
    }

    /// Returns the indexes of the key columns and of the other columns.
    pub(crate) fn parts(&self) -> (Vec<usize>, Vec<usize>) {
        let place = |name: &String| self.columns.iter().position(|column| column.name == *name);
        let key: Vec<usize> = self.key.iter().filter_map(place).collect();
        let all = 0..self.columns.len();
        if key.is_empty() {
            return (all.collect(), Vec::new());
        }
        let rest = all.filter(|place| !key.contains(place)).collect();
        (key, rest)
    }

    /// Returns the schema of the compared columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        let field =
            |column: &ComparedColumn| Field::new(&column.name, column.data_type.clone(), true);
        Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()).into()
    }

    /// Resolves the key of a request. Each key column must exist on every side that has the table.
    fn requested_key(&self, key: &[String], table: &TableName) -> Result<Vec<String>> {
        let find = |wanted: &String| {
            let now = |column: &&ComparedColumn| column.name == *wanted;
            let before = |column: &&ComparedColumn| column.name_before.as_ref() == Some(wanted);
            let loosely = |column: &&ComparedColumn| equals_ignoring_case(&column.name, wanted);
            let all = || self.columns.iter();
            all().find(now).or_else(|| all().find(before)).or_else(|| all().find(loosely))
        };
        let both = self.columns.iter().any(|column| column.name_before.is_some())
            && self.columns.iter().any(|column| column.is_after);
        let mut found = Vec::new();
        for wanted in key {
            let names = self.columns.iter().map(|column| column.name.as_str());
            let column = find(wanted).ok_or_else(|| match nearest(wanted, names) {
                None => self.no_key(wanted, table),
                near => Error::Sql(SqlError::ColumnNotFound {
                    column: wanted.clone(),
                    relations: vec![table.to_string()],
                    near,
                    position: None,
                }),
            })?;
            if both && (column.name_before.is_none() || !column.is_after) {
                return Err(Error::Sql(SqlError::Invalid {
                    message: format!("`{wanted}` cannot be a key: only one side has this column"),
                    hint: Some("Name columns that both sides have.".to_owned()),
                    position: None,
                }));
            }
            if !found.contains(&column.name) {
                found.push(column.name.clone());
            }
        }
        Ok(found)
    }

    /// Creates the error for an unknown key column without a similar name.
    fn no_key(&self, wanted: &str, table: &TableName) -> Error {
        let names =
            self.columns.iter().take(NAMES_SHOWN).map(|column| format!("`{}`", column.name));
        let mut names = names.collect::<Vec<_>>().join(", ");
        if self.columns.len() > NAMES_SHOWN {
            names.push_str(" and others");
        }
        let message = format!("column `{wanted}` is not in `{table}`");
        let problem = Problem::new(ErrorCode::ColumnNotFound, message);
        problem.with_hint(format!("The columns that can be a key are {names}.")).into()
    }

    /// Returns the declared key: the table's identifier fields, or the key columns of a model with
    /// `merge`.
    fn declared_key(
        &self,
        (before, after): (Option<&DiffSide>, Option<&DiffSide>),
        table: &TableName,
    ) -> Vec<String> {
        let noted = |side: &DiffSide| {
            serde_json::from_str(side.table().summary_property(KEYS_PROPERTY)?).ok()
        };
        let said = [after, before].into_iter().flatten().find_map(|side| {
            let key = Some(side.key()).filter(|key| !key.is_empty());
            key.or_else(|| noted(side))
        });
        said.and_then(|key: Vec<String>| self.requested_key(&key, table).ok()).unwrap_or_default()
    }
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new(Some(SIDE), name))
}

/// Returns how a column of the second side is compared with the matching column of the first side;
/// `None` if the types of the two columns cannot be compared.
fn compared_column(before: &Schema, field: &FieldRef, pair: ColumnMatch) -> Option<ComparedColumn> {
    let after = column(field.name());
    let Some(other) = pair.before.map(|place| before.field(place)) else {
        // If the first side lacks the column, its rows have the column's initial default.
        let value = initial_default(field).and_then(|value| {
            let value = ScalarValue::try_from_array(&value, 0).ok()?;
            value.cast_to(field.data_type()).ok()
        });
        let none = || ScalarValue::try_from(field.data_type()).ok();
        return Some(ComparedColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            before: lit(value.or_else(none)?),
            after,
            name_before: None,
            is_after: true,
        });
    };
    let data_type = common_type(other.data_type(), field.data_type())?;
    let read = |expr: Expr, own: &DataType| {
        if own.equals_datatype(&data_type) { expr } else { cast(expr, data_type.clone()) }
    };
    Some(ComparedColumn {
        name: field.name().clone(),
        before: read(column(other.name()), other.data_type()),
        after: read(after, field.data_type()),
        data_type,
        name_before: Some(other.name().clone()),
        is_after: true,
    })
}

/// Returns the type in which values of two types are compared; `None` if they cannot be compared.
fn common_type(before: &DataType, after: &DataType) -> Option<DataType> {
    if before.equals_datatype(after) || widens(before, after) {
        return Some(after.clone());
    }
    if widens(after, before) {
        return Some(before.clone());
    }
    let as_text = |data_type: &DataType| !data_type.is_nested() && !is_bytes(data_type);
    (as_text(before) && as_text(after)).then_some(DataType::Utf8View)
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::BinaryView | DataType::Binary | DataType::FixedSizeBinary(_))
}

/// Returns true if Iceberg allows the promotion from one type to the other.
fn widens(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Int32, DataType::Int64)
        | (DataType::Float32, DataType::Float64)
        | (DataType::Date32, DataType::Timestamp(_, None)) => true,
        (DataType::Decimal128(one, scale), DataType::Decimal128(other, other_scale)) => {
            scale == other_scale && one <= other
        }
        (DataType::Timestamp(from, zone), DataType::Timestamp(to, other)) => {
            zone == other && (from, to) == (&TimeUnit::Microsecond, &TimeUnit::Nanosecond)
        }
        _ => false,
    }
}
