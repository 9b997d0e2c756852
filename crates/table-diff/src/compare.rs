//! The comparison of two commits or tables, and the limits of one response.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use headwater_catalog::{TableChange, TableEntry};
use headwater_engine::{Engine, Result};
use headwater_lake::{CommitView, DiffSide, diff_tables};
use headwater_model::{
    CompareRows, ComparisonMethod, Diff, RefSpec, RowsDiff, TableComparison, TableDiff, TableName,
};
use headwater_tables::ScanPlan;

use crate::compared_columns::ComparedColumns;
use crate::diff_page::{PAGE_BYTES_MAX, PageRange};

/// Number of tables whose metadata is read concurrently.
pub(crate) const TABLES_AT_ONCE: usize = 8;

/// Maximum numbers of rows and bytes in differing files up to which `auto`, the default, compares
/// rows.
pub(crate) const READ_ROWS_MAX: u64 = 5_000_000;
pub(crate) const READ_BYTES_MAX: u64 = 512 << 20;

/// Maximum bytes of rows in one response, over all tables; the JSON is a few times larger.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Reason in the response if a table's rows are left out.
pub(crate) const NOT_SHOWN: &str =
    "the rows of previous tables fill the page; compare this table alone to see its rows";

/// Options of a comparison.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Key columns. If empty, the table's declared key is used.
    pub key: Vec<String>,
    /// Mode of the row comparison.
    pub compare: CompareRows,
    /// If true, column statistics are computed from the rows where metadata has only bounds.
    pub statistics: bool,
    /// Number of differing rows to skip.
    pub skip: u64,
    /// Maximum rows returned per table.
    pub limit: usize,
    /// Memory limit in bytes before spilling; `None` uses the engine's default.
    pub memory_bytes: Option<u64>,
}

/// A table at a ref.
#[derive(Debug, Clone)]
pub struct ComparedTable {
    /// The ref at which the table is read.
    pub reference: RefSpec,
    /// Table name.
    pub table: TableName,
    /// Snapshot id; `None` is the current snapshot.
    pub snapshot: Option<i64>,
}

/// The two sides of a comparison.
pub(crate) struct ComparedSides<'a> {
    pub(crate) name: TableName,
    pub(crate) before: Option<&'a DiffSide>,
    pub(crate) after: Option<&'a DiffSide>,
}

/// Metadata of a changed table or view.
pub(crate) enum LoadedMetadata {
    View(Box<TableDiff>),
    Table { name: TableName, before: Option<Box<DiffSide>>, after: Option<Box<DiffSide>> },
}

/// Compares two states of the lake or of a table with the query engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct StateComparer {
    pub(crate) engine: Engine,
}

impl StateComparer {
    /// Creates a comparer of states of the engine's lake.
    pub fn new(engine: Engine) -> Self {
        StateComparer { engine }
    }

    /// Compares the tables and views of two refs.
    pub async fn diff(&self, from: &RefSpec, to: &RefSpec, options: &DiffOptions) -> Result<Diff> {
        let (from, to) = (self.engine.lake().view(from).await?, self.engine.lake().view(to).await?);
        let changes = self.engine.lake().catalog().diff(from.commit(), to.commit()).await?;
        let loaded = stream::iter(changes).map(|change| self.load_change((&from, &to), change));
        let mut loaded = std::pin::pin!(loaded.buffered(TABLES_AT_ONCE));
        // Compare the tables one at a time, so that each table can use the part of the response's
        // byte limit that the previous tables have left.
        let (mut tables, mut bytes_left) = (Vec::new(), ANSWER_BYTES_MAX);
        while let Some(change) = loaded.try_next().await? {
            tables.push(match change {
                LoadedMetadata::View(diff) => *diff,
                LoadedMetadata::Table { name, before, after } => {
                    let (before, after) = (before.as_deref(), after.as_deref());
                    let sides = ComparedSides { name, before, after };
                    self.diff_sides(sides, options, &mut bytes_left).await?
                }
            });
        }
        Ok(Diff { from: from.commit(), to: to.commit(), tables })
    }

