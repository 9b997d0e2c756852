//! Grants by the owners of objects.

use std::sync::Arc;

use headwater_access::{
    Access, Credential, Decision, DecisionReason, Error, NewUser, depends_on_owner, grant_all,
    grant_as_owner, own_grants, revoke_all, revoke_as_owner,
};
use headwater_model::{
    AccessObject, Action, CredentialSettings, GrantRequest, ObjectOwner, Principal, SystemClock,
    TableName,
};
use headwater_store::{MemoryStore, Store};

struct Fixture {
    access: Access,
    store: Arc<MemoryStore>,
    ana: Principal,
    bob: Principal,
    eve: Principal,
}

impl Fixture {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let access = Access::open(store.clone(), Arc::new(SystemClock)).await.expect("a store");
        let [ana, bob, eve] = ["ana", "bob", "eve"].map(|name| user(&access, name));
        let (ana, bob, eve) = (ana.await, bob.await, eve.await);
        Fixture { access, store, ana, bob, eve }
    }

    fn may(&self, principal: &Principal, action: Action, object: &AccessObject) -> bool {
        self.access.decide(principal, action, object).is_allowed()
    }
}

/// Returns the principal of a new user.
async fn user(access: &Access, name: &str) -> Principal {
    let owner = Principal::owner();
    let new = NewUser { name: name.to_owned(), ..NewUser::default() };
    access.create_user(&owner, new).await.expect(name);
    let token =
        access.create_token(&owner, name, CredentialSettings::default()).await.expect("a token");
    access.authenticate(Credential::Token(&token.secret), None).await.expect("a principal")
}

fn table(name: &str) -> AccessObject {
    AccessObject::table(&name.parse::<TableName>().expect(name))
}

/// Returns a table with an owner.
fn owned_by(name: &str, principal: &Principal) -> AccessObject {
    table(name).with_owner(principal.as_object_owner().as_ref())
}

fn account(principal: &Principal) -> ObjectOwner {
    principal.as_object_owner().expect("a user")
}

fn request(grantee: &str, actions: &[Action], object: &str) -> GrantRequest {
    let (grantee, actions) = (grantee.to_owned(), actions.to_vec());
    GrantRequest { grantee, actions, object: object.parse().expect(object) }
}

#[tokio::test]
async fn the_grant_of_an_owner_applies_only_to_objects_of_this_owner() {
    let f = Fixture::start().await;
    let all = [Action::Select, Action::Drop, Action::Create];
    grant_as_owner(&f.access, &f.ana, &[request("bob", &all, "table:sales.made")])
        .await
        .expect("a grant");
    let (of_ana, of_eve) = (owned_by("sales.made", &f.ana), owned_by("sales.made", &f.eve));
    assert!(f.may(&f.bob, Action::Select, &of_ana) && f.may(&f.bob, Action::Drop, &of_ana));
    assert!(!f.may(&f.bob, Action::Create, &of_ana), "the owner itself may not create it");
    assert!(!f.may(&f.bob, Action::Insert, &of_ana), "not granted");
    for other in [
        of_eve.clone(),
        table("sales.made"),
        table("sales.made").with_owner(None),
        owned_by("sales.other", &f.ana),
    ] {
        assert!(!f.may(&f.bob, Action::Select, &other), "{other:?}");
    }
    assert!(depends_on_owner(&f.access, &f.bob, &of_ana));
    assert!(!depends_on_owner(&f.access, &f.bob, &of_eve));
    assert!(!depends_on_owner(&f.access, &f.eve, &of_ana));
    // The grants are read again after a restart.
    let again = Access::open(f.store.clone(), Arc::new(SystemClock)).await.expect("a store");
    let decision = again.decide(&f.bob, Action::Select, &of_ana);
    assert!(decision.to_string().ends_with("to bob by the owner ana"), "{decision}");
    assert!(!again.decide(&f.bob, Action::Select, &of_eve).is_allowed());
    // An administrator's grant on the same object is another grant.
    let by_owner = [request("bob", &[Action::Select], "table:sales.made")];
    grant_all(&f.access, &Principal::owner(), &by_owner).await.expect("a grant");
    assert!(f.may(&f.bob, Action::Select, &of_eve));
    assert_eq!(f.access.grants(Some("bob")).len(), 2);
}

#[tokio::test]
async fn the_owner_of_a_namespace_lets_others_create_tables_in_it() {
    let f = Fixture::start().await;
    let actions = [Action::Create, Action::Insert, Action::Select];
    let requests = [request("bob", &actions, "namespace:ana")];
    grant_as_owner(&f.access, &f.ana, &requests).await.expect("a grant");
    let new = |owner: &Principal| table("ana.t").with_namespace_owner(owner.as_object_owner());
    for action in [Action::Create, Action::Insert] {
        assert!(f.may(&f.bob, action, &new(&f.ana)), "{action}");
        assert!(!f.may(&f.bob, action, &new(&f.eve)), "{action}");
    }
    assert!(depends_on_owner(&f.access, &f.bob, &new(&f.ana)));
    assert!(f.may(&f.bob, Action::Select, &owned_by("ana.t", &f.ana)));
    assert!(!f.may(&f.bob, Action::Select, &owned_by("ana.t", &f.eve)));
}

