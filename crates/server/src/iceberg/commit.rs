//! Commits: of one table, or of many at once, all or none.
//!
//! A client that did not hear the answer sends a commit again, with the same key or just so. It is made
//! once: what was made before is answered as it was then. An error that leaves it open whether the commit
//! was made is only answered once the branch says that it was not.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headwater_lake::TableCommit;
use headwater_model::{ErrorCode, RefSpec, TableName};
use serde::Deserialize;

use super::Refusal;
use super::access::Access;
use super::error::Answer;
use super::table::{Identifier, describe};
use super::write::Write;
use crate::http::App;

/// States of tables, by name.
type Tables = BTreeMap<TableName, headwater_tables::Table>;

/// Changes, by table.
type Changes = Vec<(TableName, TableCommit)>;

/// A change of one of several tables.
#[derive(Debug, Deserialize)]
struct Change {
    identifier: Identifier,
    #[serde(flatten)]
    commit: TableCommit,
}

/// Changes of several tables.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Transaction {
    table_changes: Vec<Change>,
}

/// Changes, or makes, the table in the address.
pub async fn one(State(app): State<App>, write: Write) -> Answer<Response> {
    let commit: TableCommit = write.read()?;
    let name = if commit.creates() { write.place.new_table()? } else { write.place.table()? };
    let changes = vec![(name.clone(), commit)];
    let made = run(&app, &write, &changes).await?;
    let lost = || Refusal::no_table(&name.qualified());
    describe(&app, made.get(&name).ok_or_else(lost)?, false, Access::plain()).await
}

/// Changes several tables in one commit.
pub async fn many(State(app): State<App>, write: Write) -> Answer<Response> {
    let transaction: Transaction = write.read()?;
    let mut changes = Changes::new();
    for Change { identifier, commit } in transaction.table_changes {
        let creates = commit.creates();
        let name = if creates { identifier.new_name()? } else { identifier.existing()? };
        if changes.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::invalid(format!("table `{name}` is changed twice")));
        }
        changes.push((name, commit));
    }
    run(&app, &write, &changes).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Commits, or finds that this was done before.
async fn run(app: &App, write: &Write, changes: &Changes) -> Answer<Tables> {
    match Box::pin(write.once(app, &message(changes), attempt(app, write, changes))).await {
        Ok(Some(tables)) => Ok(tables),
        Ok(None) => Ok(now(app, write, changes).await?.unwrap_or_default()),
        Err(refusal) if refusal.is_doubtful() || is_settled(refusal.code()) => {
            match now(app, write, changes).await {
                Ok(Some(tables)) if is_made(changes, &tables) => Ok(tables),
                _ => Err(refusal.of_commit()),
            }
        }
        Err(refusal) => Err(refusal),
    }
}

async fn attempt(app: &App, write: &Write, changes: &Changes) -> Answer<Tables> {
    let mut transaction = write.transaction(app).await?;
    let mut tables = Tables::new();
    for (name, commit) in changes {
        transaction.apply(name, commit.clone()).await.map_err(of_table)?;
        tables.insert(name.clone(), transaction.table(name).await?);
    }
    let message = write.message(&message(changes));
    tables.extend(transaction.commit_states(&message).await?);
    Ok(tables)
}

/// A view is no table, and whoever asks for one finds none.
fn of_table(error: headwater_lake::Error) -> Refusal {
    match error {
        headwater_lake::Error::IsView { view } => Refusal::no_table(&view.qualified()),
        other => other.into(),
    }
}

/// The tables as the branch has them now; none where it lacks one.
async fn now(app: &App, write: &Write, changes: &Changes) -> Answer<Option<Tables>> {
    let view = app.service.components().lake.view(&RefSpec::Name(write.branch(app).await?)).await?;
    let mut tables = Tables::new();
    for (name, _) in changes {
        let Some(entry) = view.state().table(name).await? else { return Ok(None) };
        let table = app.service.components().lake.tables().load(&entry.metadata_location).await?;
        tables.insert(name.clone(), table);
    }
    Ok(Some(tables))
}

/// Whether the tables have what the changes bring. Since these are made together or not at all, one that
/// is there tells that all were made; but none of them may be missing.
fn is_made(changes: &Changes, tables: &Tables) -> bool {
    let told = changes.iter().filter(|(_, commit)| commit.adds() || commit.creates());
    let there = |(name, commit): &(TableName, TableCommit)| {
        tables.get(name).is_some_and(|table| commit.is_in(table))
    };
    told.map(there).reduce(|all, one| all && one).unwrap_or(false)
}

fn message(changes: &Changes) -> String {
    match changes.as_slice() {
        [(name, commit)] if commit.creates() => format!("create table {name}"),
        [(name, commit)] if commit.appends() == Some(true) => format!("append to {name}"),
        [(name, _)] => format!("change {name}"),
        many => {
            let names: Vec<String> = many.iter().map(|(name, _)| name.to_string()).collect();
            format!("change {}", names.join(", "))
        }
    }
}

/// Whether an error may mean that the same was committed before.
fn is_settled(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CommitConflict | ErrorCode::AlreadyExists | ErrorCode::InvalidArgument
    )
}
