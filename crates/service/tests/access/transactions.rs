//! The rights of statements in a transaction.

use headwater_model::{CredentialSettings, ErrorCode, Principal, QueryRequest, RefSpec};
use libtest_mimic::Trial;

use crate::lake::{Lake, permission};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("transactions::a_user_that_loses_the_right_to_read_cannot_continue", lost_right)]
}

async fn lost_right() {
    let lake = Lake::start().await;
    let reads = "read on branch:main";
    lake.user("ana", &["select on table:shop.items", reads]).await;
    let token = lake.token("ana", CredentialSettings::default()).await;
    let ana = lake.log_in(&token).await.expect("a valid token");
    let statements = lake.service().statements();
    let begun = statements.transactions().begin(&ana, &RefSpec::main()).await;
    let open = begun.expect("a transaction");
    let within = statements.within(Some(&open));
    let request = QueryRequest {
        sql: "SELECT id FROM shop.items".to_owned(),
        reference: Some(open.reference().clone()),
        ..QueryRequest::default()
    };
    let select = async || within.start(&ana, &request).await.expect("a job").rows.map(drop);
    select().await.expect("the user may read");
    let revoked = lake.access().revoke(&Principal::owner(), "ana", permission(reads)).await;
    revoked.expect("revoked");
    let denied = select().await.expect_err("the user may not read");
    assert_eq!(denied.code, ErrorCode::Forbidden);
    lake.stop().await;
}
