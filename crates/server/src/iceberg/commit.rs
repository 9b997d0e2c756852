//! Commits: of one table, or of many at once, all or none.
//!
//! A client that did not hear the answer sends a commit again, with the same key or just so. It is made
//! once: what was made before is answered as it was then. An error that leaves it open whether the commit
//! was made is only answered once the branch says that it was not.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use headwater_lake::TableCommit;
use headwater_model::{ErrorCode, TableName};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Refusal;
use super::body::{Raw, read};
use super::error::Answer;
use super::place::Place;
use super::table::{Identifier, describe_committed};
use crate::http::App;
use crate::http::extract::Author;

/// The header that tells one attempt at a request from another request.
const KEY_HEADER: &str = "idempotency-key";

/// The header with what to say of the commit.
const MESSAGE_HEADER: &str = "x-headwater-message";

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// States of tables, by name.
type Tables = BTreeMap<TableName, headwater_tables::Table>;

/// A change of one of several tables.
#[derive(Debug, Deserialize)]
pub struct Change {
    identifier: Identifier,
    #[serde(flatten)]
    commit: TableCommit,
}

/// Changes of several tables.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changes {
    table_changes: Vec<Change>,
}

/// What is to be committed, and for whom.
struct Work {
    branch: String,
    author: String,
    message: Option<String>,
    event: Option<String>,
    changes: Vec<(TableName, TableCommit)>,
}

/// Changes, or makes, the table in the address.
pub async fn one(
    State(app): State<App>,
    place: Place,
    author: Author,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Answer<Response> {
    let commit: TableCommit = read(&body)?;
    let name = if commit.creates() { place.new_table()? } else { place.table()? };
    let mut work = Work::new(&app, &place, author, &headers).await?;
    work.sent(&place, &headers, &body);
    work.changes.push((name.clone(), commit));
    let made = work.run(&app).await?;
    let lost = || Refusal::no_table(&name.qualified());
    describe_committed(made.get(&name).ok_or_else(lost)?)
}

/// Changes several tables in one commit.
pub async fn many(
    State(app): State<App>,
    place: Place,
    author: Author,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Answer<Response> {
    let changes: Changes = read(&body)?;
    let mut commits: Vec<(TableName, TableCommit)> = Vec::new();
    for Change { identifier, commit } in changes.table_changes {
        let creates = commit.creates();
        let name = if creates { identifier.new_name()? } else { identifier.existing()? };
        if commits.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::invalid(format!("table `{name}` is changed twice")));
        }
        commits.push((name, commit));
    }
    let mut work = Work::new(&app, &place, author, &headers).await?;
    work.sent(&place, &headers, &body);
    work.changes = commits;
    work.run(&app).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Work {
    async fn new(app: &App, place: &Place, author: Author, headers: &HeaderMap) -> Answer<Self> {
        let branch = place.branch(app).await?;
        let message = text(headers, MESSAGE_HEADER).filter(|text| text.len() <= MESSAGE_BYTES_MAX);
        let (author, message) = (author.or(None), message.map(str::to_owned));
        Ok(Work { branch, author, message, event: None, changes: Vec::new() })
    }

    /// Gives the work the name of the request, where that has a key. The same key with another change is
    /// another request.
    fn sent(&mut self, place: &Place, headers: &HeaderMap, body: &[u8]) {
        let Some(key) = text(headers, KEY_HEADER).filter(|key| !key.is_empty()) else { return };
        let mut digest = Sha256::new();
        let path = place.path.as_str();
        for part in [key.as_bytes(), self.branch.as_bytes(), path.as_bytes(), body] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        self.event = Some(format!("iceberg/{}", hex::encode(digest.finalize())));
    }

    /// Commits, or finds that this was done before.
    async fn run(&self, app: &App) -> Answer<Tables> {
        match self.attempt(app).await {
            Err(refusal) if refusal.is_doubtful() || is_settled(refusal.code()) => {
                match self.made_before(app, refusal.code()).await {
                    Ok(Some(tables)) => Ok(tables),
                    Ok(None) | Err(_) => Err(refusal.of_commit()),
                }
            }
            other => other,
        }
    }

    async fn attempt(&self, app: &App) -> Answer<Tables> {
        let mut transaction = app.lake.transaction(&self.branch, &self.author).await?;
        if let Some(event) = &self.event {
            transaction.event(event);
        }
        let mut unchanged = Tables::new();
        for (name, commit) in &self.changes {
            transaction.apply(name, commit.clone()).await?;
            if commit.is_empty() {
                unchanged.insert(name.clone(), transaction.table(name).await?);
            }
        }
        let mut tables = transaction.commit_states(&self.message()).await?;
        tables.extend(unchanged);
        Ok(tables)
    }

    /// The tables, where all of them have what this was to bring, or where the branch knows the request.
    async fn made_before(&self, app: &App, code: ErrorCode) -> Answer<Option<Tables>> {
        let view = app.lake.view(&headwater_model::RefSpec::Name(self.branch.clone())).await?;
        let known = code == ErrorCode::AlreadyExists && self.event.is_some();
        let mut tables = Tables::new();
        for (name, commit) in &self.changes {
            let Some(entry) = view.state().table(name).await? else { return Ok(None) };
            let table = app.lake.tables().load(&entry.metadata_location).await?;
            if !(known || commit.is_in(&table)) {
                return Ok(None);
            }
            tables.insert(name.clone(), table);
        }
        Ok(Some(tables))
    }

    fn message(&self) -> String {
        if let Some(message) = &self.message {
            return message.clone();
        }
        match self.changes.as_slice() {
            [(name, commit)] if commit.creates() => format!("create table {name}"),
            [(name, commit)] if commit.appends() == Some(true) => format!("append to {name}"),
            [(name, _)] => format!("change {name}"),
            many => {
                let names: Vec<String> = many.iter().map(|(name, _)| name.to_string()).collect();
                format!("change {}", names.join(", "))
            }
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

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}
