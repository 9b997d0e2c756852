//! The owner of a layer: the user that published its first version.
//!
//! The ownership ends when another user publishes a version, because the owner may not use the
//! files of that user. It also ends when the last version is deleted.

use headwater_model::ObjectOwner;

use crate::layer::{LayerChange, StoredLayer};
use crate::{Error, Result};

/// The user that changes a layer.
#[derive(Debug, Clone, Default)]
pub struct LayerUser {
    /// The user; `None` for the owner of the lake.
    pub user: Option<ObjectOwner>,
    /// The owner of the layer when the right of the user was checked, if the right depends on this
    /// owner. The change fails if the layer now has another owner.
    pub expected_owner: Option<ObjectOwner>,
}

impl LayerUser {
    /// Checks that the layer still has the owner on which the right of the user depends.
    ///
    /// Errors: `commit_conflict`.
    pub(crate) fn check(&self, layer: &StoredLayer) -> Result<()> {
        if self.expected_owner.is_some() && layer.owner != self.expected_owner {
            return Err(Error::Conflict { name: layer.name.clone() });
        }
        Ok(())
    }

    /// Sets the owner of a layer to which the user has applied a change.
    pub(crate) fn set_owner(&self, layer: &mut StoredLayer, change: &LayerChange) {
        let is_first = layer.versions.len() == 1;
        match change {
            LayerChange::Publish { .. } if is_first => layer.owner.clone_from(&self.user),
            LayerChange::Publish { .. } if layer.owner != self.user => layer.owner = None,
            LayerChange::Delete(_) if layer.versions.is_empty() => layer.owner = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_model::{ErrorCode, FixedClock, ProjectFiles, Timestamp, ToProblem};
    use headwater_store::MemoryStore;

    use super::*;
    use crate::FunctionStore;

    fn publish() -> LayerChange {
        let files = ProjectFiles::from([("python/shared.py".to_owned(), "x = 1".into())]);
        let code = FunctionStore::code(&files, None).expect("files");
        LayerChange::publish(code, "ada", String::new()).expect("a change")
    }

    fn user(name: &str, owner: Option<&str>) -> LayerUser {
        let created = Timestamp::UNIX_EPOCH;
        let account = |name: &str| ObjectOwner { user: name.to_owned(), created };
        LayerUser { user: Some(account(name)), expected_owner: owner.map(account) }
    }

    #[tokio::test]
    async fn a_layer_belongs_to_the_publisher_of_its_versions() {
        let clock = FixedClock::at(Timestamp::UNIX_EPOCH);
        let store = FunctionStore::new(Arc::new(MemoryStore::new()), Arc::new(clock));
        let (ana, bob, owner) = (user("ana", None), user("bob", None), LayerUser::default());
        let cases = [
            (&ana, publish(), Some("ana")),
            (&ana, publish(), Some("ana")),
            (&bob, LayerChange::Delete(2), Some("ana")),
            (&bob, publish(), None),
            (&ana, publish(), None),
            (&owner, LayerChange::Delete(1), None),
            (&owner, LayerChange::Delete(3), None),
            (&owner, LayerChange::Delete(4), None),
            (&bob, publish(), Some("bob")),
            (&owner, publish(), None),
            (&owner, LayerChange::Delete(5), None),
            (&bob, publish(), None),
        ];
        for (at, (by, change, expected)) in cases.into_iter().enumerate() {
            let layer = store.change_layer("deps", &change, by).await.expect("changed");
            let name = layer.owner.as_ref().map(|owner| owner.user.as_str());
            assert_eq!(name, expected, "step {at}");
            assert_eq!(store.layer("deps").await.expect("a layer"), layer);
        }
        for by in ["ana", "bob"] {
            let ended = store.change_layer("deps", &publish(), &user(by, Some("ana"))).await;
            let error = ended.expect_err("the ownership of ana has ended");
            assert_eq!(error.code(), ErrorCode::CommitConflict, "{by}");
        }
    }
}
