//! Users, roles, grants and tokens, through the public API.

use std::sync::Arc;
use std::time::Duration;

use headwater_access::{
    Access, AccessKeyPair, AccessKeys, AuditRetentionSetting, Credential, Decision, DecisionReason,
    DenialReason, Error, NewAccessKey, NewUser, UserLimits, record_owner,
};
use headwater_model::{
    AccessObject, Action, AuditOutcome, AuditRetention, AuthMethod, Clock, CredentialSettings,
    FixedClock, Limits, Permission, Principal, SystemClock, TableName, UserKind,
};
use headwater_store::{MemoryStore, Store};

struct Fixture {
    access: Access,
    store: Arc<dyn Store>,
    clock: Arc<FixedClock>,
    owner: Principal,
}

async fn fixture() -> Fixture {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let now = "2026-11-01T12:00:00Z".parse().expect("a time");
    let clock = Arc::new(FixedClock::at(now));
    let access = Access::open(store.clone(), clock.clone()).await.expect("an empty store");
    Fixture { access, store, clock, owner: Principal::owner() }
}

fn permission(actions: &[Action], object: &str) -> Permission {
    Permission { actions: actions.to_vec(), object: object.parse().expect(object) }
}

fn table(name: &str) -> AccessObject {
    AccessObject::table(&name.parse::<TableName>().expect(name))
}

impl Fixture {
    async fn user(&self, name: &str) {
        let new = NewUser { name: name.to_owned(), ..NewUser::default() };
        self.access.create_user(&self.owner, new).await.expect(name);
    }

    async fn token(&self, user: &str, new: CredentialSettings) -> String {
        self.access.create_token(&self.owner, user, new).await.expect("a token").secret
    }

    async fn grant(&self, grantee: &str, actions: &[Action], object: &str) {
        let granted = self.access.grant(&self.owner, grantee, permission(actions, object)).await;
        granted.expect("a grant");
    }

    /// Returns the principal of a user with a new token.
    async fn log_in(&self, user: &str) -> Principal {
        let secret = self.token(user, CredentialSettings::default()).await;
        self.access.authenticate(Credential::Token(&secret), None).await.expect("a valid token")
    }

    fn may(&self, principal: &Principal, action: Action, object: &AccessObject) -> bool {
        self.access.decide(principal, action, object).is_allowed()
    }

    async fn is_rejected(&self, credential: Credential<'_>) -> bool {
        let rejected = self.access.authenticate(credential, None).await;
        matches!(rejected, Err(Error::InvalidCredential))
    }
}

#[tokio::test]
async fn everything_is_denied_until_it_is_granted() {
    let f = fixture().await;
    assert!(!f.access.has_users());
    f.user("ana").await;
    assert!(f.access.has_users());
    let ana = f.log_in("ana").await;
    assert_eq!((ana.author(), ana.method()), ("ana", AuthMethod::Token));
    assert!(!f.may(&ana, Action::Select, &table("sales.orders")));
    f.grant("ana", &[Action::Select], "namespace:sales").await;
    assert!(f.may(&ana, Action::Select, &table("sales.orders")));
    assert!(!f.may(&ana, Action::Insert, &table("sales.orders")));
    assert!(!f.may(&ana, Action::Select, &table("salesx.orders")));
    let select = permission(&[Action::Select], "namespace:sales");
    f.access.revoke(&f.owner, "ana", select).await.expect("revoked");
    assert!(!f.may(&ana, Action::Select, &table("sales.orders")));
    assert!(f.may(&f.owner, Action::Administer, &AccessObject::lake()));
    let anonymous = f.access.decide(&Principal::anonymous(), Action::Select, &table("a"));
    assert_eq!(anonymous, Decision::Denied(DenialReason::Unauthenticated));
}

