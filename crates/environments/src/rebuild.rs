//! Rebuild of an environment with the newest package versions that its requirements allow.
//!
//! A rebuild creates another folder. The old folder is removed when no server holds a lock on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use headwater_model::{PackageChange, RebuiltEnvironment};

use crate::environments::{Environments, ProgressCallback, lock};
use crate::{Error, Result, interpreter};

impl Environments {
    /// Resolves an environment's requirements again, and builds it with the newest versions.
    /// Returns the changed packages. Running calls keep the old build.
    pub async fn rebuild(
        self: &Arc<Self>,
        id: &str,
        on_progress: ProgressCallback<'_>,
    ) -> Result<RebuiltEnvironment> {
        let _lock = lock(&self.folder.join(format!("{id}.lock"))).await?;
        let gone = || Error::NotFound { id: id.to_owned() };
        let before = self.read_summary(id).await.ok_or_else(gone)?;
        let interpreter = interpreter::find(&self.search, Some(&before.python))?;
        let requirements = before.requirements.clone();
        let build = self.build(&interpreter, requirements, true, on_progress).await?;
        let environment = self.publish(id, &interpreter, build)?;
        let changed = changes(&before.packages, &environment.packages);
        self.add_known(environment);
        let environment = self.read_summary(id).await.ok_or_else(gone)?;
        Ok(RebuiltEnvironment { environment, changed })
    }
}

fn changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> BTreeMap<String, PackageChange> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (from, to) = (before.get(name).cloned(), after.get(name).cloned());
        (from != to).then(|| (name.clone(), PackageChange { from, to }))
    };
    names.into_iter().filter_map(change).collect()
}
