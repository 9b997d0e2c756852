//! All records of access control in memory, at one version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use headwater_model::{
    AccessObject, Action, AuditRetention, Grant, Limit, ObjectId, ObjectOwner, Restriction, Role,
    Timestamp,
};
use headwater_store::{JournalEntry, KeyRange, Store};
use serde::de::DeserializeOwned;

use crate::decision::is_owner;
use crate::grant_index::GrantIndex;
use crate::record::{
    AccessKeyRecord, AccessTokenRecord, JOURNAL, OWNER_GRANT, OwnerRecord, UserRecord, VERSION,
};
use crate::{Error, Result};

/// All users, roles, grants and other records at one version. Immutable.
#[derive(Debug, Default)]
pub(crate) struct AccessState {
    /// The value of the ref `access/version`; `None` before the first change.
    pub(crate) version: Option<Bytes>,
    pub(crate) users: BTreeMap<String, UserRecord>,
    pub(crate) roles: BTreeMap<String, Role>,
    /// The grants of each user and role.
    pub(crate) grants: HashMap<String, Vec<Grant>>,
    pub(crate) tokens: BTreeMap<String, AccessTokenRecord>,
    pub(crate) keys: BTreeMap<String, AccessKeyRecord>,
    pub(crate) restrictions: BTreeMap<String, Restriction>,
    /// The limits of each user and role.
    pub(crate) limits: BTreeMap<String, Limit>,
    /// The retention time of audit events, if set.
    pub(crate) audit_retention: Option<AuditRetention>,
    token_ids: HashMap<ObjectId, String>,
    /// The name of each object's owner, by the object as text.
    owners: HashMap<String, String>,
    /// The grants that apply to each user: its own grants and the grants of all its roles.
    effective: HashMap<String, GrantIndex>,
}

