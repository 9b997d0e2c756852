//! Cache of the columns of SQL models that were checked before, so that a plan checks only the
//! models that changed since an earlier plan.

use std::sync::Arc;

use headwater_engine::QueryColumns;
use moka::sync::Cache;

use crate::column_inference::OutputColumns;

/// Number of models whose columns are kept.
const CAPACITY: u64 = 20_000;

/// The columns of models that passed their check. Clones share the entries.
#[derive(Clone)]
pub(crate) struct CheckedQueryCache(Cache<String, Arc<CheckedQuery>>);

/// The columns of a checked model and of its inputs.
pub(crate) struct CheckedQuery {
    /// Columns of the inputs at the time of the check.
    pub inputs: Vec<OutputColumns>,
    /// Columns of the output.
    pub output: OutputColumns,
    /// Columns of the query, each with the input columns it is computed from, if they are known.
    pub query: Option<QueryColumns>,
}

impl CheckedQueryCache {
    pub fn new() -> Self {
        CheckedQueryCache(Cache::new(CAPACITY))
    }

    /// Returns the columns of the model with this fingerprint, if the model was checked with input
    /// columns equal to `inputs`. The fingerprint covers the query, its parameters, and the tables
    /// and views that it reads.
    pub fn find(&self, fingerprint: &str, inputs: &[OutputColumns]) -> Option<Arc<CheckedQuery>> {
        self.0.get(fingerprint).filter(|checked| checked.inputs == inputs)
    }

    pub fn insert(&self, fingerprint: &str, checked: Arc<CheckedQuery>) {
        self.0.insert(fingerprint.to_owned(), checked);
    }
}
