//! The owner that is stored with a table or view: the user that created it.

use std::collections::BTreeMap;

use headwater_lake::{RowsToWrite, Transaction, set_creator};
use headwater_model::{
    CreateRef, ErrorCode, MergeRequest, ObjectOwner, RefSpec, ToProblem, WriteMode,
};
use headwater_tables::ViewDefinition;

use crate::support::{Fixture, name, numbers, rows_of, schema};

fn owner(user: &str) -> ObjectOwner {
    ObjectOwner { user: user.to_owned(), created: "2026-11-01T12:00:00Z".parse().unwrap() }
}

/// Starts a transaction whose new objects belong to a user.
async fn by(fixture: &Fixture, branch: &str, user: &str) -> Transaction {
    let mut transaction = fixture.lake.transaction(branch, user).await.unwrap();
    set_creator(&mut transaction, Some(owner(user)));
    transaction
}

/// Creates a table with one row.
async fn create(fixture: &Fixture, branch: &str, user: &str, table: &str) {
    let mut transaction = by(fixture, branch, user).await;
    let table = name(table);
    transaction.create(&table, schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    transaction.append(&table, rows_of(numbers("id", [1]))).await.unwrap();
    transaction.commit("create").await.unwrap();
}

async fn append(fixture: &Fixture, branch: &str, user: &str, id: i64) {
    let mut transaction = by(fixture, branch, user).await;
    transaction.append_rows(&name("t"), rows_of(numbers("id", [id]))).await.unwrap();
    transaction.commit("append").await.unwrap();
}

/// Returns the name of the owner of a table or view.
async fn owner_of(fixture: &Fixture, branch: &str, table: &str) -> Option<String> {
    let view = fixture.lake.view(&RefSpec::Name(branch.to_owned())).await.unwrap();
    let entry = view.state().entry(&name(table)).await.unwrap().expect(table);
    entry.owner.map(|owner| owner.user)
}

async fn branch(fixture: &Fixture, name: &str) {
    let request = CreateRef { name: name.into(), from: None, if_not_exists: false };
    fixture.lake.create_branch(request).await.unwrap();
}

async fn merge(fixture: &Fixture, target: &str, source: &str) {
    let request = MergeRequest::new(RefSpec::Name(source.to_owned()));
    let report = fixture.lake.merge(target, request, "eva").await.unwrap();
    assert!(report.conflicts.is_empty(), "{report:?}");
}

#[tokio::test]
async fn changes_and_renames_keep_the_owner_of_a_table() {
    let fixture = Fixture::in_memory().await;
    create(&fixture, "main", "ana", "t").await;
    append(&fixture, "main", "bob", 2).await;
    assert_eq!(owner_of(&fixture, "main", "t").await.as_deref(), Some("ana"));
    let mut transaction = by(&fixture, "main", "bob").await;
    let rows = rows_of(numbers("id", [3]));
    transaction.replace(&name("t"), schema("id"), Vec::new(), rows).await.unwrap();
    transaction.commit("replace").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "t").await.as_deref(), Some("ana"));
    let mut transaction = by(&fixture, "main", "bob").await;
    transaction.rename(&name("t"), &name("u")).await.unwrap();
    transaction.commit("rename").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "u").await.as_deref(), Some("ana"));
}

#[tokio::test]
async fn a_new_table_of_the_same_name_belongs_to_its_creator() {
    let fixture = Fixture::in_memory().await;
    create(&fixture, "main", "ana", "t").await;
    let mut transaction = by(&fixture, "main", "bob").await;
    transaction.drop(&name("t"), false).await.unwrap();
    transaction.create(&name("t"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    transaction.commit("again").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "t").await.as_deref(), Some("bob"));
    let mut transaction = fixture.lake.transaction("main", "ana").await.unwrap();
    transaction.drop(&name("t"), false).await.unwrap();
    transaction.commit("drop").await.unwrap();
    let mut transaction = fixture.lake.transaction("main", "ana").await.unwrap();
    transaction.create(&name("t"), schema("id"), Vec::new(), BTreeMap::new()).await.unwrap();
    transaction.commit("by the lake's owner").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "t").await, None);
}

