//! The path of a request: a ref and the names of the requested objects.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use headwater_model::{ErrorCode, Problem, RefSpec, TableName, name};

use crate::error::HandlerResult;
use crate::{IcebergError, ROOT};

/// Separator of the levels of a namespace in a path.
const LEVEL_SEPARATOR: char = '\u{1f}';

/// The path of a request.
pub struct RequestPath {
    /// The branch, tag or commit.
    pub reference: RefSpec,
    /// The path as the client sent it.
    pub text: String,
    names: BTreeMap<String, String>,
}

impl<S: Send + Sync> FromRequestParts<S> for RequestPath {
    type Rejection = IcebergError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> HandlerResult<Self> {
        let names: Path<BTreeMap<String, String>> =
            Path::from_request_parts(parts, state).await.map_err(|_| {
                IcebergError::invalid(format!("the path `{}` cannot be parsed", parts.uri.path()))
            })?;
        let reference = names.get("prefix").or_else(|| names.get("ref"));
        let reference = match reference {
            Some(text) => text.parse()?,
            None => RefSpec::main(),
        };
        Ok(RequestPath { reference, text: parts.uri.path().to_owned(), names: names.0 })
    }
}

impl RequestPath {
    /// Returns the ref given in the path before `/v1`; `None` if the path contains none.
    pub fn explicit_ref(&self) -> Option<&RefSpec> {
        self.names.get("ref").map(|_| &self.reference)
    }

    /// Returns the segment of the path for a parameter of the route, such as `table`; empty if the
    /// path has no such segment.
    pub fn segment(&self, part: &str) -> &str {
        self.names.get(part).map_or("", String::as_str)
    }

    /// Returns the namespace in the path. An invalid name is reported as a missing namespace.
    pub fn namespace(&self) -> HandlerResult<String> {
        let written = self.names.get("namespace").map_or("", String::as_str);
        parse_namespace(written).ok_or_else(|| no_namespace(written))
    }

    /// Returns the table in the path. An invalid name is reported as a missing table.
    pub fn table(&self) -> HandlerResult<TableName> {
        self.entry("table").map_err(|name| IcebergError::no_table(&name))
    }

    /// Returns the view in the path. An invalid name is reported as a missing view.
    pub fn view_name(&self) -> HandlerResult<TableName> {
        let missing = |name: String| {
            let problem =
                Problem::new(ErrorCode::TableNotFound, format!("view `{name}` does not exist"));
            IcebergError::from(problem).for_view()
        };
        self.entry("view").map_err(missing)
    }

    /// Returns the name of the table or view in the path. The error is the name as the path
    /// contains it, if the name is invalid.
    fn entry(&self, part: &str) -> Result<TableName, String> {
        let name = self.segment(part);
        let Ok(namespace) = self.namespace() else { return Err(name.to_owned()) };
        TableName::new(&*namespace, name).map_err(|_| format!("{namespace}.{name}"))
    }

    /// Returns the name of the table that a request creates. Errors: invalid name.
    pub fn new_table(&self) -> HandlerResult<TableName> {
        Ok(TableName::new(self.namespace()?, self.segment("table"))?)
    }
}

/// Parses a namespace in a path; `None` if the name is invalid.
pub fn parse_namespace(written: &str) -> Option<String> {
    let levels: Vec<&str> = written.split(LEVEL_SEPARATOR).collect();
    name::namespace_of(&levels).ok()
}

/// Returns the error for a missing namespace in a path.
pub fn no_namespace(written: &str) -> IcebergError {
    IcebergError::no_namespace(&written.replace(LEVEL_SEPARATOR, "."))
}

/// Returns the levels of a namespace, which JSON responses represent as an array.
pub fn levels_of(namespace: &str) -> Vec<&str> {
    name::levels(namespace).collect()
}

/// Returns true if a path belongs to the catalog.
pub fn contains(uri: &Uri) -> bool {
    let rest = uri.path().strip_prefix(ROOT);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
