//! Ownership: a user may perform every action on the objects that it created.

use headwater_model::{Object, ObjectPattern, Principal};
use headwater_store::Append;

use crate::access::RightsChange;
use crate::record::{OwnerRecord, owner_key, put, remove};
use crate::{Access, Result};

impl Access {
    /// Records the owner of a new object: the principal's user, or no owner if the principal is not
    /// a user. Replaces the owner that an earlier object with the same name had.
    pub async fn set_owner(&self, by: &Principal, object: &Object) -> Result<()> {
        let pattern = ObjectPattern::of(object);
        let key = owner_key(&pattern);
        self.change(by, |directory| {
            let entries = match (by.user_name(), directory.owner(object)) {
                (Some(user), known) if known != Some(user) => {
                    let user = user.to_owned();
                    vec![put(key.clone(), &OwnerRecord { object: pattern.clone(), user })?]
                }
                (None, Some(_)) => vec![remove(key.clone())],
                _ => Vec::new(),
            };
            Ok(owner_change("set_owner", object, entries))
        })
        .await
    }

    /// Moves the ownership of a renamed object to its new name.
    pub async fn move_owner(&self, by: &Principal, from: &Object, to: &Object) -> Result<()> {
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
    pub async fn remove_owner(&self, by: &Principal, object: &Object) -> Result<()> {
        self.change(by, |directory| {
            let known = directory.owner(object);
            let entries = known.map(|_| remove(owner_key(&ObjectPattern::of(object))));
            Ok(owner_change("remove_owner", object, entries.into_iter().collect()))
        })
        .await
    }

    /// Returns the user that owns an object.
    pub fn owner(&self, object: &Object) -> Option<String> {
        self.directory().owner(object).map(str::to_owned)
    }
}

fn owner_change(action: &'static str, object: &Object, entries: Vec<Append>) -> RightsChange<()> {
    let object = object.to_string();
    RightsChange { entries, action, object, detail: String::new(), result: () }
}

/// Records the owner of an object that was created, or replaced under the same name. If a principal
/// other than the owner replaces an object, the object has no owner from then on, because its
/// previous owner may lack the right to see or use the new contents. An object whose name contains
/// `*` has no owner, because such a name stands for all objects of a kind.
pub async fn record_owner(
    access: &Access,
    by: &Principal,
    object: &Object,
    is_new: bool,
) -> Result<()> {
    if object.to_string().parse::<Object>().is_err() {
        return Ok(());
    }
    if is_new {
        return access.set_owner(by, object).await;
    }
    match access.owner(object) {
        Some(owner) if by.user_name() != Some(owner.as_str()) => {
            access.remove_owner(by, object).await
        }
        _ => Ok(()),
    }
}
