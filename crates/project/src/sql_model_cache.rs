//! Cache of parsed SQL models. If a project is parsed again, only the changed files are parsed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use headwater_sql::time_travel::ConstantEvaluatorFn;
use moka::sync::Cache;

use crate::source_location::SourceText;
use crate::{Result, Step, bauplan, sql_model};

/// Total size in bytes of the files whose models are kept.
const CAPACITY: u64 = 32 << 20;

/// Everything that determines the result of parsing a model.
#[derive(PartialEq, Eq, Hash)]
struct ModelCacheKey {
    namespace: String,
    path: String,
    text: String,
    /// Address of the function that evaluates constant expressions.
    constants: usize,
}

/// Size in bytes of a parsed model without its text and path, as an estimate.
const MODEL_BYTES: usize = 1024;

static PARSED: LazyLock<Cache<ModelCacheKey, Arc<Step>>> = LazyLock::new(|| {
    let size = |key: &ModelCacheKey, _: &Arc<Step>| {
        let bytes = key.text.len() + key.path.len() + key.namespace.len() + MODEL_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    };
    Cache::builder().max_capacity(CAPACITY).weigher(size).build()
});

/// Parses a SQL file as a model, or returns the cached model that was parsed from the same text.
pub(super) fn parse(
    source: &SourceText<'_>,
    namespace: &str,
    files: &BTreeMap<String, String>,
    constants: ConstantEvaluatorFn,
) -> Result<Step> {
    if bauplan::sql_settings::may_read_files(source.text) || may_name_version(source.text) {
        return sql_model::parse(source, namespace, files, constants);
    }
    let (path, text) = (source.path.to_string(), source.text.to_owned());
    let namespace = namespace.to_owned();
    let key = ModelCacheKey { namespace, path, text, constants: constants as usize };
    if let Some(step) = PARSED.get(&key) {
        return Ok(Step::clone(&step));
    }
    let step = sql_model::parse(source, &key.namespace, files, constants)?;
    PARSED.insert(key, Arc::new(step.clone()));
    Ok(step)
}

/// Returns true if a query may read a table at another version. The parsed model is not cached,
/// because the version can depend on the current time and the table is not an input.
pub fn may_name_version(sql: &str) -> bool {
    // Names with a version, such as `"flights@dev"`, `"flights~1"` and `"flights*2026-01-01"`.
    let times = |two: &[u8]| two[0].is_ascii_alphanumeric() && two[1] == b'*';
    let in_name = sql.contains(['"', '`'])
        && (sql.contains(['@', '~', '#']) || sql.as_bytes().windows(2).any(times));
    let mut words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mut before = words.next().unwrap_or_default();
    let mut in_clause = false;
    for word in words.filter(|word| !word.is_empty()) {
        let is = |before_is: &str| before.eq_ignore_ascii_case(before_is);
        in_clause |= (is("as") && word.eq_ignore_ascii_case("of"))
            || (is("at") && !word.eq_ignore_ascii_case("time"));
        before = word;
    }
    in_name || in_clause
}

#[cfg(test)]
mod tests {
    use super::may_name_version;

    #[test]
    fn versions_of_tables_are_recognised() {
        for sql in [
            "SELECT * FROM \"flights@dev\"",
            "SELECT * FROM \"flights~1\"",
            "SELECT * FROM \"flights*2026-01-01\"",
            "SELECT * FROM flights FOR VERSION AS\n OF 'dev'",
            "SELECT * FROM flights AT (TIMESTAMP => now())",
            "SELECT * FROM flights AT BRANCH dev",
        ] {
            assert!(may_name_version(sql), "{sql}");
        }
        for sql in [
            "-- number of flights\nSELECT count(*) AS n FROM flights",
            "SELECT \"Name\", day AT TIME ZONE 'UTC' AS day FROM flights",
        ] {
            assert!(!may_name_version(sql), "{sql}");
        }
    }
}
