//! Calls of functions whose budget cannot be read.

use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Actor, ErrorCode, Problem, TriggerEventStatus};
use headwater_triggers::{NewCall, TriggerEventFilter};

use crate::support::{clock, jobs, memory};
use crate::targets::{Tables, by_hand};

#[tokio::test]
async fn a_call_waits_until_its_budget_can_be_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let jobs = jobs(&store, &clock).await;
    let triggers = by_hand(&store, &clock, &jobs, dir.path(), &tables).await.expect("triggers");
    triggers.reload(Vec::new()).await.expect("definitions");
    let unreadable = Problem::new(ErrorCode::InvalidProject, "the version cannot be read");
    *tables.budget_problem.lock().expect("a problem") = Some(unreadable.clone());
    for user in [None, Some("ada".to_owned())] {
        let call = NewCall {
            function: "notify".into(),
            arguments: [].into(),
            key: None,
            user,
            actor: Actor::Owner,
            order_key: None,
            author: "ada".into(),
        };
        triggers.accept(call).await.expect("accepted");
    }
    for _ in 0..3 {
        triggers.tick().await.expect("a tick");
        clock.advance(Duration::from_secs(2));
    }
    assert_eq!(tables.tries(), 0);
    let events = triggers.events(&TriggerEventFilter::default()).await.expect("events");
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!((event.status, event.attempts), (TriggerEventStatus::Pending, 0));
        assert_eq!(event.error.as_ref(), Some(&unreadable));
    }
    *tables.budget_problem.lock().expect("a problem") = None;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(2));
        triggers.tick().await.expect("a tick");
    }
    assert_eq!(tables.tries(), 2);
}
