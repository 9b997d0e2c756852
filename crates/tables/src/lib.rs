//! Apache Iceberg tables on object storage.
//!
//! [`Tables`] creates, loads, writes and commits tables, plans scans from a cache of decoded
//! manifests, and reads columns by field id. A [`Table`] is one immutable state of one table,
//! identified by the location of its metadata file. All files are plain Iceberg files that any
//! engine can open. The files are durable when a call returns; local files are fsynced.
//!
//! This crate does not update refs: the catalog records the current metadata file of each table. A
//! commit only creates a new metadata file to which no ref points yet.

mod appended_files;
mod cache;
mod cached_manifest;
mod commit;
mod deletes;
mod earlier_partition_specs;
mod file_stat_cache;
mod listing;
mod maintenance;
mod metadata_files;
mod metadata_json;
mod operation;
mod options;
mod read;
mod row_ids;
mod scan_plan;
mod snapshot_ancestry;
mod staged_files;
mod table;
mod tables;
mod view;
mod write;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use headwater_table_format::{
    column_defaults, column_metrics, foreign_types, listed_snapshots, manifest, manifest_entry,
    metadata, metadata_log, partition, partition_transform, storage, time_transforms,
    type_promotion, types, value_conversion,
};

pub use cached_manifest::CachedManifest;
pub use column_defaults::{
    INITIAL as INITIAL_DEFAULT, WRITE as WRITE_DEFAULT, default_text, initial_default, text_of,
    with_default, without_defaults, without_keys, write_default,
};
pub use commit::alter::{Alteration, ColumnPath, ColumnPosition};
pub use commit::create_and_evolve::check_table;
pub use commit::manifests::{AddedFiles, FilesToRemove};
pub use commit::partition_and_sort_order::PartitionFieldRef;
pub use commit::{CommitKind, SnapshotUpdate, commit_metadata, edited_metadata, metadata_builder};
pub use deletes::{DeleteFile, DeleteKey, Fingerprint, RowDeletes};
pub use foreign_types::{FOREIGN_TYPE, foreign_column};
pub use headwater_table_format::{
    COMMENT, ChangeScope, Error, FIELD_ID, LAST_UPDATED, NAMES, Positions, REACH, ROW_ID, Result,
};
pub use listed_snapshots::referenced_snapshots;
pub use listing::{ListedFile, ListedManifest, ListedSnapshot};
pub use maintenance::{
    Bin, BinPackOptions, MaintenancePlanner, ReachableFiles, RowOrder, SnapshotSet, SortColumn,
    StateReport, WarehouseFile, WarehouseFiles,
};
pub use manifest_entry::with_row_id;
pub use metadata_files::MetadataFiles;
pub use metadata_json::GC_ENABLED;
pub use metadata_log::set_timestamp;
pub use operation::{CreateTable, FileFilter, RetainedRows, RowRewrite, TableOperation};
pub use options::TablesOptions;
pub use read::{align, read_with_schema};
pub use row_ids::{
    NAMES as LINEAGE, RewriteReader, RowIdRuns, RowIds, fields as lineage_fields, has_row_ids,
    own_columns, with_row_ids, without_ids, without_ids_after_base, without_lineage,
};
pub use scan_plan::{DataFile, ScanPlan};
pub use snapshot_ancestry::{
    KEYS_PROPERTY, MERGED, MERGED_METADATA, PICKED, PROFILE, READ_UP_TO, SnapshotAncestry,
    TableHistory, UNDONE, merged_by, picked_by, undone_by,
};
pub use staged_files::StagedFiles;
pub use storage::{
    CleanupGuard, CloudSettings, CloudUrl, FailureCause, Storage, StoreTimeouts, is_reserved,
};
pub use table::{Table, Totals, name_mapping};
pub use tables::Tables;
pub use time_transforms::unbound as unbound_spec;
pub use type_promotion::{promote_defaults, promoted_default};
pub use types::schema::{entry_fields, field_id, names_of};
pub use types::{
    FIELD_METADATA_KEYS, field_type_name, has_nanoseconds, in_microseconds, map_within,
    normalise_schema, parse_type, type_name, without_nanoseconds,
};
pub use view::{SqlView, ViewDefinition, ViewMerge, ViewMergeResult, Views, build as build_view};
pub use write::{check_types, check_values};

/// A stream of record batches of one schema.
pub type BatchStream =
    futures::stream::BoxStream<'static, std::result::Result<RecordBatch, ArrowError>>;
