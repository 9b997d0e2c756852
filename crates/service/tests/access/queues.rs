//! The right to receive messages, which can end while a client waits.

use std::collections::BTreeMap;

use headwater_model::{CredentialSettings, ErrorCode, Principal};
use headwater_service::{NewMessage, Queues, ReceiveOptions};
use libtest_mimic::Trial;

use crate::lake::{Lake, permission};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("queues::a_waiting_user_that_loses_the_right_receives_no_message", lost_right)]
}

async fn lost_right() {
    let lake = Lake::start().await;
    let read = "read on queue:late";
    lake.user("reader", &[read]).await;
    let token = lake.token("reader", CredentialSettings::default()).await;
    let reader = lake.log_in(&token).await.expect("a valid token");
    let (owner, queues) = (Principal::owner(), Queues::of(lake.service()));
    let created = queues.create(&owner, "late", &BTreeMap::new(), BTreeMap::new()).await;
    created.expect("a queue");
    let options = ReceiveOptions { limit: 1, visibility: None, wait: Some(20) };
    let send = async || {
        let message = NewMessage { body: "text".to_owned(), ..NewMessage::default() };
        queues.send(&owner, "late", vec![message]).await.expect("sent");
    };
    send().await;
    let received = queues.receive(&reader, "late", options).await.expect("the right to receive");
    assert_eq!(received.len(), 1);
    let lost = async {
        lake.access().revoke(&owner, "reader", permission(read)).await.expect("revoked");
        send().await;
    };
    let waiting = queues.receive(&reader, "late", options);
    let (received, ()) = futures::future::join(waiting, lost).await;
    assert_eq!(received.expect_err("no right to receive").code, ErrorCode::Forbidden);
    lake.stop().await;
}
