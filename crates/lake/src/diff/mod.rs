//! Compares two states of a table or view by their metadata: columns, layout, properties, files and
//! counts.
//!
//! The catalog finds the changed tables without opening files; only the changed tables are opened.
//! The engine compares rows: it reads the files that [`DiffSide::files_not_in`] returns.

mod columns;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use headwater_catalog::{TableChange, TableEntry};
use headwater_model::{ChangeKind, PropertyDiff, TableDiff, TableName, ViewDiff, ViewQuery};
use headwater_tables::{DataFile, ScanPlan, SortColumn, SqlView, Table};

use crate::commit_view::CommitView;
use crate::error::Result;
use crate::lake::Lake;

pub use columns::ColumnMatch;

/// One side of a comparison: a table at one of its snapshots.
#[derive(Debug, Clone)]
pub struct DiffSide {
    table: Table,
    snapshot: Option<i64>,
    plan: ScanPlan,
    rows: u64,
}

impl DiffSide {
    /// Creates a side from a table at a snapshot; `None` selects the current snapshot.
    pub async fn of(lake: &Lake, table: Table, snapshot: Option<i64>) -> Result<Self> {
        let tables = lake.tables();
        let plan = tables.plan(&table, snapshot).await?;
        let rows = if plan.has_deletes() {
            tables.deletes().live_rows(plan.files().to_vec()).await?
        } else {
            plan.rows()
        };
        let snapshot = snapshot.or(table.snapshot_id());
        Ok(DiffSide { table, snapshot, plan, rows })
    }

    /// Returns the table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Returns the snapshot id; `None` for a table without snapshots.
    pub fn snapshot(&self) -> Option<i64> {
        self.snapshot
    }

    /// Returns the scan plan with the table's files.
    pub fn plan(&self) -> &ScanPlan {
        &self.plan
    }

    /// Returns the table's columns.
    pub fn schema(&self) -> &SchemaRef {
        self.plan.schema()
    }

    /// Returns the exact number of rows of this side.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the files of this side that the other side lacks or to which other delete files
    /// apply there. The files are in the order of the plan.
    pub fn files_not_in(&self, other: Option<&DiffSide>) -> ScanPlan {
        let files = other.iter().flat_map(|side| side.plan.files().iter());
        let known: HashSet<_> = files.map(|file| file.state()).collect();
        let own = self.plan.files().iter().map(|file| !known.contains(&file.state()));
        self.plan.retain(&own.collect::<Vec<_>>())
    }

    /// Matches each column with a column of the side `before`; see [`ColumnMatch`].
    pub fn same_columns(&self, before: &DiffSide) -> Vec<ColumnMatch> {
        columns::same_columns(before, self)
    }

    /// Returns the table's identifier columns; empty if the table has none.
    pub fn key(&self) -> Vec<String> {
        self.table.identifier()
    }

    fn is_same(&self, other: &DiffSide) -> bool {
        self.table.metadata_location() == other.table.metadata_location()
            && self.snapshot == other.snapshot
    }
}

/// Returns the diff of a table, without rows and column statistics.
pub fn diff_tables(
    name: TableName,
    before: Option<&DiffSide>,
    after: Option<&DiffSide>,
) -> TableDiff {
    let kind = match (before, after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(before), Some(after)) if before.is_same(after) => ChangeKind::Same,
        _ => ChangeKind::Changed,
    };
    let own = |side: Option<&DiffSide>, other| side.map(|side| side.files_not_in(other));
    let (removed, added) = (own(before, after), own(after, before));
    let sum = |plan: &Option<ScanPlan>, of: fn(&DataFile) -> u64| -> u64 {
        plan.iter().flat_map(|plan| plan.files().iter()).map(|file| of(file)).sum()
    };
    let properties = |side: Option<&DiffSide>| side.map(|side| side.table.properties());
    TableDiff {
        table: name,
        kind,
        view: None,
        columns: columns::diff_columns(before, after),
        layout: diff_values(&layout(before), &layout(after)),
        properties: diff_values(
            &properties(before).unwrap_or_default(),
            &properties(after).unwrap_or_default(),
        ),
        files_added: sum(&added, |_| 1),
        files_removed: sum(&removed, |_| 1),
        bytes_added: sum(&added, |file| file.bytes),
        bytes_removed: sum(&removed, |file| file.bytes),
        rows_before: before.map(DiffSide::rows),
        rows_after: after.map(DiffSide::rows),
        rows_removed: None,
        rows_added: None,
        rows_changed: None,
        rows_in_files_added: sum(&added, |file| file.rows),
        rows_in_files_removed: sum(&removed, |file| file.rows),
        rows: None,
        statistics: Vec::new(),
    }
}

