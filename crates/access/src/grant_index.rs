//! The grants of one user, indexed by the objects that they select.
//!
//! A user may have thousands of grants. So a decision compares only the grants that may select its
//! object.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_model::{AccessObject, Action, Grant, ObjectKind};

/// The index key of grants on the lake.
const LAKE: &str = "lake";

/// The grants of one user.
#[derive(Debug, Default)]
pub(crate) struct GrantIndex {
    /// Grants on single objects, by the object as text. Also grants on the objects of a single
    /// bucket, by the bucket. So a grant on one bucket does not slow decisions on other buckets.
    exact: HashMap<String, Vec<Arc<Grant>>>,
    /// Grants on patterns, by the kind of object. Also grants on a single location, because such a
    /// grant applies to everything below it, too.
    patterns: HashMap<ObjectKind, Vec<Arc<Grant>>>,
    /// True if an owner made at least one of the grants.
    has_owner_grants: bool,
}

impl GrantIndex {
    /// Adds a grant.
    pub(crate) fn insert(&mut self, grant: Arc<Grant>) {
        self.has_owner_grants |= grant.owner.is_some();
        let object = &grant.permission.object;
        let name = match object.kind() {
            ObjectKind::Bucket => bucket(object.pattern()),
            _ => object.pattern(),
        };
        if object.kind() == ObjectKind::Location || name.contains('*') {
            self.patterns.entry(object.kind()).or_default().push(grant);
        } else if object.kind() == ObjectKind::Bucket {
            self.exact.entry(bucket_key(name)).or_default().push(grant);
        } else {
            self.exact.entry(object.to_string()).or_default().push(grant);
        }
    }

    /// Returns true if an owner made at least one of the grants.
    pub(crate) const fn has_owner_grants(&self) -> bool {
        self.has_owner_grants
    }

    /// Returns a grant that contains an action on an object and fulfills a condition, if there is
    /// one.
    pub(crate) fn find(
        &self,
        action: Action,
        object: &AccessObject,
        applies: impl Fn(&Grant) -> bool,
    ) -> Option<&Arc<Grant>> {
        let contains =
            |grant: &&Arc<Grant>| grant.permission.contains(action, object) && applies(grant);
        let find = |key: &str| self.exact.get(key).into_iter().flatten().find(contains);
        let in_namespace = is_in_namespace(object.kind());
        let key = || match object.kind() {
            ObjectKind::Bucket => bucket_key(bucket(object.name())),
            _ => object.to_string(),
        };
        find(LAKE)
            .or_else(|| find(&key()))
            .or_else(|| {
                let mut above = namespaces_above(object.name()).filter(|_| in_namespace);
                above.find_map(|namespace| find(&format!("namespace:{namespace}")))
            })
            .or_else(|| {
                let namespaces = in_namespace.then_some(ObjectKind::Namespace);
                let mut kinds = [Some(object.kind()), namespaces].into_iter().flatten();
                kinds.find_map(|kind| self.patterns.get(&kind)?.iter().find(contains))
            })
    }
}

/// Returns the bucket of an object in a bucket, or of a pattern for such objects.
fn bucket(name: &str) -> &str {
    name.split_once('/').map_or(name, |(bucket, _)| bucket)
}

/// Returns the key of the grants on a bucket and on the objects in it.
fn bucket_key(bucket: &str) -> String {
    format!("{}:{bucket}", ObjectKind::Bucket)
}

fn is_in_namespace(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Table | ObjectKind::View | ObjectKind::Namespace)
}

/// Returns the namespaces that contain an object, innermost first.
fn namespaces_above(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(name.rsplit_once('.'), |(above, _)| above.rsplit_once('.'))
        .map(|(above, _)| above)
}

#[cfg(test)]
mod tests {
    use headwater_model::{Permission, Timestamp};

    use super::*;

    const PATTERNS: [&str; 20] = [
        "bucket:landing",
        "bucket:landing/",
        "bucket:landing/in",
        "bucket:landing/i*",
        "bucket:land*/in",
        "bucket:*",
        "table:sales.orders",
        "table:sales.*",
        "table:*.orders",
        "view:sales.orders",
        "namespace:sales",
        "namespace:outer",
        "namespace:out*",
        "branch:dev/*",
        "branch:main",
        "location:/data/in",
        "location:s3://bucket/*",
        "function:score",
        "usage:*",
        "secret:*",
    ];

    const OBJECTS: [&str; 18] = [
        "bucket:landing/in/a.csv",
        "bucket:landing/inner",
        "table:sales.orders",
        "table:sales.other",
        "table:outer.inner.orders",
        "table:outside.orders",
        "table:public.x",
        "view:sales.orders",
        "namespace:sales",
        "namespace:outer.inner",
        "namespace:other",
        "branch:dev/a",
        "branch:main",
        "location:/data/in/a.csv",
        "location:/data/inner",
        "location:s3://bucket/a",
        "function:score",
        "lake",
    ];

    fn grant(object: &str) -> Arc<Grant> {
        let object: headwater_model::ObjectPattern = object.parse().expect(object);
        let permission = Permission { actions: object.kind().actions().to_vec(), object };
        let (grantee, by) = ("ana".to_owned(), "owner".to_owned());
        Arc::new(Grant { grantee, permission, granted: Timestamp::UNIX_EPOCH, by, owner: None })
    }

    #[test]
    fn the_index_finds_a_grant_where_one_contains_the_action() {
        for pattern in PATTERNS {
            let mut index = GrantIndex::default();
            index.insert(grant(pattern));
            for object in OBJECTS {
                let object: AccessObject = object.parse().expect(object);
                for action in Action::ALL {
                    let expected = grant(pattern).permission.contains(action, &object);
                    let found = index.find(action, &object, |_| true).is_some();
                    assert_eq!(found, expected, "{pattern}: {action} on {object}");
                }
            }
        }
    }

    #[test]
    fn an_administrator_may_do_everything() {
        let mut index = GrantIndex::default();
        index.insert(grant("lake"));
        for object in OBJECTS {
            let found = index.find(Action::Drop, &object.parse().expect(object), |_| true);
            assert!(found.is_some(), "{object}");
        }
    }
}
