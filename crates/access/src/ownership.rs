//! Ownership: a user may perform every action on the objects that it created.

use headwater_model::{AccessObject, ObjectPattern, Principal};
use headwater_store::{JournalAppend, RefChange};

use crate::access::RightsChange;
use crate::record::{OwnerRecord, owner_key, put, remove};
use crate::{Access, Result};

/// A change of an object, which can change the object's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectChange {
    /// The object is created. Its owner is the principal's user, or no user if the principal is not
    /// a user.
    Created,
    /// The object is replaced under the same name. It has no owner from then on if a principal
    /// other than the owner replaces it, because its previous owner may lack the right to see or
    /// use the new contents.
    Replaced,
    /// The object is dropped.
    Dropped,
}

impl Access {
    /// Records the owner of a new object: the principal's user, or no owner if the principal is not
    /// a user. Replaces the owner that an earlier object with the same name had.
    pub async fn set_owner(&self, by: &Principal, object: &AccessObject) -> Result<()> {
        change_owned(self, by, object, ObjectChange::Created, &[]).await
    }

    /// Moves the ownership of a renamed object to its new name.
    pub async fn move_owner(
        &self,
        by: &Principal,
        from: &AccessObject,
        to: &AccessObject,
    ) -> Result<()> {
        let (old, new) = (ObjectPattern::of(from), ObjectPattern::of(to));
        self.change(by, |directory| {
            let mut entries = Vec::new();
            if directory.owner(to).is_some() {
                entries.push(remove(owner_key(&new)));
            }
            if let Some(user) = directory.owner(from) {
                let record = OwnerRecord { object: new.clone(), user: user.to_owned() };
                entries = vec![remove(owner_key(&old)), put(owner_key(&new), &record)?];
            }
            Ok(owner_change("move_owner", to, entries))
        })
        .await
    }

    /// Removes the owner of a dropped object.
    pub async fn remove_owner(&self, by: &Principal, object: &AccessObject) -> Result<()> {
        change_owned(self, by, object, ObjectChange::Dropped, &[]).await
    }

    /// Returns the user that owns an object.
    pub fn owner(&self, object: &AccessObject) -> Option<String> {
        self.directory().owner(object).map(str::to_owned)
    }
}

/// Changes the refs that store an object, and records the object's owner in the same batch.
///
/// Fails with `commit_conflict`, and changes nothing, if one of these refs has another value than
/// expected.
pub async fn change_owned(
    access: &Access,
    by: &Principal,
    object: &AccessObject,
    change: ObjectChange,
    refs: &[RefChange],
) -> Result<()> {
    let pattern = ObjectPattern::of(object);
    access
        .change_with(by, refs, |directory| {
            let before = directory.owner(object);
            let after = match change {
                ObjectChange::Created => by.user_name(),
                ObjectChange::Replaced => before.filter(|owner| by.user_name() == Some(*owner)),
                ObjectChange::Dropped => None,
            };
            let key = owner_key(&pattern);
            Ok(match after {
                _ if after == before => owner_change("set_owner", object, Vec::new()),
                Some(user) => {
                    let record = OwnerRecord { object: pattern.clone(), user: user.to_owned() };
                    owner_change("set_owner", object, vec![put(key, &record)?])
                }
                None => owner_change("remove_owner", object, vec![remove(key)]),
            })
        })
        .await
}

fn owner_change(
    action: &'static str,
    object: &AccessObject,
    entries: Vec<JournalAppend>,
) -> RightsChange<()> {
    let object = object.to_string();
    RightsChange { entries, action, object, detail: String::new(), result: () }
}

/// Records the owner of an object that was created, or replaced under the same name. An object
/// whose name contains `*` has no owner, because such a name stands for all objects of a kind.
pub async fn record_owner(
    access: &Access,
    by: &Principal,
    object: &AccessObject,
    is_new: bool,
) -> Result<()> {
    if object.to_string().parse::<AccessObject>().is_err() {
        return Ok(());
    }
    let change = if is_new { ObjectChange::Created } else { ObjectChange::Replaced };
    change_owned(access, by, object, change, &[]).await
}
