//! The lists of imported files of two sides, merged three ways.

use std::sync::Arc;

use bytes::Bytes;
use headwater_model::TableName;
use headwater_store::Store;

use crate::error::Result;
use crate::imported_files::{Imported, ImportedFiles};

/// The list of a state of a table.
#[derive(Debug, Clone)]
pub(super) enum List {
    /// As the summary of a snapshot names it.
    Named(Option<String>),
    /// Of a state that only a merge came to on the way.
    Made(Arc<Imported>),
}

impl List {
    async fn load(&self, store: &dyn Store, table: &TableName) -> Result<Arc<Imported>> {
        match self {
            List::Named(value) => {
                Ok(Arc::new(Imported::load(store, table, value.as_deref()).await?))
            }
            List::Made(list) => Ok(list.clone()),
        }
    }

    fn is(&self, other: Option<&str>) -> bool {
        matches!(self, List::Named(value) if value.as_deref() == other)
    }
}

/// The list that both sides come to.
#[derive(Debug, Default)]
pub(super) struct MergedImports {
    /// What the snapshot's summary is to say.
    pub value: Option<String>,
    /// What the store must hold then.
    pub objects: Vec<Bytes>,
    /// The files that both sides imported, whose rows are there twice where both sides' rows are.
    pub twice: Vec<String>,
}

/// The list that both sides come to, from that of the base and what the summaries of ours and theirs say.
pub(super) async fn merge(
    store: &dyn Store,
    table: &TableName,
    base: &List,
    [ours, theirs]: [Option<String>; 2],
) -> Result<MergedImports> {
    if base.is(theirs.as_deref()) {
        return Ok(MergedImports { value: ours, ..MergedImports::default() });
    }
    if base.is(ours.as_deref()) {
        return Ok(MergedImports { value: theirs, ..MergedImports::default() });
    }
    let base = base.load(store, table).await?;
    let mine = Imported::load(store, table, ours.as_deref()).await?;
    let yours = Imported::load(store, table, theirs.as_deref()).await?;
    let (twice, new): (Vec<_>, Vec<_>) =
        yours.without(&base).into_iter().partition(|file| mine.has_file(file));
    let twice = twice.iter().map(|file| file.path().to_owned()).collect();
    let gone = base.without(&yours);
    let mut objects = Vec::new();
    let (kept, current) = if gone.is_empty() {
        (Vec::new(), ours)
    } else {
        let gone = Imported::of(gone);
        (mine.without(&gone), None)
    };
    let files: Vec<_> = kept.into_iter().chain(new).collect();
    if files.is_empty() {
        return Ok(MergedImports { value: current, objects, twice });
    }
    let added = ImportedFiles { files, again: true, known: None };
    let value = added.add_to(store, table, current.as_deref(), &mut objects).await?;
    Ok(MergedImports { value: Some(value), objects, twice })
}

/// The list of a state that merging two others gives, and whether both imported the same files.
pub(super) async fn merge_bases(
    store: &dyn Store,
    table: &TableName,
    [base, one, other]: [&List; 3],
) -> Result<(List, bool)> {
    let base = base.load(store, table).await?;
    let one = one.load(store, table).await?;
    let other = other.load(store, table).await?;
    let (twice, new): (Vec<_>, Vec<_>) =
        other.without(&base).into_iter().partition(|file| one.has_file(file));
    let gone = Imported::of(base.without(&other));
    let files = one.without(&gone).into_iter().chain(new).collect();
    Ok((List::Made(Arc::new(Imported::of(files))), !twice.is_empty()))
}
