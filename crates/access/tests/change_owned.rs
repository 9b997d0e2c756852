//! The refs of an object and the object's owner are changed together.

use std::sync::Arc;

use headwater_access::{Access, Credential, NewUser, ObjectChange, change_owned};
use headwater_model::{
    AccessObject, Action, CredentialSettings, ErrorCode, Principal, SystemClock, ToProblem,
};
use headwater_store::{MemoryStore, RefChange, RefPrecondition, Store};

const NAME: &str = "secrets/KEY";

/// Returns the principal of a new user.
async fn user(access: &Access, name: &str) -> Principal {
    let owner = Principal::owner();
    let new = NewUser { name: name.to_owned(), ..NewUser::default() };
    access.create_user(&owner, new).await.expect("a user");
    let token =
        access.create_token(&owner, name, CredentialSettings::default()).await.expect("a token");
    access.authenticate(Credential::Token(&token.secret), None).await.expect("a principal")
}

#[tokio::test]
async fn an_object_and_its_owner_change_together() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let access = Access::open(store.clone(), Arc::new(SystemClock)).await.expect("opened");
    let (ana, eve) = (user(&access, "ana").await, user(&access, "eve").await);
    let object = AccessObject::secret("KEY");
    let write = |before: Option<&'static str>, value: &'static str| {
        let expected =
            before.map_or(RefPrecondition::Absent, |value| RefPrecondition::Value(value.into()));
        [RefChange { name: NAME.to_owned(), expected, value: Some(value.into()) }]
    };
    let change = async |by: &Principal, kind: ObjectChange, write: [RefChange; 1]| {
        change_owned(&access, by, &object, kind, &write).await
    };
    let state = async || {
        let value = store.reference(NAME).await.expect("a value").map(|value| value.to_vec());
        let may = |user: &Principal| access.decide(user, Action::Use, &object).is_allowed();
        (value, may(&ana), may(&eve))
    };
    change(&ana, ObjectChange::Created, write(None, "1")).await.expect("created");
    assert_eq!(state().await, (Some(b"1".to_vec()), true, false));

    // Another request has changed the ref, so neither the ref nor the owner changes.
    let failed = change(&eve, ObjectChange::Created, write(None, "2")).await;
    assert_eq!(failed.expect_err("a conflict").code(), ErrorCode::CommitConflict);
    assert_eq!(state().await, (Some(b"1".to_vec()), true, false));

    change(&ana, ObjectChange::Replaced, write(Some("1"), "2")).await.expect("replaced");
    assert_eq!(state().await, (Some(b"2".to_vec()), true, false));
    change(&eve, ObjectChange::Replaced, write(Some("2"), "3")).await.expect("replaced");
    assert_eq!(state().await, (Some(b"3".to_vec()), false, false));
}