impl Lake {
    /// Returns a side of a comparison; `None` if the entry is missing or belongs to a view.
    pub async fn diff_side(
        &self,
        at: &CommitView,
        entry: Option<&TableEntry>,
        snapshot: Option<i64>,
    ) -> Result<Option<DiffSide>> {
        let Some(entry) = entry.filter(|entry| !entry.is_view()) else { return Ok(None) };
        let table = at.load(entry).await?;
        Ok(Some(DiffSide::of(self, table, snapshot).await?))
    }

    /// Returns the diff of a view. The diff has no query for a side that is a table.
    pub async fn diff_view(&self, change: TableChange) -> Result<TableDiff> {
        let before = self.view_side(change.from.as_ref()).await?;
        let after = self.view_side(change.to.as_ref()).await?;
        let queries = |side: &Option<SqlView>| {
            let all = side.iter().flat_map(SqlView::representations);
            all.map(|(dialect, sql)| ViewQuery { dialect, sql }).collect()
        };
        let schema = |side: &Option<SqlView>| {
            side.as_ref().map_or_else(|| Arc::new(Schema::empty()), SqlView::schema)
        };
        let properties =
            |side: &Option<SqlView>| side.as_ref().map(SqlView::properties).unwrap_or_default();
        let same = change.from == change.to;
        Ok(TableDiff {
            kind: if same { ChangeKind::Same } else { change.kind() },
            columns: columns::diff_by_name(&schema(&before), &schema(&after)),
            properties: diff_values(&properties(&before), &properties(&after)),
            view: Some(ViewDiff { before: queries(&before), after: queries(&after) }),
            ..diff_tables(change.table, None, None)
        })
    }

    async fn view_side(&self, entry: Option<&TableEntry>) -> Result<Option<SqlView>> {
        match entry.filter(|entry| entry.is_view()) {
            Some(entry) => Ok(Some(self.tables().views().load(&entry.metadata_location).await?)),
            None => Ok(None),
        }
    }
}

/// Returns the layout of a table as text: partitions, sort order, identifier columns, format
/// version.
fn layout(side: Option<&DiffSide>) -> BTreeMap<String, String> {
    let Some(side) = side else { return BTreeMap::new() };
    let table = &side.table;
    let joined = |parts: Vec<String>| (!parts.is_empty()).then(|| parts.join(", "));
    let partition = table.partition().iter().map(ToString::to_string).collect();
    let order = table.sort_order().unwrap_or_default().iter().map(order_of).collect();
    let all = [
        ("partition", joined(partition)),
        ("sort-order", joined(order)),
        ("identifier", joined(table.identifier())),
        ("format-version", Some(table.format_version().to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn order_of(column: &SortColumn) -> String {
    let direction = if column.descending { " desc" } else { "" };
    // By default, nulls are sorted as if they were the smallest values.
    let nulls = match (column.descending, column.nulls_first) {
        (false, false) => " nulls last",
        (true, true) => " nulls first",
        _ => "",
    };
    format!("{}{direction}{nulls}", column.name)
}

/// Returns the properties whose values differ, with both values.
fn diff_values(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<PropertyDiff> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let diff = |key: &String| {
        let (before, after) = (before.get(key).cloned(), after.get(key).cloned());
        (before != after).then(|| PropertyDiff { key: key.clone(), before, after })
    };
    keys.into_iter().filter_map(diff).collect()
}
