//! Several roles in one change.

use std::sync::Arc;

use headwater_access::{Access, Error, NewUser, grant_roles, revoke_roles};
use headwater_model::{Principal, SystemClock};
use headwater_store::{MemoryStore, Store};

struct Fixture {
    access: Access,
    store: Arc<MemoryStore>,
    owner: Principal,
}

impl Fixture {
    /// Opens a store with the users `ana` and `bob`, and the roles `one`, `two` and `three`.
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let access = Access::open(store.clone(), Arc::new(SystemClock)).await.expect("a store");
        let owner = Principal::owner();
        for name in ["ana", "bob"] {
            let new = NewUser { name: name.to_owned(), ..NewUser::default() };
            access.create_user(&owner, new).await.expect(name);
        }
        for name in ["one", "two", "three"] {
            access.create_role(&owner, name).await.expect(name);
        }
        Fixture { access, store, owner }
    }

    async fn grant(&self, roles: &[&str], grantees: &[&str]) -> Result<(), Error> {
        grant_roles(&self.access, &self.owner, &names(roles), &names(grantees)).await
    }

    async fn revoke(&self, roles: &[&str], grantees: &[&str]) -> Result<(), Error> {
        revoke_roles(&self.access, &self.owner, &names(roles), &names(grantees)).await
    }

    fn roles(&self, user: &str) -> Vec<String> {
        self.access.user(user).expect(user).roles
    }

    /// Returns the number of stored changes.
    async fn changes(&self) -> u64 {
        let version = self.store.reference("access/version").await.expect("a read");
        String::from_utf8_lossy(&version.expect("a version")).parse().expect("a number")
    }

    /// Returns the number of audit events with an action.
    async fn events(&self, action: &str) -> usize {
        let events = self.access.audit().list(1_000).await.expect("events");
        events.iter().filter(|event| event.action == action).count()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn several_roles_are_one_stored_change() {
    let f = Fixture::start().await;
    let before = f.changes().await;
    f.grant(&["one", "two"], &["ana", "bob", "three"]).await.expect("granted");
    assert_eq!((f.changes().await, f.events("grant_role").await), (before + 1, 6));
    assert_eq!((f.roles("ana"), f.roles("bob")), (names(&["one", "two"]), names(&["one", "two"])));
    // Roles that are granted already are no change.
    f.grant(&["one", "two"], &["bob"]).await.expect("granted");
    assert_eq!((f.changes().await, f.events("grant_role").await), (before + 1, 6));
    f.revoke(&["two", "one"], &["ana", "three"]).await.expect("revoked");
    assert_eq!((f.changes().await, f.events("revoke_role").await), (before + 2, 4));
    assert_eq!((f.roles("ana"), f.roles("bob")), (names(&[]), names(&["one", "two"])));
    let other = Access::open(f.store.clone(), Arc::new(SystemClock)).await.expect("a store");
    assert_eq!(other.user("bob").expect("bob").roles, ["one", "two"]);
}

#[tokio::test]
async fn one_invalid_role_prevents_the_whole_change() {
    let f = Fixture::start().await;
    f.grant(&["one"], &["two"]).await.expect("granted");
    let before = f.changes().await;
    for (roles, grantees) in [
        (&["one", "none"][..], &["ana"][..]),
        (&["one"], &["ana", "none"]),
        (&["one", "two"], &["ana", "one"]),
        // The role `two` has the role `one`.
        (&["two"], &["ana", "one"]),
    ] {
        f.grant(roles, grantees).await.expect_err(&format!("{roles:?} to {grantees:?}"));
        assert_eq!((f.changes().await, f.roles("ana")), (before, Vec::new()));
    }
    f.revoke(&["one", "none"], &["two"]).await.expect_err("an unknown role");
    assert_eq!(f.changes().await, before);
}

#[tokio::test]
async fn a_role_that_is_not_granted_does_not_prevent_other_revocations() {
    let f = Fixture::start().await;
    f.grant(&["one", "two"], &["ana"]).await.expect("granted");
    let revoked = f.revoke(&["three", "one"], &["ana"]).await;
    assert!(matches!(revoked, Err(Error::NotGranted { .. })), "{revoked:?}");
    assert_eq!(f.roles("ana"), ["two"]);
}
