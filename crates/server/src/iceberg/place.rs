//! Where a request goes: the ref in its address, and the names after it.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use headwater_lake::{Lake, View};
use headwater_model::{ErrorCode, Problem, RefSpec, TableName, name};

use super::Refusal;
use super::error::Answer;
use crate::http::App;

/// The separator between the levels of a namespace in an address.
const LEVELS: char = '\u{1f}';

/// The parts of the address.
pub struct Place {
    /// The branch, tag or commit.
    pub reference: RefSpec,
    /// The path.
    pub path: String,
    names: BTreeMap<String, String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let names: Path<BTreeMap<String, String>> =
            Path::from_request_parts(parts, state).await.map_err(|_| {
                Refusal::invalid(format!("the path `{}` cannot be read", parts.uri.path()))
            })?;
        let reference = names.get("prefix").or_else(|| names.get("ref"));
        let reference = match reference {
            Some(text) => text.parse()?,
            None => RefSpec::main(),
        };
        Ok(Place { reference, path: parts.uri.path().to_owned(), names: names.0 })
    }
}

impl Place {
    /// The ref in the address, where there is one.
    pub fn named(&self) -> Option<&RefSpec> {
        self.names.get("ref").map(|_| &self.reference)
    }

    /// A part of the address by its name; empty where it has none.
    pub fn name(&self, part: &str) -> &str {
        self.names.get(part).map_or("", String::as_str)
    }

    /// The lake as it is there.
    pub async fn view(&self, app: &App) -> Answer<View> {
        Ok(app.service.components().lake.view(&self.reference).await?)
    }

    /// The branch to write to.
    pub async fn branch(&self, app: &App) -> Answer<String> {
        Ok(app.service.components().branch_to_write(Some(&self.reference)).await?)
    }

    /// The namespace in the address. A name that no namespace can have is that of none.
    pub fn namespace(&self) -> Answer<String> {
        let written = self.names.get("namespace").map_or("", String::as_str);
        namespace_at(written).ok_or_else(|| no_namespace(written))
    }

    /// The table in the address. A name that no table can have is that of none.
    pub fn table(&self) -> Answer<TableName> {
        self.entry("table").map_err(|name| Refusal::no_table(&name))
    }

    /// The view in the address. A name that no view can have is that of none.
    pub fn view_name(&self) -> Answer<TableName> {
        let missing = |name: String| {
            let problem =
                Problem::new(ErrorCode::TableNotFound, format!("there is no view `{name}`"));
            Refusal::from(problem).of_view()
        };
        self.entry("view").map_err(missing)
    }

    /// The table or view in the address, or else its name as written.
    fn entry(&self, part: &str) -> Result<TableName, String> {
        let name = self.name(part);
        let Ok(namespace) = self.namespace() else { return Err(name.to_owned()) };
        TableName::new(&*namespace, name).map_err(|_| format!("{namespace}.{name}"))
    }

    /// The table in the address, which is to be made.
    pub fn new_table(&self) -> Answer<TableName> {
        Ok(TableName::new(self.namespace()?, self.name("table"))?)
    }
}

/// The namespace whose levels are separated as in addresses; none where no namespace can have the name.
pub fn namespace_at(written: &str) -> Option<String> {
    let levels: Vec<&str> = written.split(LEVELS).collect();
    name::namespace_of(&levels).ok()
}

/// The error for a namespace that is not there, as it is written in an address.
pub fn no_namespace(written: &str) -> Refusal {
    Refusal::no_namespace(&written.replace(LEVELS, "."))
}

/// A namespace as clients read it: its levels.
pub fn levels_of(namespace: &str) -> Vec<&str> {
    name::levels(namespace).collect()
}

/// Fails where a branch, tag or commit is not there.
pub async fn check(lake: &Lake, reference: &RefSpec) -> Answer<()> {
    lake.catalog().resolve(reference).await?;
    Ok(())
}
