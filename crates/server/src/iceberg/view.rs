//! Views: list, make, load, replace, drop, rename, take over. Their changes are commits, as those of tables.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_lake::{NewView, ViewCommit};
use headwater_model::{ErrorCode, Fault, TableName};
use headwater_tables::SqlView;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::error::Answer;
use super::page::Page;
use super::place::{Place, levels_of};
use super::table::Rename;
use super::write::Write;
use crate::http::App;

/// Lists the views of a namespace by name.
pub async fn list(State(app): State<App>, place: Place, page: Page) -> Answer<Json<Value>> {
    let view = place.view(&app).await?;
    let namespace = place.namespace()?;
    view.check_namespace(&namespace).await?;
    let views = view.state().views(Some(&namespace)).await?;
    let (names, next) = page.of(views.into_iter().map(|(name, _)| name.name).collect());
    let levels = levels_of(&namespace);
    let identifiers = names.iter().map(|name| json!({"namespace": levels, "name": name}));
    let identifiers: Vec<Value> = identifiers.collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": next})))
}

async fn find(app: &App, place: &Place, name: &TableName) -> Answer<SqlView> {
    let found = place.view(app).await?.sql_view(name).await;
    found.map_err(|error| Refusal::from(error).of_view())
}

fn describe(view: &SqlView) -> Answer<Json<Value>> {
    Ok(Json(json!({
        "metadata-location": view.metadata_location(),
        "metadata": view.metadata_json()?,
        "config": {},
    })))
}

/// Answers a view's metadata.
pub async fn show(State(app): State<App>, place: Place) -> Answer<Json<Value>> {
    describe(&find(&app, &place, &place.view_name()?).await?)
}

/// Answers whether a view is there.
pub async fn exists(State(app): State<App>, place: Place) -> Answer<StatusCode> {
    find(&app, &place, &place.view_name()?).await.map(|_| StatusCode::NO_CONTENT)
}

/// The view that was made, or that is there now where the same request made it before.
async fn answer_with(
    app: &App,
    write: &Write,
    made: Option<SqlView>,
    name: &TableName,
) -> Answer<Json<Value>> {
    match made {
        Some(made) => describe(&made),
        None => describe(&find(app, &write.place, name).await?),
    }
}

/// The error of a change that makes a name, where somebody made it in the meantime.
fn taken(name: &TableName, error: headwater_lake::Error) -> Refusal {
    match error.code() {
        ErrorCode::CommitConflict => Refusal::exists(&format!("`{name}`")),
        _ => error.into(),
    }
}

/// Makes a view.
pub async fn create(State(app): State<App>, write: Write) -> Answer<Json<Value>> {
    let new: NewView = write.read()?;
    let name = TableName::new(write.place.namespace()?, &*new.name)?;
    let what = format!("create view {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        let made = transaction.create_new_view(&name, new).await?;
        let message = write.message(&what);
        let committed = transaction.commit(&message).await;
        committed.map_err(|error| taken(&name, error))?;
        Ok(made)
    };
    let made = Box::pin(write.once(&app, &what, work)).await?;
    answer_with(&app, &write, made, &name).await
}

/// Changes a view: its query, in one dialect or several, or its properties.
pub async fn replace(State(app): State<App>, write: Write) -> Answer<Json<Value>> {
    let commit: ViewCommit = write.read()?;
    let name = write.place.view_name()?;
    let what = format!("replace view {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        let made = transaction.apply_view(&name, &commit).await;
        let made = made.map_err(|error| Refusal::from(error).of_view())?;
        transaction.commit(&write.message(&what)).await?;
        Ok(made)
    };
    let made = Box::pin(write.once(&app, &what, work)).await?;
    answer_with(&app, &write, made, &name).await
}

/// Removes a view from the branch.
pub async fn remove(State(app): State<App>, write: Write) -> Answer<StatusCode> {
    let name = write.place.view_name()?;
    let what = format!("drop view {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        let dropped = transaction.drop_view(&name).await;
        dropped.map_err(|error| Refusal::from(error).of_view())?;
        transaction.commit(&write.message(&what)).await?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a view another name.
pub async fn rename(State(app): State<App>, write: Write) -> Answer<StatusCode> {
    let rename: Rename = write.read()?;
    let from = rename.source.existing().map_err(Refusal::of_view)?;
    let to = rename.destination.new_name()?;
    let what = format!("rename view {from} to {to}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        let renamed = transaction.rename_view(&from, &to).await;
        renamed.map_err(|error| Refusal::from(error).of_view())?;
        let message = write.message(&what);
        transaction.commit(&message).await.map_err(|error| taken(&to, error))?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A view to take over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Registration {
    name: String,
    metadata_location: String,
}

/// Makes a view of a metadata file that lies in the warehouse.
pub async fn register(State(app): State<App>, write: Write) -> Answer<Json<Value>> {
    let new: Registration = write.read()?;
    let name = TableName::new(write.place.namespace()?, &*new.name)?;
    let what = format!("register view {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        let made = transaction.register_view(&name, &new.metadata_location).await?;
        let message = write.message(&what);
        let committed = transaction.commit(&message).await;
        committed.map_err(|error| taken(&name, error))?;
        Ok(made)
    };
    let made = Box::pin(write.once(&app, &what, work)).await?;
    answer_with(&app, &write, made, &name).await
}