    /// Loads the metadata of a changed table.
    pub(crate) async fn load_change(
        &self,
        (from, to): (&CommitView, &CommitView),
        change: TableChange,
    ) -> Result<LoadedMetadata> {
        let lake = self.engine.lake();
        if [&change.from, &change.to].into_iter().flatten().any(TableEntry::is_view) {
            return Ok(LoadedMetadata::View(Box::new(lake.diff_view(change).await?)));
        }
        let before = lake.diff_side(from, change.from.as_ref(), None).await?.map(Box::new);
        let after = lake.diff_side(to, change.to.as_ref(), None).await?.map(Box::new);
        Ok(LoadedMetadata::Table { name: change.table, before, after })
    }

    /// Compares two table states. The names can differ, and one side can be missing. Fails if
    /// neither ref has the table.
    pub async fn diff_table(
        &self,
        from: &ComparedTable,
        to: &ComparedTable,
        options: &DiffOptions,
    ) -> Result<TableComparison> {
        let lake = self.engine.lake();
        let views = (lake.view(&from.reference).await?, lake.view(&to.reference).await?);
        let (first, second) = (&from.table, &to.table);
        let found = views.0.state().find(&first.namespace, &first.name).await?;
        let other = views.1.state().find(&second.namespace, &second.name).await?;
        let name = match (&other, &found) {
            (Some((name, _)), _) | (None, Some((name, _))) => name.clone(),
            (None, None) => return Err(views.1.not_found(second).await?.into()),
        };
        let (before, after) = (found.map(|(_, entry)| entry), other.map(|(_, entry)| entry));
        let commits = (views.0.commit(), views.1.commit());
        if [&before, &after].into_iter().flatten().any(TableEntry::is_view) {
            let change = TableChange { table: name, from: before, to: after };
            let diff = lake.diff_view(change).await?;
            let (from, to) = commits;
            return Ok(TableComparison { from, to, from_snapshot: None, to_snapshot: None, diff });
        }
        let before = lake.diff_side(&views.0, before.as_ref(), from.snapshot).await?;
        let after = lake.diff_side(&views.1, after.as_ref(), to.snapshot).await?;
        let sides = ComparedSides { name, before: before.as_ref(), after: after.as_ref() };
        let mut bytes_left = ANSWER_BYTES_MAX;
        let diff = self.diff_sides(sides, options, &mut bytes_left).await?;
        let snapshot = |side: &Option<DiffSide>| side.as_ref().and_then(DiffSide::snapshot);
        Ok(TableComparison {
            from: commits.0,
            to: commits.1,
            from_snapshot: snapshot(&before),
            to_snapshot: snapshot(&after),
            diff,
        })
    }

    pub(crate) async fn diff_sides(
        &self,
        sides: ComparedSides<'_>,
        options: &DiffOptions,
        bytes_left: &mut usize,
    ) -> Result<TableDiff> {
        let mut diff = diff_tables(sides.name.clone(), sides.before, sides.after);
        let compared = ComparedColumns::of(sides.before, sides.after, &options.key, &sides.name)?;
        let files = compared.files(sides.before, sides.after);
        if diff.files_added + diff.files_removed > 0 {
            diff.statistics = self.diff_statistics(&sides, &compared, options).await?;
        }
        let limit = if *bytes_left == 0 { 0 } else { options.limit };
        let bytes_max = PAGE_BYTES_MAX.min(*bytes_left);
        let window = PageRange { skip: options.skip, limit, bytes_max };
        let mut outcome = self.diff_rows(&compared, files, window, options).await?;
        *bytes_left = bytes_left.saturating_sub(outcome.bytes);
        if limit < options.limit && outcome.rows.reason.is_none() {
            outcome.rows.reason = Some(NOT_SHOWN.to_owned());
        }
        (diff.rows_removed, diff.rows_added) = (outcome.removed, outcome.added);
        diff.rows_changed = outcome.changed;
        diff.rows = Some(outcome.rows);
        Ok(diff)
    }

