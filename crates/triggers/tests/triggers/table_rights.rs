//! Triggers on tables whose identity may not see some tables, or may not read the branch.

use std::sync::atomic::Ordering;

use headwater_model::ErrorCode;

use crate::tables::{Stage, follows};

#[tokio::test]
async fn hidden_tables_are_not_in_events() {
    let stage = Stage::new(vec![follows("t", &["*.*"], 500)]).await;
    stage.branch.commit(&["hidden.a"], None);
    stage.settle().await;
    assert!(stage.events().await.is_empty());
    stage.branch.commit(&["hidden.b", "orders"], None);
    stage.settle().await;
    let events = stage.events().await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.event.tables(), ["public.orders"]);
}

#[tokio::test]
async fn a_source_without_rights_is_not_polled() {
    let stage = Stage::new(vec![follows("t", &["orders"], 500)]).await;
    *stage.tables.denied_sources.lock().expect("denied") = Some("not allowed".to_owned());
    stage.branch.commit(&["orders"], None);
    stage.settle().await;
    assert!(stage.events().await.is_empty());
    let error = stage.triggers.list()[0].error.clone().expect("an error");
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Forbidden, "not allowed"));
    assert_eq!(stage.branch.looks.load(Ordering::Relaxed), 0);
    *stage.tables.denied_sources.lock().expect("denied") = None;
    stage.settle().await;
    assert_eq!(stage.events().await.len(), 1, "the change waited on the branch");
    assert_eq!(stage.triggers.list()[0].error, None);
}
