//! Merges as whoever asks for them sees them: choices, limits, and what is left when nobody waits.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use headwater_model::{
    ConflictKind, CreateRef, ErrorCode, Fault, MergeChoice, MergeOutcome, MergeReport,
    MergeRequest, MergedHow,
};
use serde_json::json;

use crate::changes::{NewTable, Step, make};
use crate::support::{Fixture, name};

fn step(text: serde_json::Value) -> Step {
    serde_json::from_value(text).unwrap()
}

/// Two branches, on which both tables were changed: `t` so that it merges, `u` as is said.
async fn parted(lake: &Fixture, ours: &Step, theirs: &Step) {
    let columns = vec![[("id".to_owned(), "long".to_owned())].into()];
    let files = vec![vec![json!([1]), json!([2]), json!([3])]];
    let new = NewTable { columns, files, partition: Vec::new(), properties: [].into() };
    for table in ["t", "u"] {
        make(lake, "main", "dev", &name(table), &Step::Create(new.clone())).await;
    }
    let request = CreateRef { name: "dev".into(), from: None, if_not_exists: false };
    lake.lake.catalog().create_branch(request).await.unwrap();
    make(lake, "main", "dev", &name("t"), &step(json!({"delete": {"id": 1}}))).await;
    make(lake, "dev", "main", &name("t"), &step(json!({"delete": {"id": 3}}))).await;
    make(lake, "main", "dev", &name("u"), ours).await;
    make(lake, "dev", "main", &name("u"), theirs).await;
}

fn dev() -> MergeRequest {
    MergeRequest::new("dev".parse().unwrap())
}

#[tokio::test]
async fn rows_that_are_compared_are_limited_for_all_tables_together() {
    // Three files of 3, 2 and 2 rows are compared for each of two tables.
    for (rows_max, merges) in [(14, true), (13, false), (7, false)] {
        let lake = Fixture::with(|tables| tables.merge_rows_max = rows_max).await;
        let (ours, theirs) = (json!({"delete": {"id": 2}}), json!({"delete": {"id": 3}}));
        parted(&lake, &step(ours), &step(theirs)).await;
        let report = lake.lake.merge("main", dev(), "eva").await.unwrap();
        if merges {
            assert_eq!(report.outcome, MergeOutcome::Merged);
            continue;
        }
        assert_eq!(report.conflicts.len(), 1, "one was within the limit");
        assert_eq!(report.conflicts[0].table, name("u"));
        let cause = &report.conflicts[0].causes[0];
        assert_eq!(cause.kind, ConflictKind::TooManyRows);
        assert!(cause.message.contains(&format!("the {rows_max} rows")), "{}", cause.message);
    }
}

#[tokio::test]
async fn choices_are_for_tables_that_are_there() {
    let lake = Fixture::with(|_| ()).await;
    let (ours, theirs) = (json!({"append": [[4]]}), json!({"overwrite": [[5]]}));
    parted(&lake, &step(ours), &step(theirs)).await;
    let choose = |tables: &[(&str, MergeChoice)]| {
        let choices = tables.iter().map(|(table, choice)| (name(table), *choice)).collect();
        MergeRequest { choices, ..dev() }
    };
    let (ours, theirs) = (MergeChoice::Ours, MergeChoice::Theirs);
    let error = lake.lake.merge("main", choose(&[("uu", ours)]), "eva").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TableNotFound);
    assert_eq!(error.hint().unwrap(), "Did you mean `u`?");
    let both = choose(&[("u", ours), ("U", theirs)]);
    let error = lake.lake.merge("main", both, "eva").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("`u`"), "{error}");
    let report = lake.lake.merge("main", choose(&[("U", theirs)]), "eva").await.unwrap();
    assert_eq!(report.outcome, MergeOutcome::Merged);
    let hows: Vec<MergedHow> = report.merged.iter().map(|merged| merged.how).collect();
    assert_eq!(hows, [MergedHow::ByContent, MergedHow::Theirs]);
    assert_eq!(lake.rows("u").await, [json!({"id": 5})]);
}

/// A future that is looked at so many times and then dropped.
struct Abandoned<F>(Option<Pin<Box<F>>>, usize);

impl<F: Future> Future for Abandoned<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.1.checked_sub(1) else {
            self.0 = None;
            return Poll::Ready(None);
        };
        self.1 = left;
        match self.0.as_mut() {
            Some(future) => future.as_mut().poll(context).map(Some),
            None => Poll::Ready(None),
        }
    }
}

/// All files of the lake's tables.
async fn files(lake: &Fixture) -> BTreeSet<String> {
    let listed = lake.lake.tables().object_store().list(None);
    listed.map_ok(|file| file.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_merge_that_nobody_waits_for_leaves_nothing() {
    let lake = Fixture::slow().await;
    let (ours, theirs) = (json!({"delete": {"id": 2}}), json!({"delete": {"id": 3}}));
    parted(&lake, &step(ours), &step(theirs)).await;
    let before = files(&lake).await;
    let mut most = before.len();
    for polls in 0.. {
        let merging = lake.lake.merge("main", dev(), "eva");
        let report: Option<Result<MergeReport, _>> =
            Abandoned(Some(Box::pin(merging)), polls).await;
        if let Some(report) = report {
            assert_eq!(report.unwrap().outcome, MergeOutcome::Merged);
            break;
        }
        most = most.max(files(&lake).await.len());
        let deadline = Instant::now() + Duration::from_secs(10);
        while files(&lake).await != before {
            assert!(Instant::now() < deadline, "{polls}: something is left");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // A data file, a manifest, their list and the metadata file of the first table.
    assert!(most >= before.len() + 4, "it was given up late as well: {most}");
    assert_eq!(lake.rows("t").await, [json!({"id": 2})]);
    assert_eq!(lake.rows("u").await, [json!({"id": 1})]);
}
