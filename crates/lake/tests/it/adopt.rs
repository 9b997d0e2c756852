//! Adoption of table states: a branch refers to the table of another branch.

use std::collections::BTreeMap;

use headwater_lake::{CommitView, Lake};
use headwater_model::{CreateRef, ErrorCode, RefSpec, ToProblem};

use crate::support::{Fixture, name, numbers, rows_of, schema};

async fn view(lake: &Lake, branch: &str) -> CommitView {
    lake.view(&RefSpec::Name(branch.to_owned())).await.unwrap()
}

/// Replaces all rows of the table `t`.
async fn write(lake: &Lake, branch: &str, ids: &[i64]) {
    let mut transaction = lake.transaction(branch, "eva").await.unwrap();
    let rows = rows_of(numbers("id", ids.iter().copied()));
    transaction.replace(&name("t"), schema("id"), Vec::new(), rows).await.unwrap();
    transaction.commit("rows").await.unwrap().unwrap();
}

async fn adopt(lake: &Lake, branch: &str, from: &str) -> Result<(), ErrorCode> {
    let mut transaction = lake.transaction(branch, "eva").await.unwrap();
    let adopted = view(lake, from).await.adopt_in(&mut transaction, &name("T")).await;
    adopted.map_err(|error| error.code())?;
    transaction.commit("adopt").await.map_err(|error| error.code())?;
    Ok(())
}

async fn sum(fixture: &Fixture, branch: &str) -> i64 {
    let rows = fixture.rows_at(branch, "t").await;
    rows.iter().map(|row| row["id"].as_i64().unwrap()).sum()
}

async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    for branch in ["one", "two"] {
        let request = CreateRef { name: branch.into(), from: None, if_not_exists: false };
        fixture.lake.create_branch(request).await.unwrap();
    }
    write(&fixture.lake, "one", &[1, 2]).await;
    fixture
}

#[tokio::test]
async fn an_adopted_table_has_the_same_metadata_and_both_branches_change_it_independently() {
    let fixture = fixture().await;
    let lake = &fixture.lake;
    adopt(lake, "two", "one").await.unwrap();
    let location = async |branch| {
        let table = view(lake, branch).await.table(&name("t")).await.unwrap();
        table.metadata_location().to_owned()
    };
    assert_eq!(location("one").await, location("two").await);
    write(lake, "one", &[10]).await;
    assert_eq!((sum(&fixture, "one").await, sum(&fixture, "two").await), (10, 3));
    // A newer state of the same table can replace an older state.
    adopt(lake, "two", "one").await.unwrap();
    assert_eq!(sum(&fixture, "two").await, 10);
    let mut transaction = lake.transaction("two", "eva").await.unwrap();
    transaction.append(&name("t"), rows_of(numbers("id", [5]))).await.unwrap();
    transaction.commit("more").await.unwrap();
    assert_eq!((sum(&fixture, "one").await, sum(&fixture, "two").await), (10, 15));
}

#[tokio::test]
async fn another_table_of_that_name_is_not_replaced_and_a_missing_one_is_an_error() {
    let fixture = fixture().await;
    let lake = &fixture.lake;
    assert_eq!(adopt(lake, "one", "two").await, Err(ErrorCode::TableNotFound));
    write(lake, "two", &[7]).await;
    assert_eq!(adopt(lake, "two", "one").await, Err(ErrorCode::AlreadyExists));
    assert_eq!(sum(&fixture, "two").await, 7);
}

#[tokio::test]
async fn a_dropped_transaction_keeps_the_adopted_files() {
    let fixture = fixture().await;
    let mut transaction = fixture.lake.transaction("two", "eva").await.unwrap();
    transaction.create_namespace("other", BTreeMap::new());
    view(&fixture.lake, "one").await.adopt_in(&mut transaction, &name("t")).await.unwrap();
    drop(transaction);
    assert_eq!(sum(&fixture, "one").await, 3);
}
