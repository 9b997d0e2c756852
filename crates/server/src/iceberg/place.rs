//! Where a request goes: the ref in its address, and the names after it.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use headwater_lake::{Lake, View};
use headwater_model::{ErrorCode, Problem, RefSpec, TableName};

use super::Refusal;
use super::error::Answer;
use crate::http::App;

/// What parts the levels of a namespace in an address.
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
        Ok(app.lake.view(&self.reference).await?)
    }

    /// The branch to write to.
    pub async fn branch(&self, app: &App) -> Answer<String> {
        Ok(app.branch_to_write(Some(&self.reference)).await?)
    }

    /// The namespace in the address.
    pub fn namespace(&self) -> Answer<&str> {
        let name = self.names.get("namespace").map_or("", String::as_str);
        if name.is_empty() || name.contains(LEVELS) {
            return Err(Refusal::no_namespace(&name.replace(LEVELS, ".")));
        }
        Ok(name)
    }

    /// The table in the address. A name that no table can have is that of none.
    pub fn table(&self) -> Answer<TableName> {
        let (namespace, name) = (self.namespace(), self.names.get("table"));
        let name = name.map_or("", String::as_str);
        let Ok(namespace) = namespace else { return Err(Refusal::no_table(name)) };
        TableName::new(namespace, name)
            .map_err(|_| Refusal::no_table(&format!("{namespace}.{name}")))
    }
}

impl Place {
    /// The view in the address. A name that no view can have is that of none.
    pub fn view_name(&self) -> Answer<TableName> {
        let name = self.names.get("view").map_or("", String::as_str);
        let missing = |name: &str| {
            let problem =
                Problem::new(ErrorCode::TableNotFound, format!("there is no view `{name}`"));
            Refusal::from(problem).of_view()
        };
        let Ok(namespace) = self.namespace() else { return Err(missing(name)) };
        TableName::new(namespace, name).map_err(|_| missing(&format!("{namespace}.{name}")))
    }

    /// The table in the address, which is to be made.
    pub fn new_table(&self) -> Answer<TableName> {
        let name = self.names.get("table").map_or("", String::as_str);
        Ok(TableName::new(self.namespace()?, name)?)
    }
}

/// The namespace that levels name. Headwater's have one.
pub fn namespace_of(levels: &[String]) -> Answer<&str> {
    match levels {
        [name] => Ok(name),
        levels => {
            let name = levels.join(".");
            let message = format!("namespace `{name}` has {} levels", levels.len());
            Err(Refusal::invalid(format!("{message}, and namespaces here have one")))
        }
    }
}

/// Fails where a branch, tag or commit is not there.
pub async fn check(lake: &Lake, reference: &RefSpec) -> Answer<()> {
    lake.catalog().resolve(reference).await?;
    Ok(())
}
