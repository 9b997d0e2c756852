//! Several roles in one change.

mod fixture;

use std::sync::Arc;

use headwater_access::{Access, Error, grant_roles, revoke_roles};
use headwater_model::SystemClock;

use self::fixture::Fixture;

impl Fixture {
    /// Opens a store with the users `ana` and `bob`, and the roles `one`, `two` and `three`.
    async fn with_roles() -> Self {
        let fixture = Fixture::start().await;
        for name in ["one", "two", "three"] {
            fixture.access.create_role(&fixture.owner, name).await.expect(name);
        }
        fixture
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
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn several_roles_are_one_stored_change() {
    let f = Fixture::with_roles().await;
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
    let f = Fixture::with_roles().await;
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
    let f = Fixture::with_roles().await;
    f.grant(&["one", "two"], &["ana"]).await.expect("granted");
    let revoked = f.revoke(&["three", "one"], &["ana"]).await;
    assert!(matches!(revoked, Err(Error::NotGranted { .. })), "{revoked:?}");
    assert_eq!(f.roles("ana"), ["two"]);
}
