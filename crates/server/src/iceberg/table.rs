//! Tables: list, make, load, drop, rename, take over. Their changes are commits.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use headwater_lake::NewTable;
use headwater_model::name::namespace_of;
use headwater_model::{ErrorCode, Fault, TableName};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Refusal;
use super::access::Access;
use super::error::Answer;
use super::page::Page;
use super::place::{Place, levels_of};
use super::write::Write;
use crate::http::App;

/// A state of a table.
type Table = headwater_tables::Table;

/// Lists the tables of a namespace by name.
pub async fn list(State(app): State<App>, place: Place, page: Page) -> Answer<Json<Value>> {
    let view = place.view(&app).await?;
    let namespace = place.namespace()?;
    view.check_namespace(&namespace).await?;
    let tables = view.list(Some(&namespace)).await?;
    let (names, next) = page.of(tables.into_iter().map(|(name, _)| name.name).collect());
    let levels = levels_of(&namespace);
    let identifiers = names.iter().map(|name| json!({"namespace": levels, "name": name}));
    let identifiers: Vec<Value> = identifiers.collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// The table in the address.
async fn find(app: &App, place: &Place) -> Answer<Table> {
    load(app, place, &place.table()?).await
}

/// A table by its name.
pub async fn load(app: &App, place: &Place, name: &TableName) -> Answer<Table> {
    let view = place.view(app).await?;
    match view.state().table(name).await? {
        Some(entry) => {
            Ok(app.service.components().lake.tables().load(&entry.metadata_location).await?)
        }
        None => Err(missing(&view, name).await?),
    }
}

/// What to say of a table that is not there.
async fn missing(view: &headwater_lake::View, name: &TableName) -> Answer<Refusal> {
    if view.state().view(name).await?.is_some() {
        return Ok(Refusal::no_table(&name.qualified()));
    }
    Ok(view.not_found(name).await?.into())
}

#[derive(Deserialize)]
struct Wanted {
    snapshots: Option<String>,
}

/// Answers a table's metadata, with all its snapshots or those that its own branches and tags name.
pub async fn show(
    State(app): State<App>,
    place: Place,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let wanted = Query::<Wanted>::try_from_uri(&uri);
    let wanted = wanted.ok().and_then(|query| query.0.snapshots);
    let only_named = match wanted.as_deref() {
        None | Some("" | "all") => false,
        Some("refs") => true,
        Some(other) => {
            let message = format!("`{other}` snapshots cannot be had; say `all` or `refs`");
            return Err(Refusal::invalid(message));
        }
    };
    let table = find(&app, &place).await?;
    let tag =
        tag_of(&table, app.service.components().lake.last_column_id(&table).await?, only_named);
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, header(&tag))]).into_response());
    }
    describe(&app, &table, only_named, Access::asked(&app, &headers)).await
}

/// Whether the client has what it asks for.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(','));
    tags.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    })
}

/// What names what is sent of a table: the file that holds its state, which never changes, and what is
/// known of its other branches.
fn tag_of(table: &Table, last_column_id: i32, only_named: bool) -> String {
    let mut digest = Sha256::new();
    digest.update(table.metadata_location());
    digest.update([u8::from(only_named)]);
    digest.update(last_column_id.to_le_bytes());
    format!("\"{}\"", &hex::encode(digest.finalize())[..32])
}