#[tokio::test]
async fn merges_keep_the_owner_of_a_table() {
    let fixture = Fixture::in_memory().await;
    create(&fixture, "main", "ana", "t").await;
    branch(&fixture, "dev").await;
    assert_eq!(owner_of(&fixture, "dev", "t").await.as_deref(), Some("ana"));
    create(&fixture, "dev", "bob", "new").await;
    append(&fixture, "dev", "bob", 2).await;
    append(&fixture, "main", "eve", 3).await;
    merge(&fixture, "main", "dev").await;
    assert_eq!(owner_of(&fixture, "main", "t").await.as_deref(), Some("ana"));
    assert_eq!(owner_of(&fixture, "main", "new").await.as_deref(), Some("bob"));
    assert_eq!(fixture.rows("t").await.len(), 3);
}

#[tokio::test]
async fn a_table_that_a_branch_adopts_belongs_to_the_user_that_adopts_it() {
    let fixture = Fixture::in_memory().await;
    for name in ["one", "two", "three"] {
        branch(&fixture, name).await;
    }
    create(&fixture, "one", "ana", "t").await;
    for (target, user) in [("two", "bob"), ("three", "eve")] {
        let view = fixture.lake.view(&RefSpec::Name("one".to_owned())).await.unwrap();
        let mut transaction = by(&fixture, target, user).await;
        view.adopt_in(&mut transaction, &name("t")).await.unwrap();
        transaction.commit("adopt").await.unwrap();
        assert_eq!(owner_of(&fixture, target, "t").await.as_deref(), Some(user));
    }
    // Both branches have the same state of the table, so its owners are no conflict.
    merge(&fixture, "two", "three").await;
    assert_eq!(owner_of(&fixture, "two", "t").await.as_deref(), Some("bob"));
    assert_eq!(owner_of(&fixture, "one", "t").await.as_deref(), Some("ana"));
}

#[tokio::test]
async fn a_view_keeps_its_owner_until_it_is_dropped() {
    let fixture = Fixture::in_memory().await;
    let definition = |sql: &str| ViewDefinition {
        schema: schema("id"),
        sql: sql.to_owned(),
        dialect: "headwater".to_owned(),
        namespace: "public".to_owned(),
        engine: ("test".to_owned(), "1".to_owned()),
    };
    let mut transaction = by(&fixture, "main", "ana").await;
    transaction.views().create(&name("v"), &definition("SELECT 1 AS id"), false).await.unwrap();
    transaction.commit("create").await.unwrap();
    let mut transaction = by(&fixture, "main", "bob").await;
    transaction.views().create(&name("v"), &definition("SELECT 2 AS id"), true).await.unwrap();
    transaction.commit("replace").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "v").await.as_deref(), Some("ana"));
    let mut transaction = by(&fixture, "main", "bob").await;
    transaction.views().rename(&name("v"), &name("w")).await.unwrap();
    transaction.commit("rename").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "w").await.as_deref(), Some("ana"));
    let mut transaction = by(&fixture, "main", "bob").await;
    transaction.views().create(&name("v"), &definition("SELECT 3 AS id"), false).await.unwrap();
    transaction.commit("create").await.unwrap();
    assert_eq!(owner_of(&fixture, "main", "v").await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn the_rights_of_an_owner_do_not_reach_another_table_of_the_name() {
    let fixture = Fixture::in_memory().await;
    create(&fixture, "main", "ana", "t").await;
    let write = async |owned_id: Option<String>, must_create: bool| {
        let request = RowsToWrite {
            branch: "main".to_owned(),
            table: name("t"),
            mode: WriteMode::Append,
            schema: schema("id"),
            author: "bob".to_owned(),
            creator: Some(owner("bob")),
            owned_id,
            must_create,
            job: "job".to_owned(),
        };
        fixture.lake.write(&request, || rows_of(numbers("id", [2]))).await
    };
    let other = Some("another table".to_owned());
    for (owned_id, must_create) in [(other, false), (None, true)] {
        let error = write(owned_id, must_create).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::CommitConflict);
    }
    assert_eq!(fixture.rows("t").await.len(), 1);
    write(None, false).await.unwrap();
    assert_eq!(fixture.rows("t").await.len(), 2);
}
