//! Tables: list, make, load, drop, rename, take over. Their changes are commits.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use headwater_lake::NewTable;
use headwater_model::TableName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::body::Body;
use super::error::Answer;
use super::page::Page;
use super::place::{Place, namespace_of};
use crate::http::App;
use crate::http::extract::Author;

/// A state of a table.
type Table = headwater_tables::Table;

/// Lists the tables of a namespace by name.
pub async fn list(State(app): State<App>, place: Place, page: Page) -> Answer<Json<Value>> {
    let view = place.view(&app).await?;
    let namespace = place.namespace()?;
    view.check_namespace(namespace).await?;
    let tables = view.list(Some(namespace)).await?;
    let (names, next) = page.of(tables.into_iter().map(|(name, _)| name.name).collect());
    let identifiers = names.iter().map(|name| json!({"namespace": [namespace], "name": name}));
    let identifiers: Vec<Value> = identifiers.collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

/// The table in the address.
pub async fn find(app: &App, place: &Place) -> Answer<Table> {
    let name = place.table()?;
    let view = place.view(app).await?;
    match view.state().table(&name).await? {
        Some(entry) => Ok(app.lake.tables().load(&entry.metadata_location).await?),
        None => Err(missing(&view, &name).await?),
    }
}

/// What to say of a table that is not there.
async fn missing(view: &headwater_lake::View, name: &TableName) -> Answer<Refusal> {
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
    let tag = tag_of(&table, only_named);
    if is_known(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, header(&tag))]).into_response());
    }
    describe(&table, only_named)
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

/// What names a state of a table: the file that holds it, which never changes.
fn tag_of(table: &Table, only_named: bool) -> String {
    let file = table.metadata_location().rsplit('/').next().unwrap_or_default();
    let stem = file.strip_suffix(".metadata.json").unwrap_or(file);
    let stem: String = stem.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
    format!("\"{stem}{}\"", if only_named { "-refs" } else { "" })
}

fn header(tag: &str) -> HeaderValue {
    HeaderValue::from_str(tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// A table as it is loaded.
fn describe(table: &Table, only_named: bool) -> Answer<Response> {
    let answer = Json(json!({
        "metadata-location": table.metadata_location(),
        "metadata": table.metadata_json(only_named)?,
        "config": {},
    }));
    Ok(([(ETAG, header(&tag_of(table, only_named)))], answer).into_response())
}

/// A table as a commit leaves it.
pub fn describe_committed(table: &Table) -> Answer<Response> {
    describe(table, false)
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
pub async fn create(
    State(app): State<App>,
    place: Place,
    author: Author,
    Body(new): Body<NewTable>,
) -> Answer<Response> {
    let name = TableName::new(place.namespace()?, &*new.name)?;
    let branch = place.branch(&app).await?;
    if new.stage_create {
        let view = app.lake.view(&place.reference).await?;
        view.check_namespace(&name.namespace).await?;
        if view.state().table(&name).await?.is_some() {
            return Err(Refusal::exists(&format!("table `{name}`")));
        }
        let metadata = app.lake.tables().describe_new(&name, new).await?;
        return Ok(Json(json!({"metadata": metadata, "config": {}})).into_response());
    }
    let mut transaction = app.lake.transaction(&branch, &author.or(None)).await?;
    transaction.create_new(&name, new).await?;
    let made = transaction.commit_states(&format!("create table {name}")).await;
    let made = match made {
        // Somebody made it in the meantime.
        Err(error) if is_conflict(&error) => {
            return Err(Refusal::exists(&format!("table `{name}`")));
        }
        other => other?,
    };
    answer_with(made.get(&name), &name)
}

fn is_conflict(error: &headwater_lake::Error) -> bool {
    use headwater_model::{ErrorCode, Fault};
    error.code() == ErrorCode::CommitConflict
}

fn answer_with(table: Option<&Table>, name: &TableName) -> Answer<Response> {
    let lost = || Refusal::no_table(&name.qualified());
    describe(table.ok_or_else(lost)?, false)
}

/// Removes a table from the branch. Its files stay for the commits and branches that hold it, and go with
/// the last of them, whether the client asks to purge them or not.
pub async fn remove(State(app): State<App>, place: Place, author: Author) -> Answer<StatusCode> {
    let name = place.table()?;
    find_entry(&app, &place, &name).await?;
    let branch = place.branch(&app).await?;
    let mut transaction = app.lake.transaction(&branch, &author.or(None)).await?;
    transaction.drop_named(&name).await?;
    transaction.commit(&format!("drop table {name}")).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find_entry(app: &App, place: &Place, name: &TableName) -> Answer<()> {
    let view = place.view(app).await?;
    match view.state().table(name).await? {
        Some(_) => Ok(()),
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
        TableName::new(namespace, &*self.name)
            .map_err(|_| Refusal::no_table(&format!("{namespace}.{}", self.name)))
    }

    /// The table that is to be made.
    pub fn new_name(&self) -> Answer<TableName> {
        Ok(TableName::new(namespace_of(&self.namespace)?, &*self.name)?)
    }
}

/// A table's new name.
#[derive(Debug, Deserialize)]
pub struct Rename {
    source: Identifier,
    destination: Identifier,
}

/// Gives a table another name.
pub async fn rename(
    State(app): State<App>,
    place: Place,
    author: Author,
    Body(rename): Body<Rename>,
) -> Answer<StatusCode> {
    let from = rename.source.existing()?;
    find_entry(&app, &place, &from).await?;
    let to = rename.destination.new_name()?;
    let branch = place.branch(&app).await?;
    let mut transaction = app.lake.transaction(&branch, &author.or(None)).await?;
    transaction.rename(&from, &to).await?;
    transaction.commit(&format!("rename table {from} to {to}")).await?;
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
pub async fn register(
    State(app): State<App>,
    place: Place,
    author: Author,
    Body(new): Body<Registration>,
) -> Answer<Response> {
    let name = TableName::new(place.namespace()?, &*new.name)?;
    let branch = place.branch(&app).await?;
    let mut transaction = app.lake.transaction(&branch, &author.or(None)).await?;
    transaction.register(&name, &new.metadata_location, new.overwrite).await?;
    let made = transaction.commit_states(&format!("register table {name}")).await?;
    answer_with(made.get(&name), &name)
}

/// Credentials for a table's files. The warehouse is a folder, which needs none.
pub async fn credentials(State(app): State<App>, place: Place) -> Answer<Json<Value>> {
    find_entry(&app, &place, &place.table()?).await?;
    Ok(Json(json!({"storage-credentials": []})))
}

/// Takes what a client measured, which nobody keeps.
pub async fn metrics(
    State(app): State<App>,
    place: Place,
    Body(_): Body<Value>,
) -> Answer<StatusCode> {
    find_entry(&app, &place, &place.table()?).await?;
    Ok(StatusCode::NO_CONTENT)
}
