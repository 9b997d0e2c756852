//! Operations on users and their rights, and on the audit log.

use headwater_model::{AccessObject, Action, AuditRetention, UpdateUser};
use headwater_service::AuditFilter;
use serde_json::json;

use crate::lake::request;
use crate::matrix::{Answers, EMPTY, ITEMS, NO, OK, Row, administers, done, every, listed, writes};

/// The answers of a list that contains the user's own entries, or all entries for an administrator.
const OWN: Answers = [EMPTY, EMPTY, EMPTY, EMPTY, ITEMS];

/// The answer for a name or id that does not exist.
const MISSING: &str = "invalid_argument";

pub const ROWS: &[Row] = &[
    ("AccessControl::credential_state", every(OK), |c| {
        done(async move { c.accounts().credential_state(&c.by) })
    }),
    ("AccessControl::registry", administers(OK), |c| {
        done(async move { c.accounts().registry(&c.by) })
    }),
    ("AccessControl::audit", writes(OK), |c| {
        done(async move { c.accounts().audit(&c.by, AuditFilter::default()) })
    }),
    ("AccessControl::audit_retention", writes(OK), |c| {
        done(async move { c.accounts().audit_retention(&c.by) })
    }),
    ("AccessControl::set_audit_retention", administers(OK), |c| {
        let retention = AuditRetention { keep_seconds: 86_400 };
        done(async move { c.accounts().set_audit_retention(&c.by, retention).await })
    }),
    ("Users::list", administers(ITEMS), |c| {
        listed(async move { c.accounts().users().list(&c.by) })
    }),
    ("Users::get", administers(MISSING), |c| {
        done(async move { c.accounts().users().get(&c.by, "none") })
    }),
    ("Users::get (own)", every(OK), |c| {
        done(async move { c.accounts().users().get(&c.by, c.own()) })
    }),
    ("Users::create", administers(OK), |c| {
        let new = request(json!({"name": "made", "kind": "person"}));
        done(async move { c.accounts().users().create(&c.by, new).await })
    }),
    ("Users::update", administers(OK), |c| {
        let change = UpdateUser { disabled: Some(true), password: None };
        done(async move { c.accounts().users().update(&c.by, "made", change).await })
    }),
    // A login with a token does not allow a change of the password.
    ("Users::update (own)", administers(OK), |c| {
        let change = UpdateUser { disabled: None, password: Some("a long password".to_owned()) };
        done(async move { c.accounts().users().update(&c.by, c.own(), change).await })
    }),
    ("Users::delete", administers(OK), |c| {
        done(async move { c.accounts().users().delete(&c.by, "made").await })
    }),
    ("Users::whoami", every(OK), |c| done(async move { c.accounts().users().whoami(&c.by).await })),
    ("Tokens::list", administers(EMPTY), |c| {
        listed(async move { c.accounts().tokens().list(&c.by, Some("none")).await })
    }),
    ("Tokens::list (own)", every(ITEMS), |c| {
        listed(async move { c.accounts().tokens().list(&c.by, None).await })
    }),
    ("Tokens::create", administers(MISSING), |c| {
        let new = request(json!({"user": "none"}));
        done(async move { c.accounts().tokens().create(&c.by, new).await })
    }),
    ("Tokens::create (own)", [NO, OK, OK, OK, OK], |c| {
        done(async move { c.accounts().tokens().create(&c.by, request(json!({}))).await })
    }),
    ("Tokens::revoke", every(MISSING), |c| {
        done(async move { c.accounts().tokens().revoke(&c.by, "none").await })
    }),
    ("AccessKeys::list", administers(EMPTY), |c| {
        listed(async move { c.accounts().access_keys().list(&c.by, Some("none")).await })
    }),
    ("AccessKeys::list (own)", OWN, |c| {
        listed(async move { c.accounts().access_keys().list(&c.by, None).await })
    }),
    ("AccessKeys::create", administers(MISSING), |c| {
        let new = request(json!({"user": "none"}));
        done(async move { c.accounts().access_keys().create(&c.by, new).await })
    }),
    ("AccessKeys::create (own)", [NO, OK, OK, OK, OK], |c| {
        done(async move { c.accounts().access_keys().create(&c.by, request(json!({}))).await })
    }),
    ("AccessKeys::revoke", every(MISSING), |c| {
        done(async move { c.accounts().access_keys().revoke(&c.by, "none").await })
    }),
    ("Roles::list", administers(ITEMS), |c| {
        listed(async move { c.accounts().roles().list(&c.by) })
    }),
    ("Roles::create", administers(OK), |c| {
        let new = request(json!({"name": "made"}));
        done(async move { c.accounts().roles().create(&c.by, new).await })
    }),
    ("Roles::grant", administers(OK), |c| {
        done(async move { c.accounts().roles().grant(&c.by, "masked", "made").await })
    }),
    ("Roles::revoke", administers(OK), |c| {
        done(async move { c.accounts().roles().revoke(&c.by, "masked", "made").await })
    }),
    ("Roles::delete", administers(OK), |c| {
        done(async move { c.accounts().roles().delete(&c.by, "made").await })
    }),
    ("Grants::grant", administers(OK), |c| {
        done(async move { c.accounts().grants().grant(&c.by, request(grant())).await })
    }),
    ("Grants::list", administers(ITEMS), |c| {
        listed(async move { c.accounts().grants().list(&c.by, None) })
    }),
    ("Grants::list (own)", [ITEMS, EMPTY, ITEMS, ITEMS, ITEMS], |c| {
        listed(async move { c.accounts().grants().list(&c.by, Some(c.own())) })
    }),
    ("Grants::explain", administers(OK), |c| {
        let (action, object) = (Action::Read, AccessObject::branch("main"));
        let user = if c.own() == "full" { "reader" } else { "full" };
        done(async move { c.accounts().grants().explain(&c.by, user, action, &object).await })
    }),
    ("Grants::explain (own)", every(OK), |c| {
        let (action, object) = (Action::Read, AccessObject::branch("main"));
        done(async move { c.accounts().grants().explain(&c.by, c.own(), action, &object).await })
    }),
    ("Grants::revoke", administers(OK), |c| {
        done(async move { c.accounts().grants().revoke(&c.by, request(grant())).await })
    }),
    ("RestrictionOperations::list", administers(ITEMS), |c| {
        listed(async move { c.accounts().restrictions().list(&c.by) })
    }),
    ("RestrictionOperations::create", administers(OK), |c| {
        let new =
            json!({"name": "made", "table": "shop.items", "using": "id > 1", "to": ["masked"]});
        done(async move { c.accounts().restrictions().create(&c.by, request(new)).await })
    }),
    ("RestrictionOperations::delete", administers(OK), |c| {
        done(async move { c.accounts().restrictions().delete(&c.by, "made").await })
    }),
    ("LimitOperations::list", OWN, |c| listed(async move { c.accounts().limits().list(&c.by) })),
    ("LimitOperations::get", administers(OK), |c| {
        done(async move { c.accounts().limits().get(&c.by, "masked") })
    }),
    ("LimitOperations::get (own)", every(MISSING), |c| {
        done(async move { c.accounts().limits().get(&c.by, c.own()) })
    }),
    ("LimitOperations::set", administers(OK), |c| {
        let limits = request(json!({"jobs": 9}));
        done(async move { c.accounts().limits().set(&c.by, "masked", limits).await })
    }),
    ("LimitOperations::delete", administers(MISSING), |c| {
        done(async move { c.accounts().limits().delete(&c.by, "none").await })
    }),
];

fn grant() -> serde_json::Value {
    json!({"grantee": "masked", "actions": ["select"], "object": "table:a.b"})
}