#[tokio::test]
async fn a_role_gives_its_grants_to_users_and_roles() {
    let f = fixture().await;
    f.user("ana").await;
    for role in ["reader", "writer"] {
        f.access.create_role(&f.owner, role).await.expect(role);
    }
    f.grant("reader", &[Action::Select], "table:*").await;
    f.grant("writer", &[Action::Write], "branch:dev/*").await;
    f.access.grant_role(&f.owner, "reader", "writer").await.expect("a role of a role");
    f.access.grant_role(&f.owner, "writer", "ana").await.expect("a role of a user");
    let ana = f.log_in("ana").await;
    assert!(f.may(&ana, Action::Select, &table("a")));
    assert!(f.may(&ana, Action::Write, &AccessObject::branch("dev/x")));
    assert!(f.may(&ana, Action::Read, &AccessObject::branch("dev/x")), "writing includes reading");
    assert!(!f.may(&ana, Action::Read, &AccessObject::branch("main")));
    let explained = f.access.explain("ana", Action::Select, &table("a")).expect("a user");
    let Decision::Allowed(DecisionReason::Grant(grant)) = explained else {
        panic!("{explained:?}")
    };
    assert_eq!(grant.grantee, "reader");
    let cycle = f.access.grant_role(&f.owner, "writer", "reader").await;
    assert!(matches!(cycle, Err(Error::Cycle { .. })), "{cycle:?}");
    f.access.drop_role(&f.owner, "reader").await.expect("dropped");
    assert!(!f.may(&ana, Action::Select, &table("a")));
    f.access.create_role(&f.owner, "reader").await.expect("created again");
    assert!(!f.may(&ana, Action::Select, &table("a")), "a new role has no old grants");
}

#[tokio::test]
async fn tokens_end_by_expiry_revocation_and_with_their_user() {
    let f = fixture().await;
    f.user("ana").await;
    f.grant("ana", &[Action::Select], "table:a").await;
    let expires = Some(f.clock.now() + Duration::from_secs(60));
    let secret = f.token("ana", CredentialSettings { expires, ..Default::default() }).await;
    let ana = f.access.authenticate(Credential::Token(&secret), None).await.expect("not expired");
    assert!(f.may(&ana, Action::Select, &table("a")));
    f.clock.advance(Duration::from_secs(60));
    assert!(f.is_rejected(Credential::Token(&secret)).await);
    assert!(!f.may(&ana, Action::Select, &table("a")), "an open connection ends with its token");
    let secret = f.token("ana", CredentialSettings::default()).await;
    let ana = f.access.authenticate(Credential::Token(&secret), None).await.expect("valid");
    let tokens = f.access.tokens(Some("ana")).await.expect("tokens");
    assert_eq!(tokens[1].last_used, Some(f.clock.now()));
    f.access.revoke_token(&f.owner, &tokens[1].id, Some("eve")).await.expect_err("another's");
    f.access.revoke_token(&f.owner, &tokens[1].id, Some("ana")).await.expect("revoked");
    assert!(f.is_rejected(Credential::Token(&secret)).await);
    assert!(!f.may(&ana, Action::Select, &table("a")));

    let ana = f.log_in("ana").await;
    f.access.disable_user(&f.owner, "ana", true).await.expect("disabled");
    assert!(!f.may(&ana, Action::Select, &table("a")));
    f.access.disable_user(&f.owner, "ana", false).await.expect("enabled");
    assert!(f.may(&ana, Action::Select, &table("a")));
    f.access.drop_user(&f.owner, "ana").await.expect("dropped");
    f.clock.advance(Duration::from_secs(1));
    f.user("ana").await;
    assert!(f.access.tokens(None).await.expect("tokens").is_empty());
    assert!(f.access.grants(None).is_empty());
    f.grant("ana", &[Action::Select], "table:a").await;
    assert!(!f.may(&ana, Action::Select, &table("a")), "another account with the same name");
}

#[tokio::test]
async fn a_tokens_scopes_limit_what_its_user_may_do() {
    let f = fixture().await;
    f.user("ana").await;
    f.grant("ana", &[Action::Administer], "lake").await;
    let scopes = Some(vec![permission(&[Action::Select], "table:a")]);
    let secret = f.token("ana", CredentialSettings { scopes, ..Default::default() }).await;
    let ana = f.access.authenticate(Credential::Token(&secret), None).await.expect("valid");
    assert!(f.may(&ana, Action::Select, &table("a")));
    let denied = f.access.decide(&ana, Action::Select, &table("b"));
    assert_eq!(denied, Decision::Denied(DenialReason::Scope));
    assert!(!f.may(&ana, Action::Administer, &AccessObject::lake()));
    let scopes = Some(Vec::new());
    let none = f.token("ana", CredentialSettings { scopes, ..Default::default() }).await;
    let ana = f.access.authenticate(Credential::Token(&none), None).await.expect("valid");
    assert!(!f.may(&ana, Action::Select, &table("a")), "an empty list of scopes allows nothing");
}