    /// Compares the rows of the differing files.
    pub(crate) async fn diff_rows(
        &self,
        compared: &ComparedColumns,
        (before, after): (Option<ScanPlan>, Option<ScanPlan>),
        window: PageRange,
        options: &DiffOptions,
    ) -> Result<RowComparison> {
        let full = |plan: &ScanPlan| !plan.files().is_empty();
        let much = [&before, &after]
            .into_iter()
            .flatten()
            .fold((0, 0), |sum, plan| (sum.0 + plan.rows(), sum.1 + plan.bytes()));
        let little = much.0 <= READ_ROWS_MAX && much.1 <= READ_BYTES_MAX;
        let read = match options.compare {
            CompareRows::Auto => little,
            CompareRows::Always => true,
            CompareRows::Never => false,
        };
        match (before.filter(full), after.filter(full)) {
            (None, None) => Ok(RowComparison::same(compared)),
            (Some(before), Some(after)) if read => {
                self.compare_rows(compared, (&before, &after), window, options).await
            }
            (Some(_), Some(_)) => Ok(RowComparison::not_compared(compared, options.compare)),
            (one, other) => {
                let (plan, comes) = match (one, other) {
                    (Some(plan), _) => (plan, false),
                    (None, Some(plan)) => (plan, true),
                    (None, None) => return Ok(RowComparison::same(compared)),
                };
                let rows =
                    self.engine.lake().tables().deletes().live_rows(plan.files().to_vec()).await?;
                let mut outcome = RowComparison::one_sided(compared, rows, comes);
                if options.compare != CompareRows::Never && window.limit > 0 {
                    let page =
                        self.page_of_one(compared, (&plan, comes), window, (read, options)).await?;
                    (outcome.rows.rows, outcome.bytes) = (page.rows, page.bytes);
                    // If rows were not compared, they have no defined order, so there is no next
                    // page.
                    outcome.more = page.more && read;
                }
                Ok(outcome.numbered(window))
            }
        }
    }
}

/// Result of a row comparison.
pub(crate) struct RowComparison {
    pub(crate) removed: Option<u64>,
    pub(crate) added: Option<u64>,
    pub(crate) changed: Option<u64>,
    /// True if there are more rows after this page.
    pub(crate) more: bool,
    /// Bytes of the rows in this page.
    pub(crate) bytes: usize,
    pub(crate) rows: RowsDiff,
}

impl RowComparison {
    pub(crate) fn new(compared: &ComparedColumns, how: ComparisonMethod) -> Self {
        RowComparison {
            removed: Some(0),
            added: Some(0),
            changed: (!compared.key.is_empty()).then_some(0),
            more: false,
            bytes: 0,
            rows: RowsDiff {
                how,
                reason: None,
                key: compared.key.clone(),
                changed_columns: Vec::new(),
                duplicate_keys: 0,
                null_keys: 0,
                not_compared: compared.left_out.clone(),
                rows: Vec::new(),
                next_page_token: None,
            },
        }
    }

    pub(crate) fn same(compared: &ComparedColumns) -> Self {
        RowComparison::new(compared, ComparisonMethod::Metadata)
    }

    pub(crate) fn one_sided(compared: &ComparedColumns, rows: u64, comes: bool) -> Self {
        let (removed, added) = if comes { (0, rows) } else { (rows, 0) };
        let new = RowComparison::new(compared, ComparisonMethod::Metadata);
        RowComparison { removed: Some(removed), added: Some(added), ..new }
    }

    pub(crate) fn not_compared(compared: &ComparedColumns, compare: CompareRows) -> Self {
        let mut new = RowComparison::new(compared, ComparisonMethod::NotCompared);
        (new.removed, new.added, new.changed) = (None, None, None);
        let reason = match compare {
            CompareRows::Never => "the comparison of rows is disabled",
            _ => "the changed files are large; compare their rows with `--compare always`",
        };
        new.rows.reason = Some(reason.to_owned());
        new
    }

    /// Sets the next page token to the index of the next row, if more rows follow. The caller
    /// encodes the index and the request into the final token.
    pub(crate) fn numbered(mut self, window: PageRange) -> Self {
        let next = window.skip + self.rows.rows.len() as u64;
        self.rows.next_page_token = self.more.then(|| next.to_string());
        self
    }
}

/// Returns the columns with changes, by descending count.
pub(crate) fn changed_columns(
    counts: BTreeMap<String, u64>,
) -> Vec<headwater_model::ChangedColumn> {
    let counts = counts.into_iter().filter(|(_, rows)| *rows > 0);
    let mut counts: Vec<_> =
        counts.map(|(column, rows)| headwater_model::ChangedColumn { column, rows }).collect();
    counts.sort_by_key(|changed| std::cmp::Reverse(changed.rows));
    counts
}
