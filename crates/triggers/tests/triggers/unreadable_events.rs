//! Waiting events whose stored record cannot be read.

use std::sync::Arc;

use bytes::Bytes;
use headwater_model::Actor;
use headwater_store::{JournalAppend, WriteBatch};
use headwater_triggers::NewCall;

use crate::support::{clock, jobs, memory};
use crate::targets::{Tables, by_hand};

#[tokio::test]
async fn unreadable_events_do_not_stop_later_events() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let jobs = jobs(&store, &clock).await;
    let key = format!("/functions/notify\n{}/1", jobs.new_id());
    let entries = vec![JournalAppend::put("trigger_batches", key, Bytes::from_static(b"{"))];
    store.apply(WriteBatch { entries, ..WriteBatch::default() }).await.expect("applied");
    let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
    triggers.reload(Vec::new()).await.expect("definitions");
    let call = NewCall {
        function: "notify".into(),
        arguments: [].into(),
        key: None,
        user: None,
        actor: Actor::Owner,
        // Waits behind the unreadable event.
        order_key: Some("k".to_owned()),
        author: "ada".into(),
    };
    triggers.accept(call).await.expect("accepted");
    triggers.tick().await.expect("a tick");
    assert_eq!(tables.tries(), 1);
    let stored = store.read("trigger_batches", 0, 10).await.expect("entries");
    assert_eq!(stored.len(), 1, "the unreadable event is kept");
}