#[tokio::test]
async fn every_invalid_credential_has_the_same_error() {
    let f = fixture().await;
    f.user("eve").await;
    let password = Some("correct horse".to_owned());
    let new = NewUser { name: "ana".to_owned(), password, ..NewUser::default() };
    f.access.create_user(&f.owner, new).await.expect("a user");
    let valid = Credential::Password { user: "ana", password: "correct horse" };
    let ana = f.access.authenticate(valid, None).await.expect("valid");
    assert_eq!((ana.author(), ana.method()), ("ana", AuthMethod::Password));
    let token = f.token("ana", CredentialSettings::default()).await;
    let by_token = Credential::Password { user: "ana", password: &token };
    f.access.authenticate(by_token, None).await.expect("a token as the password");

    let forged = format!("{}{}", &token[..token.len() - 8], "00000000");
    let unknown = "hwp_0000000000000000000000000000000000000000000000007b6d7d1d";
    for text in ["", "hwp_", "correct horse", &forged, unknown, "null", "eyJhbGciOiJub25lIn0.e30."]
    {
        assert!(f.is_rejected(Credential::Token(text)).await, "{text}");
    }
    for (user, password) in [
        ("ana", ""),
        ("ana", "correct horsf"),
        ("ANA", "correct horse"),
        ("eve", ""),
        ("eve", "correct horse"),
        ("eve", &token),
        ("unknown", "correct horse"),
        ("", ""),
    ] {
        assert!(f.is_rejected(Credential::Password { user, password }).await, "{user}");
    }
    let service = NewUser {
        name: "ci".to_owned(),
        kind: UserKind::Service,
        password: Some("correct horse".to_owned()),
    };
    f.access.create_user(&f.owner, service).await.expect_err("a service account has no password");
}

#[tokio::test]
async fn the_audit_log_has_logins_and_changes_and_no_secret() {
    let f = fixture().await;
    let password = Some("correct horse".to_owned());
    let new = NewUser { name: "ana".to_owned(), password, ..NewUser::default() };
    f.access.create_user(&f.owner, new).await.expect("a user");
    f.grant("ana", &[Action::Select], "table:a").await;
    let secret = f.token("ana", CredentialSettings::default()).await;
    let valid = Credential::Password { user: "ana", password: "correct horse" };
    f.access.authenticate(valid, None).await.expect("valid");
    for user in ["ana", "correct horse"] {
        assert!(f.is_rejected(Credential::Password { user, password: "wrong" }).await);
    }
    let events = f.access.audit().list(100).await.expect("events");
    let shown: Vec<String> = events
        .iter()
        .rev()
        .map(|it| format!("{} {} {} {}", it.principal, it.action, it.object, it.outcome.as_str()))
        .collect();
    assert_eq!(shown[0], "owner create_user user:ana allowed");
    assert_eq!(shown[1], "owner grant table:public.a allowed");
    assert_eq!(
        shown[3..],
        ["ana login lake allowed", "ana login lake denied", "anonymous login lake denied"]
    );
    assert_eq!(events[0].outcome, AuditOutcome::Denied);
    for journal in ["access", "audit", "access-used"] {
        for entry in f.store.read(journal, 0, 1_000).await.expect("entries") {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            assert!(!text.contains("correct horse") && !text.contains(&secret), "{text}");
        }
    }
}

#[tokio::test]
async fn the_audit_log_has_a_limited_number_of_failed_logins_of_an_address() {
    let f = fixture().await;
    f.user("ana").await;
    for host in [7, 7, 8] {
        let address = Some([192, 0, 2, host].into());
        for _ in 0..15 {
            let guess = f.access.authenticate(Credential::Token("guess"), address).await;
            guess.expect_err("an invalid token");
        }
    }
    let events = f.access.audit().list(100).await.expect("events");
    let of = |host: u8| {
        let address: Option<std::net::IpAddr> = Some([192, 0, 2, host].into());
        events.iter().filter(move |event| event.address == address)
    };
    assert_eq!((of(7).count(), of(8).count()), (20, 15));
    let newest = of(7).next().expect("an event");
    assert!(newest.reason.contains("further failures"), "{}", newest.reason);
}