#[tokio::test]
async fn an_owner_revokes_only_its_own_grants() {
    let f = Fixture::start().await;
    let owner = Principal::owner();
    let requests = [request("bob", &[Action::Select], "table:sales.made")];
    grant_all(&f.access, &owner, &requests).await.expect("a grant");
    let revoked = revoke_as_owner(&f.access, &f.ana, &requests).await;
    assert!(matches!(revoked, Err(Error::NotGranted { .. })), "{revoked:?}");
    for by in [&f.ana, &f.eve] {
        grant_as_owner(&f.access, by, &requests).await.expect("a grant");
    }
    assert_eq!(f.access.grants(Some("bob")).len(), 3);
    revoke_as_owner(&f.access, &f.eve, &requests).await.expect("revoked");
    assert_eq!(own_grants(&f.access, &account(&f.ana)).len(), 1);
    assert_eq!(own_grants(&f.access, &account(&f.eve)), []);
    // An administrator revokes the grants of owners, too.
    revoke_all(&f.access, &owner, &requests).await.expect("revoked");
    assert_eq!(f.access.grants(Some("bob")), []);
    grant_as_owner(&f.access, &owner, &requests).await.expect_err("not a user");
}

#[tokio::test]
async fn a_dropped_user_leaves_no_grants() {
    let f = Fixture::start().await;
    let requests = ["ana", "bob"].map(|name| request(name, &[Action::Select], "table:sales.made"));
    grant_as_owner(&f.access, &f.ana, &requests).await.expect("grants");
    f.access.drop_user(&Principal::owner(), "ana").await.expect("dropped");
    assert_eq!(f.access.grants(None), []);
    let again = user(&f.access, "ana").await;
    assert!(!f.may(&f.bob, Action::Select, &owned_by("sales.made", &again)));
}

#[tokio::test]
async fn a_user_makes_a_limited_number_of_grants() {
    let f = Fixture::start().await;
    let on = |number: usize| request("bob", &[Action::Select], &format!("table:sales.t{number}"));
    let many: Vec<_> = (0..1_000).map(on).collect();
    grant_as_owner(&f.access, &f.ana, &many).await.expect("grants");
    let version = f.store.reference("access/version").await.expect("a read");
    let refused = grant_as_owner(&f.access, &f.ana, &[on(1_000)]).await;
    assert!(matches!(refused, Err(Error::TooManyGrants { max: 1_000 })), "{refused:?}");
    assert_eq!(f.store.reference("access/version").await.expect("a read"), version);
    // Existing grants can be changed, and other users are not limited.
    let changed = request("bob", &[Action::Insert], "table:sales.t1");
    grant_as_owner(&f.access, &f.ana, &[changed]).await.expect("a change");
    grant_as_owner(&f.access, &f.eve, &[on(1_000)]).await.expect("a grant");
}

#[tokio::test]
async fn permissions_omit_grants_of_ended_ownership() {
    let f = Fixture::start().await;
    let bucket = AccessObject::bucket("landing");
    f.access.set_owner(&f.ana, &bucket).await.expect("owned");
    let requests = [request("bob", &[Action::Read], "bucket:landing/in")];
    grant_as_owner(&f.access, &f.ana, &requests).await.expect("a grant");
    let key = AccessObject::object_in("landing", "in/a.csv");
    let decision = f.access.decide(&f.bob, Action::Read, &key);
    assert!(matches!(decision, Decision::Allowed(DecisionReason::Grant(_))), "{decision}");
    assert_eq!(f.access.permissions("bob").len(), 1);
    f.access.set_owner(&f.eve, &bucket).await.expect("owned by another user");
    assert!(!f.may(&f.bob, Action::Read, &key));
    assert_eq!(f.access.permissions("bob"), []);
}

#[tokio::test]
async fn a_dropped_user_makes_no_grant_for_a_later_account_of_its_name() {
    let f = Fixture::start().await;
    let requests = [request("bob", &[Action::Select], "table:sales.made")];
    let refused = async || {
        let granted = grant_as_owner(&f.access, &f.ana, &requests).await;
        matches!(granted, Err(Error::InvalidCredential))
    };
    f.access.drop_user(&Principal::owner(), "ana").await.expect("dropped");
    assert!(refused().await, "no account");
    let again = user(&f.access, "ana").await;
    assert!(refused().await, "another account");
    assert_eq!(f.access.grants(None), []);
    grant_as_owner(&f.access, &again, &requests).await.expect("a grant");
    f.access.disable_user(&Principal::owner(), "ana", true).await.expect("disabled");
    let refused = grant_as_owner(&f.access, &again, &requests).await;
    assert!(matches!(refused, Err(Error::InvalidCredential)), "{refused:?}");
    // The disabled user still owns its table, so its grants remain.
    assert!(f.may(&f.bob, Action::Select, &owned_by("sales.made", &again)));
}

#[tokio::test]
async fn permissions_omit_own_grants_and_actions_without_effect() {
    let f = Fixture::start().await;
    let actions = [Action::Insert, Action::Create];
    let requests = [
        request("ana", &actions, "table:sales.made"),
        request("bob", &actions, "table:sales.made"),
        request("bob", &[Action::Create], "view:sales.best"),
        request("bob", &[Action::Create], "namespace:sales"),
    ];
    grant_as_owner(&f.access, &f.ana, &requests).await.expect("grants");
    assert_eq!(f.access.permissions("ana"), []);
    let mut found: Vec<_> = f.access.permissions("bob").iter().map(ToString::to_string).collect();
    found.sort_unstable();
    assert_eq!(found, ["create on namespace:sales", "insert on table:sales.made"]);
}
