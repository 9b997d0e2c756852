//! Three-way merge of the lists of imported files.

use std::sync::Arc;

use bytes::Bytes;
use headwater_model::TableName;
use headwater_store::Store;

use crate::error::{Error, Result};
use crate::imported_files::{ImportedFileMap, ImportedFiles};

/// The list of files that were imported into one state of a table.
#[derive(Debug, Clone)]
pub(super) enum ImportList {
    /// The list in a snapshot summary, as the value of its property.
    Stored(Option<String>),
    /// The list of a merge base that was computed from several merge bases. No snapshot contains
    /// this list.
    Merged(Arc<ImportedFileMap>),
}

impl ImportList {
    async fn load(&self, store: &dyn Store, table: &TableName) -> Result<Arc<ImportedFileMap>> {
        match self {
            ImportList::Stored(value) => {
                Ok(Arc::new(ImportedFileMap::load(store, table, value.as_deref()).await?))
            }
            ImportList::Merged(list) => Ok(list.clone()),
        }
    }

    fn is(&self, other: Option<&str>) -> bool {
        matches!(self, ImportList::Stored(value) if value.as_deref() == other)
    }
}

/// The result of merging two lists.
#[derive(Debug, Default)]
pub(super) struct MergedImports {
    /// The merged list, as the value for the snapshot summary.
    pub value: Option<String>,
    /// The store objects that the commit must add.
    pub objects: Vec<Bytes>,
    /// The files that both sides imported separately. A merge would contain the rows of these files
    /// twice.
    pub duplicates: Vec<String>,
}

/// Merges the base's list with the lists of both sides. All lists are given by their summary
/// values. Each item of `shared` stands for a change that both sides contain, such as a
/// cherry-picked import: the summary value before and after this change.
pub(super) async fn merge(
    store: &dyn Store,
    table: &TableName,
    base: &ImportList,
    [ours, theirs]: [Option<String>; 2],
    shared: &[[Option<String>; 2]],
) -> Result<MergedImports> {
    if base.is(theirs.as_deref()) {
        return Ok(MergedImports { value: ours, ..MergedImports::default() });
    }
    if base.is(ours.as_deref()) {
        return Ok(MergedImports { value: theirs, ..MergedImports::default() });
    }
    let base = base.load(store, table).await?;
    let mine = ImportedFileMap::load(store, table, ours.as_deref()).await?;
    let yours = ImportedFileMap::load(store, table, theirs.as_deref()).await?;
    let (duplicates, new): (Vec<_>, Vec<_>) =
        yours.without(&base).into_iter().partition(|file| mine.has_file(file));
    let shared = if duplicates.is_empty() {
        ImportedFileMap::default()
    } else {
        imported_by(store, table, shared).await?
    };
    let duplicates = duplicates.iter().filter(|file| !shared.has_file(file));
    let duplicates = duplicates.map(|file| file.path().to_owned()).collect();
    let removed = base.without(&yours);
    let mut objects = Vec::new();
    let (kept, current) = if removed.is_empty() {
        (Vec::new(), ours)
    } else {
        let removed = ImportedFileMap::of(removed);
        (mine.without(&removed), None)
    };
    let files: Vec<_> = kept.into_iter().chain(new).collect();
    if files.is_empty() {
        return Ok(MergedImports { value: current, objects, duplicates });
    }
    let added = ImportedFiles { files, again: true, known: None };
    let value = added.add_to(store, table, current.as_deref(), &mut objects).await?;
    Ok(MergedImports { value: Some(value), objects, duplicates })
}

/// Returns the files that changes imported. Each change is given by the summary values before and
/// after the change. Skips a change if the store no longer has its lists.
async fn imported_by(
    store: &dyn Store,
    table: &TableName,
    changes: &[[Option<String>; 2]],
) -> Result<ImportedFileMap> {
    let mut files = Vec::new();
    for [before, after] in changes.iter().filter(|[before, after]| before != after) {
        let before = ImportedFileMap::load(store, table, before.as_deref()).await;
        let after = ImportedFileMap::load(store, table, after.as_deref()).await;
        match (before, after) {
            (Ok(before), Ok(after)) => files.extend(after.without(&before)),
            (Err(Error::ImportState { .. }), _) | (_, Err(Error::ImportState { .. })) => {}
            (Err(error), _) | (_, Err(error)) => return Err(error),
        }
    }
    Ok(ImportedFileMap::of(files))
}

/// Merges the lists of two merge bases. The second value is true if both bases imported the same
/// file.
pub(super) async fn merge_bases(
    store: &dyn Store,
    table: &TableName,
    [base, one, other]: [&ImportList; 3],
) -> Result<(ImportList, bool)> {
    let base = base.load(store, table).await?;
    let one = one.load(store, table).await?;
    let other = other.load(store, table).await?;
    let (duplicates, new): (Vec<_>, Vec<_>) =
        other.without(&base).into_iter().partition(|file| one.has_file(file));
    let removed = ImportedFileMap::of(base.without(&other));
    let files = one.without(&removed).into_iter().chain(new).collect();
    Ok((ImportList::Merged(Arc::new(ImportedFileMap::of(files))), !duplicates.is_empty()))
}
