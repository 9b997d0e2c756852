//! Tables and namespaces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ObjectOwner, TableName, Timestamp};

/// A table at a ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Table {
    /// The table's name, without the default namespace.
    #[schema(value_type = String)]
    pub name: TableName,
    /// The table's namespace.
    pub namespace: String,
    /// Iceberg's table id.
    pub id: String,
    /// The table's columns, in order.
    pub columns: Vec<Column>,
    /// The table's partition fields, in order.
    pub partition: Vec<PartitionField>,
    /// The sort order of written rows; empty if the table has no sort order, or a sort order that
    /// Headwater does not support.
    #[serde(default)]
    pub sort: Vec<SortField>,
    /// The columns that identify the table's rows: Iceberg's identifier fields.
    #[serde(default)]
    pub identifier: Vec<String>,
    /// The table's Iceberg format version: 1, 2 or 3.
    #[serde(default)]
    pub format_version: u8,
    /// Number of rows in the current snapshot.
    pub rows: u64,
    /// Number of data files in the current snapshot.
    pub files: u64,
    /// Size in bytes of the data files in the current snapshot.
    pub bytes: u64,
    /// The current Iceberg snapshot; null if no rows have been written yet.
    pub snapshot: Option<i64>,
    /// The time of the current snapshot.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated: Option<Timestamp>,
    /// The location of the Iceberg metadata file, which any engine can open.
    pub metadata_location: String,
    /// Iceberg's table properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// True if a row filter or column mask applies to the reader. Then the numbers of rows, files
    /// and bytes are 0, and the snapshot and the metadata location are omitted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricted: bool,
    /// The last maintenance of the table on this branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Box<crate::TableMaintenance>>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// The column's type, in Iceberg's notation: `long`, `timestamptz`, `decimal(10, 2)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// True if nulls are allowed.
    pub nullable: bool,
    /// Iceberg's field id.
    pub field_id: i32,
    /// The column's default value as SQL: `1`, `'open'`. Absent if the default is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The column's comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A column of a sort order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SortField {
    /// The column.
    pub column: String,
    /// True if the order is descending.
    pub descending: bool,
    /// True if nulls are ordered first.
    pub nulls_first: bool,
}

impl std::fmt::Display for SortField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = if self.descending { " DESC" } else { "" };
        let nulls = if self.nulls_first { "FIRST" } else { "LAST" };
        write!(f, "{}{direction} NULLS {nulls}", self.column)
    }
}

/// A partition field: a column and a transform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionField {
    /// The source column.
    pub column: String,
    /// The transform: `identity`, `day`, `bucket[16]`.
    #[schema(value_type = String)]
    pub transform: Transform,
}

/// An Iceberg partition transform, in Iceberg's notation: `day`, `bucket[16]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Transform {
    /// The unchanged value.
    Identity,
    /// The year of a date or timestamp.
    Year,
    /// The month of a date or timestamp.
    Month,
    /// The day of a date or timestamp.
    Day,
    /// The hour of a timestamp.
    Hour,
    /// The hash of the value modulo this number of buckets.
    Bucket(u32),
    /// Text truncated to this number of characters, or a number rounded down to a multiple of this
    /// number.
    Truncate(u32),
    /// No partitioning: all rows are in one partition.
    Void,
}

impl std::fmt::Display for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Transform::Identity => f.write_str("identity"),
            Transform::Year => f.write_str("year"),
            Transform::Month => f.write_str("month"),
            Transform::Day => f.write_str("day"),
            Transform::Hour => f.write_str("hour"),
            Transform::Bucket(count) => write!(f, "bucket[{count}]"),
            Transform::Truncate(width) => write!(f, "truncate[{width}]"),
            Transform::Void => f.write_str("void"),
        }
    }
}

impl From<Transform> for String {
    fn from(transform: Transform) -> String {
        transform.to_string()
    }
}

impl TryFrom<String> for Transform {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, width) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((name, width)) => (name, Some(width)),
            None => (text.as_str(), None),
        };
        Transform::named(name, width)
            .ok_or_else(|| format!("`{text}` is not a partition transform"))
    }
}

impl Transform {
    /// Returns the transform with this name; `bucket` and `truncate` also need a width.
    fn named(name: &str, width: Option<&str>) -> Option<Self> {
        let name = name.to_lowercase();
        let Some(width) = width else {
            return match name.as_str() {
                "identity" => Some(Transform::Identity),
                "year" | "years" => Some(Transform::Year),
                "month" | "months" => Some(Transform::Month),
                "day" | "days" => Some(Transform::Day),
                "hour" | "hours" => Some(Transform::Hour),
                "void" => Some(Transform::Void),
                _ => None,
            };
        };
        let width = width.trim().parse().ok().filter(|width| (1..=MAX_WIDTH).contains(width))?;
        match name.as_str() {
            "bucket" => Some(Transform::Bucket(width)),
            "truncate" => Some(Transform::Truncate(width)),
            _ => None,
        }
    }
}

/// Maximum number of buckets, and maximum width of a `truncate` transform.
const MAX_WIDTH: u32 = i32::MAX as u32;

impl std::fmt::Display for PartitionField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let column = &self.column;
        match self.transform {
            Transform::Identity => f.write_str(column),
            Transform::Bucket(count) => write!(f, "bucket({count}, {column})"),
            Transform::Truncate(width) => write!(f, "truncate({width}, {column})"),
            other => write!(f, "{other}({column})"),
        }
    }
}

impl std::str::FromStr for PartitionField {
    type Err = crate::name::NameError;

    /// Parses `column`, `day(column)`, `bucket(16, column)` or `truncate(4, column)`, with the
    /// arguments of `bucket` and `truncate` in either order.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let invalid =
            |reason| crate::name::NameError { name: text.into(), what: "partition", reason };
        let form = "a partition is written as `column`, `day(column)` or `bucket(16, column)`";
        let Some((name, rest)) = text.split_once('(') else {
            return PartitionField::of(text, Transform::Identity).ok_or_else(|| invalid(UNNAMED));
        };
        let name = name.trim();
        let inner = rest.strip_suffix(')').ok_or_else(|| invalid(form))?;
        let (column, width) = match inner.split_once(',') {
            None => (inner, None),
            Some((one, other)) if is_number(one) => (other, Some(one)),
            Some((one, other)) => (one, Some(other)),
        };
        let transform = Transform::named(name, width).ok_or_else(|| invalid(form))?;
        PartitionField::of(column, transform).ok_or_else(|| invalid(UNNAMED))
    }
}

/// Error text for a partition field without a column.
const UNNAMED: &str = "the column is missing";

fn is_number(text: &str) -> bool {
    text.trim().parse::<u32>().is_ok()
}

impl PartitionField {
    fn of(column: &str, transform: Transform) -> Option<Self> {
        let column = column.trim();
        (!column.is_empty()).then(|| PartitionField { column: column.to_owned(), transform })
    }

    /// Splits partition fields at commas outside parentheses.
    pub fn split(text: &str) -> Vec<&str> {
        let (mut found, mut depth, mut first) = (Vec::new(), 0_i32, 0);
        for (at, letter) in text.char_indices() {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(text[first..at].trim());
                    first = at + 1;
                }
                _ => {}
            }
        }
        found.push(text[first..].trim());
        found
    }
}

/// A namespace at a ref.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Namespace {
    /// The namespace's name.
    pub name: String,
    /// The namespace's properties.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The user that created the namespace; absent if the lake's owner created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectOwner>,
}

/// Request for a new namespace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateNamespace {
    /// The name of the new namespace.
    pub name: String,
}
