//! The lists of imported files of two sides, merged three ways.

use bytes::Bytes;
use headwater_model::TableName;
use headwater_store::Store;

use crate::error::Result;
use crate::import::{Imported, ImportedFiles};

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

/// The list that both sides come to, from what the summaries of the base, ours and theirs say.
pub(super) async fn merge(
    store: &dyn Store,
    table: &TableName,
    [base, ours, theirs]: [Option<String>; 3],
) -> Result<MergedImports> {
    if theirs == base {
        return Ok(MergedImports { value: ours, ..MergedImports::default() });
    }
    if ours == base {
        return Ok(MergedImports { value: theirs, ..MergedImports::default() });
    }
    let base = Imported::load(store, table, base.as_deref()).await?;
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
