//! SQL models that were parsed before, so that a project that is parsed again costs only the files
//! that changed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use headwater_sql::time_travel::Constants;
use moka::sync::Cache;

use crate::source::SourceText;
use crate::{Result, Step, bauplan, sql};

/// Total size in bytes of the files whose models are kept.
const CAPACITY: u64 = 32 << 20;

/// Everything on which a parsed model depends.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    path: String,
    text: String,
    /// Address of the function that evaluates constant expressions.
    constants: usize,
}

static PARSED: LazyLock<Cache<Key, Arc<Step>>> = LazyLock::new(|| {
    let size = |key: &Key, _: &Arc<Step>| u32::try_from(key.text.len()).unwrap_or(u32::MAX);
    Cache::builder().max_capacity(CAPACITY).weigher(size).build()
});

/// Parses a SQL file as a model, or returns the model parsed from the same text before.
pub(super) fn parse(
    source: &SourceText<'_>,
    namespace: &str,
    files: &BTreeMap<String, String>,
    constants: Constants,
) -> Result<Step> {
    if bauplan::sql::may_read_files(source.text) {
        return sql::parse(source, namespace, files, constants);
    }
    let (path, text) = (source.path.to_string(), source.text.to_owned());
    let namespace = namespace.to_owned();
    let key = Key { namespace, path, text, constants: constants as usize };
    if let Some(step) = PARSED.get(&key) {
        return Ok(Step::clone(&step));
    }
    let step = sql::parse(source, &key.namespace, files, constants)?;
    PARSED.insert(key, Arc::new(step.clone()));
    Ok(step)
}