fn header(tag: &str) -> HeaderValue {
    HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// A table as it is loaded, and as a commit leaves it.
pub async fn describe(
    app: &App,
    table: &Table,
    only_named: bool,
    access: Access,
) -> Answer<Response> {
    // What was committed is answered, whatever else fails.
    let known =
        app.service.components().lake.last_column_id(table).await.unwrap_or(table.last_column_id());
    let answer = Json(json!({
        "metadata-location": table.metadata_location(),
        "metadata": table.metadata_json(only_named, Some(known))?,
        "config": access.config(app),
        "storage-credentials": access.storage_credentials(app),
    }));
    Ok(([(ETAG, header(&tag_of(table, known, only_named)))], answer).into_response())
}

/// Answers whether a table is there.
pub async fn exists(State(app): State<App>, place: Place) -> Answer<StatusCode> {
    let name = place.table()?;
    let view = place.view(&app).await?;
    match view.state().table(&name).await? {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(missing(&view, &name).await?),
    }
}

/// Makes a table, or only describes it where it is staged: the commit that follows makes it then.
pub async fn create(State(app): State<App>, write: Write) -> Answer<Response> {
    let new: NewTable = write.read()?;
    let name = TableName::new(write.place.namespace()?, &*new.name)?;
    if new.stage_create {
        return stage(&app, &write, &name, new).await;
    }
    let what = format!("create table {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        transaction.create_new(&name, new).await?;
        let message = write.message(&what);
        match transaction.commit_states(&message).await {
            // Somebody made it in the meantime.
            Err(error) if error.code() == ErrorCode::CommitConflict => {
                Err(Refusal::exists(&format!("table `{name}`")))
            }
            made => Ok(made?),
        }
    };
    let made = Box::pin(write.once(&app, &what, work)).await?;
    answer_with(&app, &write, made, &name).await
}

async fn stage(app: &App, write: &Write, name: &TableName, new: NewTable) -> Answer<Response> {
    write.branch(app).await?;
    let view = write.place.view(app).await?;
    view.check_namespace(&name.namespace).await?;
    if view.state().entry(name).await?.is_some() {
        return Err(Refusal::exists(&format!("`{name}`")));
    }
    let metadata = app.service.components().lake.tables().describe_new(name, new).await?;
    let access = write.access(app);
    let (config, credentials) = (access.config(app), access.storage_credentials(app));
    let answer =
        json!({"metadata": metadata, "config": config, "storage-credentials": credentials});
    Ok(Json(answer).into_response())
}

/// The table that was made, or that is there now where the same request made it before.
async fn answer_with(
    app: &App,
    write: &Write,
    made: Option<BTreeMap<TableName, Table>>,
    name: &TableName,
) -> Answer<Response> {
    let table = match made {
        Some(mut made) => made.remove(name).ok_or_else(|| Refusal::no_table(&name.qualified()))?,
        None => load(app, &write.place, name).await?,
    };
    describe(app, &table, false, write.access(app)).await
}

/// Removes a table from the branch. Its files stay for the commits and branches that hold it, and go with
/// the last of them, whether the client asks to purge them or not.
pub async fn remove(State(app): State<App>, write: Write) -> Answer<StatusCode> {
    let name = write.place.table()?;
    let what = format!("drop table {name}");
    let work = async {
        find_entry(&app, &write.place, &name).await?;
        let mut transaction = write.transaction(&app).await?;
        transaction.drop_named(&name).await?;
        transaction.commit(&write.message(&what)).await?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fails where the table in the address is not there.
pub async fn check(app: &App, place: &Place) -> Answer<()> {
    id(app, place).await.map(drop)
}

/// Which table is there.
pub async fn id(app: &App, place: &Place) -> Answer<String> {
    find_entry(app, place, &place.table()?).await
}

async fn find_entry(app: &App, place: &Place, name: &TableName) -> Answer<String> {
    let view = place.view(app).await?;
    match view.state().table(name).await? {
        Some(entry) => Ok(entry.id.clone()),
        None => Err(missing(&view, name).await?),
    }
}

/// A table in a body.
#[derive(Debug, Clone, Deserialize)]
pub struct Identifier {
    namespace: Vec<String>,
    name: String,
}

impl Identifier {
    /// The table that is there. A name that no table can have is that of none.
    pub fn existing(&self) -> Answer<TableName> {
        let missing = |_| Refusal::no_table(&format!("{}.{}", self.namespace.join("."), self.name));
        let namespace = namespace_of(&self.namespace).map_err(missing)?;
        TableName::new(namespace, &*self.name).map_err(missing)
    }

    /// The table that is to be made.
    pub fn new_name(&self) -> Answer<TableName> {
        Ok(TableName::new(namespace_of(&self.namespace)?, &*self.name)?)
    }
}

/// A table's new name.
#[derive(Debug, Deserialize)]
pub struct Rename {
    /// What it is called.
    pub source: Identifier,
    /// What it is to be called.
    pub destination: Identifier,
}

/// Gives a table another name.
pub async fn rename(State(app): State<App>, write: Write) -> Answer<StatusCode> {
    let rename: Rename = write.read()?;
    let from = rename.source.existing()?;
    let to = rename.destination.new_name()?;
    let what = format!("rename table {from} to {to}");
    let work = async {
        find_entry(&app, &write.place, &from).await?;
        let mut transaction = write.transaction(&app).await?;
        transaction.rename(&from, &to).await?;
        transaction.commit(&write.message(&what)).await?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A table to take over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Registration {
    name: String,
    metadata_location: String,
    #[serde(default)]
    overwrite: bool,
}

/// Makes a table of a metadata file that lies in the warehouse.
pub async fn register(State(app): State<App>, write: Write) -> Answer<Response> {
    let new: Registration = write.read()?;
    let name = TableName::new(write.place.namespace()?, &*new.name)?;
    let what = format!("register table {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        transaction.register(&name, &new.metadata_location, new.overwrite).await?;
        let message = write.message(&what);
        Ok(transaction.commit_states(&message).await?)
    };
    let made = Box::pin(write.once(&app, &what, work)).await?;
    answer_with(&app, &write, made, &name).await
}

/// Credentials for a table's files, where the server may hand them on. A folder needs none. Who asks here
/// asks for them.
pub async fn credentials(
    State(app): State<App>,
    place: Place,
    mut headers: HeaderMap,
) -> Answer<Json<Value>> {
    check(&app, &place).await?;
    headers.append("x-iceberg-access-delegation", HeaderValue::from_static("vended-credentials"));
    let credentials = Access::asked(&app, &headers).storage_credentials(&app);
    Ok(Json(json!({"storage-credentials": credentials})))
}

/// Takes what a client measured, which nobody keeps.
pub async fn metrics(State(app): State<App>, write: Write) -> Answer<StatusCode> {
    let _: Value = write.read()?;
    check(&app, &write.place).await?;
    Ok(StatusCode::NO_CONTENT)
}