#[tokio::test]
async fn changes_are_durable_and_seen_by_other_handles() {
    let f = fixture().await;
    let other = Access::open(f.store.clone(), f.clock.clone()).await.expect("opened");
    f.user("ana").await;
    let branch = AccessObject::branch("dev/x");
    let ana = f.log_in("ana").await;
    f.access.set_owner(&ana, &branch).await.expect("owned");
    assert!(!other.has_users());
    other.refresh().await.expect("refreshed");
    assert!(other.has_users());
    assert!(other.decide(&ana, Action::Merge, &branch).is_allowed());
    other.create_role(&f.owner, "reader").await.expect("a role");
    f.access.create_role(&f.owner, "reader").await.expect_err("it exists");
    f.access.create_role(&f.owner, "ana").await.expect_err("one set of names");
    f.access.remove_owner(&ana, &branch).await.expect("removed");
    assert!(!f.may(&ana, Action::Merge, &branch));
}

#[tokio::test]
async fn a_replaced_object_keeps_only_its_own_owner() {
    let f = fixture().await;
    f.user("ana").await;
    f.user("eve").await;
    let (ana, eve) = (f.log_in("ana").await, f.log_in("eve").await);
    let (named, every) = (AccessObject::trigger("nightly"), AccessObject::trigger("*"));
    record_owner(&f.access, &ana, &named, true).await.expect("created");
    record_owner(&f.access, &ana, &named, false).await.expect("replaced");
    assert!(f.may(&ana, Action::Run, &named) && !f.may(&eve, Action::Run, &named));
    record_owner(&f.access, &eve, &named, false).await.expect("replaced");
    assert!(!f.may(&ana, Action::Run, &named) && !f.may(&eve, Action::Run, &named));
    record_owner(&f.access, &eve, &named, true).await.expect("created");
    assert!(!f.may(&ana, Action::Run, &named) && f.may(&eve, Action::Run, &named));
    // A name with a wildcard stands for all triggers. Its record could not be read again, either.
    for wildcards in [&every, &AccessObject::trigger(&"*".repeat(9))] {
        record_owner(&f.access, &ana, wildcards, true).await.expect("created");
    }
    assert!(!f.may(&ana, Action::Run, &every));
    Access::open(f.store.clone(), f.clock.clone()).await.expect("readable records");
}

#[tokio::test]
async fn the_owner_that_is_stored_with_a_table_may_do_everything_but_create_it() {
    let f = fixture().await;
    f.user("ana").await;
    f.user("eve").await;
    let (ana, eve) = (f.log_in("ana").await, f.log_in("eve").await);
    let owned = table("sales.made").with_owner(ana.as_object_owner().as_ref());
    for action in [Action::Select, Action::Insert, Action::Update, Action::Delete, Action::Alter] {
        assert!(f.may(&ana, action, &owned) && !f.may(&eve, action, &owned), "{action}");
    }
    let decision = f.access.explain("ana", Action::Drop, &owned).expect("a user");
    assert_eq!(decision, Decision::Allowed(DecisionReason::Ownership));
    assert!(!f.may(&ana, Action::Create, &owned), "only a grant allows to create");
    assert!(!f.may(&ana, Action::Select, &table("sales.made")), "another table of this name");
    // A later account with the same name is another user.
    f.access.drop_user(&f.owner, "ana").await.expect("dropped");
    f.clock.advance(Duration::from_secs(1));
    f.user("ana").await;
    let later = f.log_in("ana").await;
    assert!(!f.may(&later, Action::Select, &owned) && !f.may(&ana, Action::Select, &owned));
}

#[tokio::test]
async fn an_sql_function_does_not_belong_to_the_owner_of_a_function_of_its_name() {
    let f = fixture().await;
    f.user("ana").await;
    let ana = f.log_in("ana").await;
    let function = AccessObject::function("sales.tax");
    f.access.set_owner(&ana, &function).await.expect("set");
    assert!(f.may(&ana, Action::Invoke, &function));
    assert!(!f.may(&ana, Action::Invoke, &function.with_owner(None)));
}

