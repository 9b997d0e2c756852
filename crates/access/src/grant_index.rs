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
    /// Grants on single objects, by the object as text.
    exact: HashMap<String, Vec<Arc<Grant>>>,
    /// Grants on patterns, by the kind of object. Also grants on a single location or bucket,
    /// because such a grant applies to everything below it, too.
    patterns: HashMap<ObjectKind, Vec<Arc<Grant>>>,
}

impl GrantIndex {
    /// Adds a grant.
    pub(crate) fn insert(&mut self, grant: Arc<Grant>) {
        let object = &grant.permission.object;
        let selects_below = matches!(object.kind(), ObjectKind::Location | ObjectKind::Bucket);
        if selects_below || object.pattern().contains('*') {
            self.patterns.entry(object.kind()).or_default().push(grant);
        } else {
            self.exact.entry(object.to_string()).or_default().push(grant);
        }
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
        find(LAKE)
            .or_else(|| find(&object.to_string()))
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

    const PATTERNS: [&str; 16] = [
        "bucket:landing",
        "bucket:landing/in",
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
