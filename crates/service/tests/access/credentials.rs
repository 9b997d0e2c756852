//! Every kind of credential: credentials that authenticate a principal, and credentials that do
//! not.

use headwater_model::{CredentialSettings, Identity, Principal, Problem};
use headwater_service::{Credential, S3Operations};
use libtest_mimic::Trial;
use serde_json::json;

use crate::declared_operations::Mismatches;
use crate::lake::{Lake, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("credentials::only_a_valid_token_or_password_authenticates", tokens),
        trial("credentials::only_a_valid_access_key_authenticates", access_keys),
    ]
}

/// A token with a valid format and checksum that no lake has issued.
const FORGED: &str = "hwp_0123456789abcdef0123456789abcdef0123456789abcdefb73ba778";

/// A token with the algorithm `none` and the subject `owner`.
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvd25lciJ9.";

const PASSWORD: &str = "correct horse battery";

const OWNER_TOKEN: &str = "the token of the server";

const INVALID: &str = "unauthenticated";

async fn tokens() {
    let lake = Lake::start().await;
    for name in ["ana", "ben", "bare", "expired", "revoked", "disabled", "dropped"] {
        lake.user(name, &["administer on lake"]).await;
    }
    for name in ["ana", "disabled", "dropped"] {
        let change = request(json!({"password": PASSWORD}));
        let users = lake.service().access_control().users();
        users.update(&Principal::owner(), name, change).await.expect("a password");
    }
    lake.service().accept_owner_token(OWNER_TOKEN);
    let token = async |user| lake.token(user, CredentialSettings::default()).await;
    let (ana, revoked) = (token("ana").await, token("revoked").await);
    let (disabled, dropped) = (token("disabled").await, token("dropped").await);
    let (expired, _) = lake.expired().await;
    invalidate(&lake).await;
    let password = |user, password| Credential::Password { user, password };
    let mut mismatches = Mismatches::default();
    for (name, credential, expected) in [
        ("nothing", Credential::Token(""), INVALID),
        ("a forged token", Credential::Token(FORGED), INVALID),
        ("a token without its prefix", Credential::Token(&ana[4..]), INVALID),
        ("a part of a token", Credential::Token(&ana[..ana.len() - 1]), INVALID),
        ("a token with a space", Credential::Token(&format!("{ana} ")), INVALID),
        ("an unsigned token", Credential::Token(UNSIGNED), INVALID),
        ("an expired token", Credential::Token(&expired), INVALID),
        ("a revoked token", Credential::Token(&revoked), INVALID),
        ("a token of a disabled user", Credential::Token(&disabled), INVALID),
        ("a token of a dropped user", Credential::Token(&dropped), INVALID),
        ("a password as a token", Credential::Token(PASSWORD), INVALID),
        ("no password", password("ana", ""), INVALID),
        ("a wrong password", password("ana", "incorrect horse battery"), INVALID),
        ("a password of an unknown user", password("none", PASSWORD), INVALID),
        ("a password of a disabled user", password("disabled", PASSWORD), INVALID),
        ("a password of a dropped user", password("dropped", PASSWORD), INVALID),
        ("no password for a user without one", password("bare", ""), INVALID),
        ("a password for a user without one", password("bare", PASSWORD), INVALID),
        ("a forged token as a password", password("ana", FORGED), INVALID),
        ("a token of another user as a password", password("ben", &ana), INVALID),
        ("an expired token as a password", password("expired", &expired), INVALID),
        ("an unsigned token as a password", password("owner", UNSIGNED), INVALID),
        ("the name of the owner", password("owner", ""), INVALID),
        ("another token of the server", Credential::Token("the token of a server"), INVALID),
        ("a token", Credential::Token(&ana), "ana"),
        ("a token as a password", password("ana", &ana), "ana"),
        ("a password", password("ana", PASSWORD), "ana"),
        ("the token of the server", Credential::Token(OWNER_TOKEN), "the owner"),
        ("the token of the server as a password", password("ana", OWNER_TOKEN), "the owner"),
    ] {
        let found = identity(lake.service().authenticate(credential, None).await);
        mismatches.check(name, &found, expected);
    }
    mismatches.assert_none();
}

/// Revokes the tokens of the user `revoked`, disables the user `disabled` and drops the user
/// `dropped`.
async fn invalidate(lake: &Lake) {
    let (access, owner) = (lake.access(), Principal::owner());
    for token in access.tokens(Some("revoked")).await.expect("tokens") {
        access.revoke_token(&owner, &token.id, None).await.expect("revoked");
    }
    access.disable_user(&owner, "disabled", true).await.expect("disabled");
    access.drop_user(&owner, "dropped").await.expect("dropped");
}

async fn access_keys() {
    let lake = Lake::start().await;
    let (service, owner) = (lake.service(), Principal::owner());
    let keys = service.access_control().access_keys();
    let key = async |new| keys.create(&owner, request(new)).await.expect("a key").key.id;
    for name in ["ana", "revoked", "disabled", "dropped"] {
        lake.user(name, &["administer on lake"]).await;
    }
    let ids = [
        ("nothing", String::new(), INVALID),
        ("an unknown key", "HWAKAAAAAAAAAAAAAAAA".to_owned(), INVALID),
        ("a revoked key", key(json!({"user": "revoked"})).await, INVALID),
        ("a key of a disabled user", key(json!({"user": "disabled"})).await, INVALID),
        ("a key of a dropped user", key(json!({"user": "dropped"})).await, INVALID),
        ("an expired key", expired_key(&lake).await, INVALID),
        ("a key", key(json!({"user": "ana"})).await, "ana"),
        ("a key of the owner", key(json!({})).await, "the owner"),
    ];
    keys.revoke(&owner, &ids[2].1).await.expect("revoked");
    invalidate(&lake).await;
    let signatures = S3Operations::of(service).signatures();
    let mut mismatches = Mismatches::default();
    for (name, id, expected) in ids {
        mismatches.check(name, &identity(signatures.signer(&id, None).await), expected);
    }
    mismatches.assert_none();
}

/// Returns the id of an access key of the owner that has expired.
async fn expired_key(lake: &Lake) -> String {
    let expires = chrono::Utc::now() + chrono::TimeDelta::milliseconds(500);
    let keys = lake.service().access_control().access_keys();
    let created = keys.create(&Principal::owner(), request(json!({"expires": expires}))).await;
    let id = created.expect("a key").key.id;
    let signatures = S3Operations::of(lake.service()).signatures();
    crate::lake::until(async || signatures.signer(&id, None).await.is_err()).await;
    id
}

/// Returns the name of a principal, or the error code.
fn identity(found: Result<Principal, Problem>) -> String {
    match found {
        Ok(principal) => match principal.identity() {
            Identity::Owner => "the owner".to_owned(),
            Identity::User(user) => user.name.clone(),
            Identity::Anonymous => "anonymous".to_owned(),
        },
        Err(problem) => problem.code.as_str().to_owned(),
    }
}