#[tokio::test]
async fn a_decision_on_many_grants_is_fast() {
    let f = fixture().await;
    f.user("ana").await;
    for number in 0..200 {
        f.grant("ana", &[Action::Select], &format!("table:a{number}.*")).await;
    }
    let ana = f.log_in("ana").await;
    let object = table("b.t");
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert!(!f.may(&ana, Action::Select, &object));
    }
    // The limit is far above the expected time, so it detects only a worse time complexity.
    assert!(started.elapsed() / 100 < Duration::from_millis(5), "{:?}", started.elapsed() / 100);
}

#[tokio::test]
async fn audit_events_have_the_address_and_are_deleted_by_age() {
    // The keys of events contain the system's time.
    let clock = Arc::new(FixedClock::at(SystemClock.now()));
    let access = Access::open(Arc::new(MemoryStore::new()), clock.clone()).await.expect("rights");
    let audit = access.audit();
    let client = Principal::anonymous().with_address(Some([192, 0, 2, 7].into()));
    audit.record(audit.event(&client, "select", "table:a.b", AuditOutcome::Denied));
    let kept = audit.list(10).await.expect("events");
    assert_eq!((kept[0].action.as_str(), kept[0].address), ("select", client.address()));
    let day = Duration::from_hours(24);
    audit.expire(day).await.expect("nothing is older");
    assert_eq!(audit.list(10).await.expect("events").len(), 1);
    clock.advance(2 * day);
    audit.expire(day).await.expect("it is older");
    assert_eq!(audit.list(10).await.expect("events"), []);
}

impl Fixture {
    fn keys(&self) -> AccessKeys {
        AccessKeys::of(&self.access)
    }

    /// Stores an access key and returns its id.
    async fn key(&self, user: Option<&str>, properties: CredentialSettings) -> String {
        let AccessKeyPair { id, .. } = AccessKeyPair::generate().expect("random bytes");
        let (sealed, user) = ("encrypted".to_owned(), user.map(str::to_owned));
        let new = NewAccessKey { id: id.clone(), sealed, user, properties };
        self.keys().create(&self.owner, new).await.expect("a key");
        id
    }

    async fn is_signer(&self, id: &str) -> bool {
        let signer = self.keys().signed_by(id, None).await;
        assert_eq!(signer.is_ok(), self.keys().sealed_secret(id).is_some(), "{id}");
        signer.is_ok()
    }
}

#[tokio::test]
async fn an_access_key_signs_until_it_expires_is_revoked_or_its_user_is_dropped() {
    let f = fixture().await;
    f.user("ana").await;
    let first = f.key(Some("ana"), CredentialSettings::default()).await;
    assert!(first.starts_with("HWAK") && first.len() == 20, "{first}");
    let signer = f.keys().signed_by(&first, None).await.expect("a valid key");
    assert_eq!((signer.user_name(), signer.method()), (Some("ana"), AuthMethod::AccessKey));
    let keys = f.keys().list(Some("ana")).await.expect("keys");
    assert_eq!(keys[0].last_used, Some(f.clock.now()));

    f.grant("ana", &[Action::Read], "bucket:landing").await;
    let object = AccessObject::object_in("landing", "a.csv");
    assert!(f.may(&signer, Action::Read, &object));
    f.keys().revoke(&f.owner, &first, Some("bob")).await.expect_err("the key of another user");
    f.keys().revoke(&f.owner, &first, None).await.expect("revoked");
    // A principal that was authenticated earlier loses its rights.
    assert!(!f.may(&signer, Action::Read, &object) && !f.is_signer(&first).await);

    let expires = Some(f.clock.now() + Duration::from_secs(60));
    let second = f.key(Some("ana"), CredentialSettings { expires, ..Default::default() }).await;
    assert!(f.is_signer(&second).await);
    f.clock.advance(Duration::from_secs(60));
    assert!(!f.is_signer(&second).await);
    let third = f.key(Some("ana"), CredentialSettings::default()).await;
    f.access.drop_user(&f.owner, "ana").await.expect("dropped");
    assert!(!f.is_signer(&third).await && !f.is_signer("HWAKAAAAAAAAAAAAAAAA").await);
    assert!(f.keys().list(None).await.expect("keys").is_empty());
}

