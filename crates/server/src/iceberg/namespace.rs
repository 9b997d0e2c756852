//! Namespaces: list, make, look at, change, remove. They have one level.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::Namespace;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::error::Answer;
use super::page::Page;
use super::place::{Place, namespace_of};
use super::write::Write;
use crate::http::App;

/// Lists namespaces by name: all, or those within another, of which there are none.
pub async fn list(State(app): State<App>, place: Place, page: Page) -> Answer<Json<Value>> {
    let view = place.view(&app).await?;
    let mut names: Vec<String> = Vec::new();
    match page.parent.as_deref().filter(|parent| !parent.is_empty()) {
        Some(parent) => view.check_namespace(parent).await?,
        None => names.extend(view.namespaces().await?.into_iter().map(|found| found.name)),
    }
    let (names, next) = page.of(names);
    let names: Vec<[String; 1]> = names.into_iter().map(|name| [name]).collect();
    Ok(Json(json!({"namespaces": names, "next-page-token": next})))
}

/// A namespace that is to be made.
#[derive(Debug, Deserialize)]
pub struct NewNamespace {
    namespace: Vec<String>,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

/// Makes a namespace.
pub async fn create(State(app): State<App>, write: Write) -> Answer<Json<Value>> {
    let new: NewNamespace = write.read()?;
    let name = namespace_of(&new.namespace)?;
    let properties = new.properties.unwrap_or_default();
    let what = format!("create namespace {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        transaction.create_namespace(name, properties.clone());
        transaction.commit(&write.message(&what)).await?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(Json(json!({"namespace": [name], "properties": properties})))
}

async fn find(app: &App, place: &Place) -> Answer<Namespace> {
    let name = place.namespace()?;
    let view = place.view(app).await?;
    let Some(found) = view.state().namespace(name).await? else {
        view.check_namespace(name).await?;
        return Err(Refusal::no_namespace(name));
    };
    Ok(found)
}

/// Answers a namespace's properties.
pub async fn show(State(app): State<App>, place: Place) -> Answer<Json<Value>> {
    let found = find(&app, &place).await?;
    Ok(Json(json!({"namespace": [found.name], "properties": found.properties})))
}

/// Answers whether a namespace is there.
pub async fn exists(State(app): State<App>, place: Place) -> Answer<StatusCode> {
    find(&app, &place).await.map(|_| StatusCode::NO_CONTENT)
}

/// Removes a namespace that holds no tables.
pub async fn remove(State(app): State<App>, write: Write) -> Answer<StatusCode> {
    let name = write.place.namespace()?;
    let what = format!("drop namespace {name}");
    let work = async {
        let mut transaction = write.transaction(&app).await?;
        transaction.drop_namespace(name);
        transaction.commit(&write.message(&what)).await?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A change of properties.
#[derive(Debug, Deserialize)]
pub struct NewProperties {
    #[serde(default)]
    removals: Option<Vec<String>>,
    #[serde(default)]
    updates: Option<BTreeMap<String, String>>,
}

/// Sets properties of a namespace, and removes others.
pub async fn update(State(app): State<App>, write: Write) -> Answer<Json<Value>> {
    let new: NewProperties = write.read()?;
    let removals = new.removals.unwrap_or_default();
    let updates = new.updates.unwrap_or_default();
    if let Some(both) = removals.iter().find(|key| updates.contains_key(*key)) {
        let problem = format!("`{both}` is to be both set and removed");
        return Err(Refusal::unprocessable(problem));
    }
    let found = find(&app, &write.place).await?;
    let (removed, missing): (Vec<String>, Vec<String>) =
        removals.iter().cloned().partition(|key| found.properties.contains_key(key));
    let updated: Vec<String> = updates.keys().cloned().collect();
    if !updated.is_empty() || !removed.is_empty() {
        let name = &found.name;
        let what = format!("change namespace {name}");
        let work = async {
            let mut transaction = write.transaction(&app).await?;
            transaction.update_namespace(name, updates, removals);
            transaction.commit(&write.message(&what)).await?;
            Ok(())
        };
        Box::pin(write.once(&app, &what, work)).await?;
    }
    Ok(Json(json!({"updated": updated, "removed": removed, "missing": missing})))
}
