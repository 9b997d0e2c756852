//! Logins at an identity provider in the audit log.

use std::sync::Arc;

use chrono::TimeDelta;
use headwater_access::{Access, ExternalLogin};
use headwater_model::{AuditOutcome, AuthMethod, Clock, SystemClock};
use headwater_store::MemoryStore;

#[tokio::test]
async fn each_login_is_recorded() {
    let access = Access::open(Arc::new(MemoryStore::new()), Arc::new(SystemClock)).await;
    let access = access.expect("a store");
    let login = ExternalLogin {
        user: "ana".to_owned(),
        subject: "https://login.example 1".to_owned(),
        expires: SystemClock.now() + TimeDelta::hours(1),
        managed_roles: [].into(),
        roles: [].into(),
        creates_user: true,
    };
    let address = Some([192, 0, 2, 7].into());
    for count in 1..=2 {
        login.log_in(&access, address).await.expect("a principal");
        let events = access.audit().list(100).await.expect("events");
        let is_login = |outcome: AuditOutcome| {
            let found = events.iter().filter(move |event| event.outcome == outcome);
            found.filter(|event| event.action == "login").count()
        };
        assert_eq!((is_login(AuditOutcome::Allowed), is_login(AuditOutcome::Denied)), (count, 0));
        let newest = events.iter().find(|event| event.action == "login").expect("a login");
        assert_eq!((&*newest.principal, newest.method), ("ana", AuthMethod::Oidc));
        assert_eq!(newest.address, address);
    }
    // A person with the same name and another id is rejected.
    let other = ExternalLogin { subject: "https://login.example 2".to_owned(), ..login };
    other.log_in(&access, address).await.expect_err("another person");
    let events = access.audit().list(100).await.expect("events");
    let denied = events.iter().filter(|event| event.outcome == AuditOutcome::Denied);
    assert_eq!(denied.count(), 1);
}
