//! Keys in the metadata of Arrow fields, for properties of Iceberg columns.

/// The field metadata key of the Iceberg field id.
pub const FIELD_ID: &str = "PARQUET:field_id";

/// The field metadata key of the column's names in the name mapping, as a JSON list. In files
/// without field ids, the column is found by these names.
pub const NAMES: &str = "headwater.names";

/// The field metadata key of the column's comment.
pub const COMMENT: &str = "headwater.comment";

/// The reserved field id of `_row_id`.
pub const ROW_ID: i32 = 2_147_483_540;

/// The reserved field id of `_last_updated_sequence_number`.
pub const LAST_UPDATED: i32 = 2_147_483_539;
