//! Several grants in one change.

mod fixture;

use std::sync::Arc;

use headwater_access::{Access, Error, grant_all, revoke_all};
use headwater_model::{Action, GrantRequest, SystemClock};

use self::fixture::Fixture;

fn request(grantee: &str, actions: &[Action], object: &str) -> GrantRequest {
    let (grantee, actions) = (grantee.to_owned(), actions.to_vec());
    GrantRequest { grantee, actions, object: object.parse().expect(object) }
}

fn on_tables(grantee: &str, numbers: std::ops::Range<usize>) -> Vec<GrantRequest> {
    let object = |number| format!("table:sales.t{number}");
    numbers.map(|number| request(grantee, &[Action::Select], &object(number))).collect()
}

#[tokio::test]
async fn several_grants_are_one_stored_change() {
    let f = Fixture::start().await;
    let before = f.changes().await;
    let granted = grant_all(&f.access, &f.owner, &on_tables("ana", 0..100)).await.expect("grants");
    assert_eq!((granted.len(), f.access.grants(Some("ana")).len()), (100, 100));
    assert_eq!((f.changes().await, f.events("grant").await), (before + 1, 100));
    // Grants that exist already are no change.
    grant_all(&f.access, &f.owner, &on_tables("ana", 0..100)).await.expect("grants");
    assert_eq!((f.changes().await, f.events("grant").await), (before + 1, 100));
    revoke_all(&f.access, &f.owner, &on_tables("ana", 0..100)).await.expect("revoked");
    assert_eq!((f.changes().await, f.events("revoke").await), (before + 2, 100));
    assert_eq!(f.access.grants(None), []);
    let other = Access::open(f.store.clone(), Arc::new(SystemClock)).await.expect("a store");
    assert_eq!(other.grants(None), []);
}

#[tokio::test]
async fn one_invalid_grant_prevents_all_of_its_change() {
    let f = Fixture::start().await;
    let before = f.changes().await;
    for last in [
        request("eve", &[Action::Select], "table:sales.t9"),
        request("bob", &[Action::Merge], "table:sales.t9"),
        request("bob", &[], "table:sales.t9"),
    ] {
        let mut requests = on_tables("ana", 0..3);
        requests.push(last);
        grant_all(&f.access, &f.owner, &requests).await.expect_err("an invalid grant");
        revoke_all(&f.access, &f.owner, &requests).await.expect_err("an invalid grant");
        assert_eq!(f.access.grants(None), []);
    }
    assert_eq!((f.changes().await, f.events("grant").await), (before, 0));
}

#[tokio::test]
async fn requests_for_the_same_object_are_combined() {
    let f = Fixture::start().await;
    let table = "table:sales.orders";
    let requests = [
        request("ana", &[Action::Select], table),
        request("ana", &[Action::Insert], table),
        request("ana", &[Action::Insert], table),
        request("bob", &[Action::Select], table),
    ];
    grant_all(&f.access, &f.owner, &requests).await.expect("grants");
    let actions = |grantee: &str| {
        let grants = f.access.grants(Some(grantee));
        grants.into_iter().map(|grant| grant.permission.actions).collect::<Vec<_>>()
    };
    assert_eq!(actions("ana"), [[Action::Select, Action::Insert]]);
    assert_eq!(actions("bob"), [[Action::Select]]);
    // A grant that does not exist is an error, but the other requests are executed.
    let requests = [
        request("ana", &[Action::Select], table),
        request("ana", &[Action::Select], table),
        request("ana", &[Action::Insert], table),
    ];
    let revoked = revoke_all(&f.access, &f.owner, &requests).await;
    assert!(matches!(revoked, Err(Error::NotGranted { .. })), "{revoked:?}");
    assert_eq!(actions("ana"), Vec::<Vec<Action>>::new());
    assert_eq!(actions("bob"), [[Action::Select]]);
}
