//! Temporary branches: no branch is left after the future of a request is dropped at any await
//! point.

use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::{Duration, Instant};

use headwater_lake::{Lake, TemporaryBranch};
use headwater_model::{CreateRef, RefSpec};

use crate::support::Fixture;
use crate::uncertain_store::UncertainStore;

/// Time limit for any wait in a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// The prefix of the branches.
const PREFIX: &str = "_transaction/";

/// Polls a future until it has been pending this number of times, and then drops it. Returns the
/// output of a future that ends earlier.
async fn dropped_after<T>(pending: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = pending;
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn create(lake: &Lake) -> headwater_lake::Result<TemporaryBranch> {
    TemporaryBranch::create(lake, PREFIX, RefSpec::main()).await
}

async fn left(lake: &Lake) -> usize {
    lake.catalog().branches(Some(PREFIX)).await.unwrap().len()
}

async fn until(what: &str, is_met: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_met().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until no branch is left. The created branch ensures that earlier batches are applied.
async fn until_gone(lake: &Lake) {
    let request = CreateRef { name: "other".to_owned(), from: None, if_not_exists: false };
    lake.create_branch(request).await.unwrap();
    lake.catalog().delete_branch("other").await.unwrap();
    until("a branch is left", async || left(lake).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_is_left_by_no_dropped_creation_or_deletion() {
    let Fixture { lake, .. } = &Fixture::new().await;
    for pending in 0.. {
        let created = dropped_after(pending, create(lake)).await;
        let has_ended = created.is_some();
        drop(created);
        until_gone(lake).await;
        if has_ended {
            break;
        }
    }
    for pending in 0.. {
        let branch = create(lake).await.unwrap();
        assert_eq!(left(lake).await, 1);
        let deleted = dropped_after(pending, branch.delete()).await;
        until_gone(lake).await;
        if deleted.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_branch_is_deleted_with_its_last_handle_or_on_request() {
    let Fixture { lake, .. } = &Fixture::new().await;
    let first = create(lake).await.unwrap();
    let second = first.clone();
    drop(first);
    assert_eq!(lake.catalog().branch(second.name()).await.unwrap().name, second.name());
    drop(second);
    until_gone(lake).await;
    let first = create(lake).await.unwrap();
    let second = first.clone();
    first.delete().await;
    assert_eq!(left(lake).await, 0);
    drop(second);
}

#[tokio::test]
async fn a_branch_that_the_store_creates_after_the_request_was_dropped_is_deleted() {
    let store = UncertainStore::new();
    let Fixture { lake, .. } = &Fixture::over(store.clone()).await;
    let permits = store.permits.available_permits();
    assert_eq!(store.permits.forget_permits(permits), permits);
    let asked = store.asked.load(SeqCst);
    {
        let creation = pin!(create(lake));
        let has_asked = pin!(until("a creation", async || store.asked.load(SeqCst) > asked));
        let ended = futures::future::select(creation, has_asked).await;
        assert!(matches!(ended, futures::future::Either::Right(_)), "it waits for the store");
    }
    assert_eq!(left(lake).await, 0);
    store.permits.add_permits(permits);
    until("the deletion", async || store.asked.load(SeqCst) >= asked + 2).await;
    until_gone(lake).await;
}

#[tokio::test]
async fn a_failed_deletion_is_repeated() {
    let store = UncertainStore::new();
    let Fixture { lake, .. } = &Fixture::over(store.clone()).await;
    let branch = create(lake).await.unwrap();
    store.overtakes.store(true, SeqCst);
    branch.delete().await;
    assert_eq!(left(lake).await, 1);
    store.overtakes.store(false, SeqCst);
    until("a branch is left", async || left(lake).await == 0).await;
}

#[tokio::test]
async fn a_branch_that_was_created_despite_an_error_is_deleted() {
    let store = UncertainStore::new();
    let Fixture { lake, .. } = &Fixture::over(store.clone()).await;
    store.loses.store(true, SeqCst);
    create(lake).await.expect_err("the answer was lost");
    store.loses.store(false, SeqCst);
    until("a branch is left", async || left(lake).await == 0).await;
}