impl AccessState {
    /// Reads all records. A change by another process meanwhile can make the records newer than the
    /// version. The next change then conflicts, and the records are read again.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self> {
        let version = store.reference(VERSION).await?;
        let mut directory = AccessState { version, ..AccessState::default() };
        for entry in store.scan(JOURNAL, &KeyRange::all()).await? {
            directory.insert(&entry)?;
        }
        directory.effective = directory.index();
        Ok(directory)
    }

    fn insert(&mut self, entry: &JournalEntry) -> Result<()> {
        let kind = entry.key.split('/').next().unwrap_or_default();
        match kind {
            "user" => {
                let user: UserRecord = parse(entry)?;
                self.users.insert(user.name.clone(), user);
            }
            "role" => {
                let role: Role = parse(entry)?;
                self.roles.insert(role.name.clone(), role);
            }
            "grant" | OWNER_GRANT => {
                let grant: Grant = parse(entry)?;
                self.grants.entry(grant.grantee.clone()).or_default().push(grant);
            }
            "token" => {
                let token: AccessTokenRecord = parse(entry)?;
                self.token_ids.insert(token.hash, token.token.id.clone());
                self.tokens.insert(token.token.id.clone(), token);
            }
            "key" => {
                let key: AccessKeyRecord = parse(entry)?;
                self.keys.insert(key.key.id.clone(), key);
            }
            "owner" => {
                let owner: OwnerRecord = parse(entry)?;
                self.owners.insert(owner.object.to_string(), owner.user);
            }
            "limit" => {
                let limit: Limit = parse(entry)?;
                self.limits.insert(limit.name.clone(), limit);
            }
            "audit" => self.audit_retention = Some(parse(entry)?),
            "restriction" => {
                let restriction: Restriction = parse(entry)?;
                self.restrictions.insert(restriction.name.clone(), restriction);
            }
            _ => return Err(Error::Corrupt { key: entry.key.clone() }),
        }
        Ok(())
    }

    /// Returns the given name and all roles granted to it, directly or through other roles.
    pub(crate) fn with_roles(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left = vec![name.to_owned()];
        while let Some(name) = left.pop() {
            left.extend(self.roles_of(&name).filter(|role| !found.contains(*role)).cloned());
            found.insert(name);
        }
        found
    }

    /// Returns the roles of a user, direct or through other roles, without copying their names.
    pub(crate) fn role_names(&self, user: &str) -> Vec<&str> {
        let mut found: Vec<&str> = self.roles_of(user).map(String::as_str).collect();
        let mut next = 0;
        while let Some(role) = found.get(next).copied() {
            for inherited in self.roles_of(role).map(String::as_str) {
                if inherited != user && !found.contains(&inherited) {
                    found.push(inherited);
                }
            }
            next += 1;
        }
        found
    }

    /// Returns the roles granted to a user or role.
    fn roles_of(&self, name: &str) -> Box<dyn Iterator<Item = &String> + '_> {
        match (self.users.get(name), self.roles.get(name)) {
            (Some(user), _) => Box::new(user.roles.iter()),
            (None, Some(role)) => Box::new(role.roles.iter()),
            (None, None) => Box::new(std::iter::empty()),
        }
    }

    /// Indexes the grants of each user.
    fn index(&self) -> HashMap<String, GrantIndex> {
        // The indexes of users with the same role share the grants of this role in memory.
        let shared = self.grants.iter().map(|(grantee, grants)| {
            (grantee.as_str(), grants.iter().cloned().map(Arc::new).collect::<Vec<_>>())
        });
        let shared: HashMap<&str, Vec<Arc<Grant>>> = shared.collect();
        let of = |user: &String| {
            let mut index = GrantIndex::default();
            for grantee in self.with_roles(user) {
                let grants = shared.get(grantee.as_str()).into_iter().flatten();
                grants.for_each(|grant| index.insert(grant.clone()));
            }
            (user.clone(), index)
        };
        self.users.keys().map(of).collect()
    }

    /// Returns a grant of a user, directly or through a role, that contains an action on an object.
    /// A grant by an owner gives no right that the owner itself does not have as the owner.
    pub(crate) fn find_grant(
        &self,
        user: &str,
        action: Action,
        object: &AccessObject,
    ) -> Option<&Grant> {
        let applies =
            |grant: &Grant| grant.owner.is_none() || self.is_by_owner(grant, action, object);
        self.effective.get(user)?.find(action, object, applies).map(|grant| &**grant)
    }

    /// Returns true if a user has a grant by an owner that contains any action on an object.
    /// Looks up nothing for a user without such grants.
    pub(crate) fn has_owner_grant(&self, user: &str, object: &AccessObject) -> bool {
        let index = self.effective.get(user).filter(|index| index.has_owner_grants());
        index.is_some_and(|index| {
            object.kind().actions().iter().any(|action| {
                let applies = |grant: &Grant| self.is_by_owner(grant, *action, object);
                index.find(*action, object, applies).is_some()
            })
        })
    }

    /// Returns true if an owner made a grant, and may perform an action on an object as its owner.
    fn is_by_owner(&self, grant: &Grant, action: Action, object: &AccessObject) -> bool {
        grant.owner.as_ref().is_some_and(|owner| {
            self.has_account(owner) && is_owner(self, &owner.user, action, object)
        })
    }

    /// Returns true if the account of an owner still exists. An account with the same name but
    /// another creation time is a different account.
    pub(crate) fn has_account(&self, owner: &ObjectOwner) -> bool {
        self.users.get(&owner.user).is_some_and(|account| account.created == owner.created)
    }

    /// Returns the grants that a user has, directly or through roles.
    pub(crate) fn grants_of(&self, user: &str) -> impl Iterator<Item = &Grant> {
        let grantees = self.with_roles(user).into_iter();
        grantees.filter_map(|grantee| self.grants.get(&grantee)).flatten()
    }

    /// Returns the token whose secret has this hash.
    pub(crate) fn token(&self, hash: &ObjectId) -> Option<&AccessTokenRecord> {
        self.tokens.get(self.token_ids.get(hash)?)
    }

    /// Returns true if a token or access key exists, is not revoked and has not expired.
    pub(crate) fn is_token_valid(&self, id: &str, now: Timestamp) -> bool {
        let token = self.tokens.get(id).map(|it| (it.token.revoked, it.token.expires));
        let key = || self.keys.get(id).map(|it| (it.key.revoked, it.key.expires));
        token.or_else(key).is_some_and(|(revoked, expires)| {
            revoked.is_none() && expires.is_none_or(|expires| now < expires)
        })
    }

    /// Returns the expiry time of a token or access key; `None` if it does not expire.
    pub(crate) fn expiry(&self, id: &str) -> Option<Timestamp> {
        let key = || self.keys.get(id).and_then(|it| it.key.expires);
        self.tokens.get(id).map_or_else(key, |it| it.token.expires)
    }

    /// Returns a copy of the users and roles, without the other records.
    pub(crate) fn members(&self) -> AccessState {
        let (users, roles) = (self.users.clone(), self.roles.clone());
        AccessState { users, roles, ..AccessState::default() }
    }

    /// Returns the user that owns an object.
    pub(crate) fn owner(&self, object: &AccessObject) -> Option<&str> {
        self.owners.get(&object.to_string()).map(String::as_str)
    }

    /// Returns the grants that a user made as the owner of their objects.
    pub(crate) fn grants_by(&self, owner: &str) -> impl Iterator<Item = &Grant> {
        let is_by = move |grant: &&Grant| grant.owner.as_ref().is_some_and(|it| it.user == owner);
        self.grants.values().flatten().filter(is_by)
    }

    /// Returns the objects that a user owns, as strings.
    pub(crate) fn owned_by(&self, user: &str) -> impl Iterator<Item = &str> {
        let owned = self.owners.iter().filter(move |(_, owner)| *owner == user);
        owned.map(|(object, _)| object.as_str())
    }

    /// Returns true if a user or role has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.users.contains_key(name) || self.roles.contains_key(name)
    }

    /// Returns the record of a user.
    pub(crate) fn user(&self, name: &str) -> Result<&UserRecord> {
        self.users.get(name).ok_or_else(|| Error::NoUser { name: name.to_owned() })
    }

    /// Returns a role.
    pub(crate) fn role(&self, name: &str) -> Result<&Role> {
        self.roles.get(name).ok_or_else(|| Error::NoRole { name: name.to_owned() })
    }
}

fn parse<T: DeserializeOwned>(entry: &JournalEntry) -> Result<T> {
    serde_json::from_slice(&entry.value).map_err(|_| Error::Corrupt { key: entry.key.clone() })
}
