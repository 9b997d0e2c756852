//! Requests about events whose clients disconnect while the store writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_model::{Actor, ErrorCode, TriggerEventStatus};
use headwater_store::Store;
use headwater_triggers::{CallPolicy, NewCall, TriggerEventFilter, Triggers};

use crate::support::{Dying, Mortal, clock, jobs, memory, until};
use crate::targets::{Tables, by_hand};

/// Triggers with one failed call.
struct Stage {
    store: Arc<Mortal>,
    tables: Arc<Tables>,
    triggers: Triggers,
    event: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (clock, tables) = (clock(), Arc::new(Tables::default()));
        let mortal = Mortal::new(&memory(), i64::MAX, Dying::Before);
        let store: Arc<dyn Store> = mortal.clone();
        let jobs = jobs(&store, &clock).await;
        let triggers = by_hand(&store, &clock, &jobs, folder.path(), &tables).await;
        let triggers = triggers.expect("triggers");
        let policy = CallPolicy { retries: Some(0), ..CallPolicy::default() };
        tables.policies.lock().expect("policies").insert("notify".to_owned(), policy);
        tables.fail(ErrorCode::InvalidArgument, 1);
        let call = NewCall {
            function: "notify".into(),
            arguments: [].into(),
            key: None,
            user: None,
            actor: Actor::Owner,
            order_key: None,
            author: "ada".into(),
        };
        let event = triggers.accept(call).await.expect("accepted").event;
        let stage = Stage { store: mortal, tables, triggers, event, _folder: folder };
        stage.tick().await;
        assert_eq!(stage.statuses().await, [TriggerEventStatus::Failed]);
        stage
    }

    async fn tick(&self) {
        self.triggers.tick().await.expect("a tick");
    }

    async fn statuses(&self) -> Vec<TriggerEventStatus> {
        let events = self.triggers.events(&TriggerEventFilter::default()).await.expect("events");
        events.iter().map(|event| event.status).collect()
    }

    /// Drops a request while the store blocks its write.
    async fn cancel<T: std::fmt::Debug>(&self, request: impl Future<Output = T>) {
        let turn = self.store.turn.lock().await;
        let is_blocked = async || self.store.waiting.load(Ordering::SeqCst) > 0;
        tokio::select! {
            ended = request => panic!("the request has ended: {ended:?}"),
            () = until("the request writes", is_blocked) => {}
        }
        drop(turn);
    }
}

#[tokio::test]
async fn a_replay_completes_although_its_client_disconnects() {
    let stage = Stage::new().await;
    stage.cancel(stage.triggers.replay(&stage.event)).await;
    let is_repeated = async || {
        stage.tick().await;
        stage.tables.tries() == 2
    };
    until("the call is repeated", is_repeated).await;
    assert_eq!(stage.statuses().await, [TriggerEventStatus::Done]);
}

#[tokio::test]
async fn a_removal_completes_although_its_client_disconnects() {
    let stage = Stage::new().await;
    stage.cancel(stage.triggers.remove(&stage.event)).await;
    until("the event is removed", async || stage.statuses().await.is_empty()).await;
    stage.tick().await;
    assert_eq!(stage.tables.tries(), 1);
}