#[tokio::test]
async fn scopes_limit_an_access_key_and_the_owner_of_a_bucket_owns_its_objects() {
    let f = fixture().await;
    f.user("ana").await;
    let scopes = Some(vec![permission(&[Action::Read], "bucket:landing/in")]);
    let limited = f.key(Some("ana"), CredentialSettings { scopes, ..Default::default() }).await;
    let limited = f.keys().signed_by(&limited, None).await.expect("a valid key");
    let ana = f.log_in("ana").await;
    let inside = AccessObject::object_in("landing", "in/a.csv");
    assert!(!f.may(&ana, Action::Read, &inside));
    f.access.set_owner(&ana, &AccessObject::bucket("landing")).await.expect("owned");
    assert!(f.may(&ana, Action::Delete, &inside) && f.may(&limited, Action::Read, &inside));
    assert!(!f.may(&limited, Action::Delete, &inside));
    assert!(!f.may(&limited, Action::Read, &AccessObject::object_in("landing", "out/a.csv")));
    let owner = f.key(None, CredentialSettings::default()).await;
    let owner = f.keys().signed_by(&owner, None).await.expect("a valid key");
    assert!(f.may(&owner, Action::Administer, &AccessObject::lake()));
}

#[tokio::test]
async fn own_limits_precede_the_highest_of_the_roles_and_end_with_the_user() {
    let f = fixture().await;
    let limits = UserLimits::of(&f.access);
    f.user("ana").await;
    for role in ["analyst", "staff"] {
        f.access.create_role(&f.owner, role).await.expect(role);
    }
    f.access.grant_role(&f.owner, "analyst", "ana").await.expect("granted");
    f.access.grant_role(&f.owner, "staff", "analyst").await.expect("granted");
    let set = async |name: &str, new: Limits| limits.set(&f.owner, name, new).await;
    set("analyst", Limits { jobs: Some(2), bytes_per_day: Some(5), ..Limits::default() })
        .await
        .expect("limits");
    set("staff", Limits { jobs: Some(3), ..Limits::default() }).await.expect("limits");
    let of_roles = Limits { jobs: Some(3), bytes_per_day: Some(5), ..Limits::default() };
    assert_eq!(limits.effective("ana"), of_roles);
    set("ana", Limits { jobs: Some(1), ..Limits::default() }).await.expect("limits");
    assert_eq!(limits.effective("ana"), Limits { jobs: Some(1), ..of_roles });
    assert_eq!(limits.on("ana").len(), 3);

    let again = Access::open(f.store.clone(), f.clock.clone()).await.expect("the same records");
    assert_eq!(UserLimits::of(&again).effective("ana").jobs, Some(1));
    for wrong in [
        Limits::default(),
        Limits { jobs: Some(0), ..Limits::default() },
        Limits { memory_bytes: Some(0), ..Limits::default() },
        Limits { money_per_day: Some(f64::NAN), ..Limits::default() },
        Limits { money_per_day: Some(-0.5), ..Limits::default() },
    ] {
        assert!(matches!(set("ana", wrong).await, Err(Error::Limit { .. })), "{wrong:?}");
    }
    assert!(set("unknown", Limits { jobs: Some(1), ..Limits::default() }).await.is_err());
    f.access.drop_user(&f.owner, "ana").await.expect("dropped");
    assert!(matches!(limits.get("ana"), Err(Error::NoLimit { .. })));
    assert!(matches!(limits.remove(&f.owner, "ana").await, Err(Error::NoLimit { .. })));
    limits.remove(&f.owner, "staff").await.expect("removed");
    assert_eq!(limits.list().len(), 1);
}

#[tokio::test]
async fn audit_events_are_kept_for_the_retention_time_of_the_lake() {
    let f = fixture().await;
    let retentions = AuditRetentionSetting::of(&f.access);
    assert_eq!(retentions.get().keep_seconds, 365 * 86_400);
    let day = AuditRetention { keep_seconds: 86_400 };
    retentions.set(&f.owner, day).await.expect("a day");
    let short = AuditRetention { keep_seconds: 3_600 };
    assert!(matches!(retentions.set(&f.owner, short).await, Err(Error::Retention)));
    let again = Access::open(f.store.clone(), f.clock.clone()).await.expect("the same records");
    assert_eq!(AuditRetentionSetting::of(&again).get(), day);
    let events = f.access.audit().list(10).await.expect("events");
    assert_eq!(events[0].action, "set_audit_retention");
}
