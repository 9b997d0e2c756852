//! Namespaces: list, make, look at, change, remove.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::Namespace;
use headwater_model::name::{self, namespace_of};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Refusal;
use super::error::Answer;
use super::page::Page;
use super::place::{Place, levels_of, namespace_at, no_namespace};
use super::write::Write;
use crate::http::App;

/// Lists namespaces by name: the outermost, or those directly within another.
pub async fn list(State(app): State<App>, place: Place, page: Page) -> Answer<Json<Value>> {
    let view = place.view(&app).await?;
    let parent = match page.parent.as_deref().filter(|parent| !parent.is_empty()) {
        Some(written) => {
            let parent = namespace_at(written).ok_or_else(|| no_namespace(written))?;
            view.check_namespace(&parent).await?;
            Some(parent)
        }
        None => None,
    };
    let names = view.namespaces().await?.into_iter().map(|found| found.name);
    let names = names.filter(|found| name::parent(found) == parent.as_deref());
    let (names, next) = page.of(names.collect());
    let names: Vec<_> = names.iter().map(|name| levels_of(name)).collect();
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
        transaction.create_namespace(&name, properties.clone());
        transaction.commit(&write.message(&what)).await?;
        Ok(())
    };
    Box::pin(write.once(&app, &what, work)).await?;
    Ok(Json(json!({"namespace": new.namespace, "properties": properties})))
}

async fn find(app: &App, place: &Place) -> Answer<Namespace> {
    let name = place.namespace()?;
    let view = place.view(app).await?;
    let Some(found) = view.state().namespace(&name).await? else {
        view.check_namespace(&name).await?;
        return Err(Refusal::no_namespace(&name));
    };
    Ok(found)
}

/// Answers a namespace's properties.
pub async fn show(State(app): State<App>, place: Place) -> Answer<Json<Value>> {
    let found = find(&app, &place).await?;
    Ok(Json(json!({"namespace": levels_of(&found.name), "properties": found.properties})))
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
        transaction.drop_namespace(&name);
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
