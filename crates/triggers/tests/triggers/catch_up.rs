//! Deliveries that end while the source reads the stored deliveries.

use std::sync::Arc;

use headwater_model::Actor;
use headwater_store::Store;
use headwater_triggers::{NewCall, Triggers, TriggersOptions};

use crate::support::{Dying, Mortal, clock, jobs, memory, until};
use crate::targets::{Tables, by_hand};

/// More than the number of ended deliveries that a queue remembers.
const CALLS: usize = 250;

#[tokio::test]
async fn a_delivery_that_ends_during_a_read_of_the_store_does_not_start_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (inner, clock, tables) = (memory(), clock(), Arc::new(Tables::default()));
    let earlier = jobs(&inner, &clock).await;
    let accepting = by_hand(&inner, &clock, &earlier, dir.path(), &tables).await;
    let accepting = accepting.expect("triggers");
    for _ in 0..CALLS {
        let call = NewCall {
            function: "notify".into(),
            arguments: [].into(),
            key: None,
            user: None,
            actor: Actor::Owner,
            order_key: None,
            author: "ada".into(),
        };
        accepting.accept(call).await.expect("accepted");
    }
    accepting.stop();

    let pausing = Mortal::new(&inner, i64::MAX, Dying::Before);
    let store: Arc<dyn Store> = pausing.clone();
    let jobs = jobs(&store, &clock).await;
    let options = TriggersOptions::new(store, clock.clone(), jobs, dir.path());
    let triggers = Triggers::start(options, tables.clone()).await.expect("triggers");
    *pausing.paused.lock().expect("a journal") = Some("trigger_deliveries");
    triggers.reload(Vec::new()).await.expect("definitions");
    pausing.reached.notified().await;
    until("all calls have ended", async || !triggers.has_calls()).await;
    assert_eq!(tables.tries(), CALLS);
    pausing.resumed.notify_one();
    // Waits for the read that was paused, and delivers the events that it queued.
    triggers.tick().await.expect("a tick");
    until("no call is left", async || !triggers.has_calls()).await;
    assert_eq!(tables.tries(), CALLS, "each call starts once");
}
