//! Pages of lists that are ordered by name. The token of the next page is the last name of the
//! current page.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use crate::IcebergError;
use crate::error::HandlerResult;

/// Default and maximum number of names per page.
const SIZE: usize = 1_000;

/// The requested page.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    page_token: Option<String>,
    page_size: Option<usize>,
    /// The namespace whose child namespaces are listed.
    pub parent: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Pagination {
    type Rejection = IcebergError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> HandlerResult<Self> {
        let found = Query::<Pagination>::try_from_uri(&parts.uri);
        found.map(|query| query.0).map_err(|_| IcebergError::invalid("`pageSize` is not a number"))
    }
}

impl Pagination {
    /// Returns the requested page of a list of ordered names, and the token for the next page. A
    /// client that sends no token, not even an empty one, does not support pagination, and receives
    /// all names.
    pub fn of(&self, names: Vec<String>) -> (Vec<String>, Option<String>) {
        let Some(token) = self.page_token.as_deref() else { return (names, None) };
        let size = self.page_size.unwrap_or(SIZE).clamp(1, SIZE);
        let mut rest = names.into_iter().filter(|name| token.is_empty() || &**name > token);
        let page: Vec<String> = rest.by_ref().take(size).collect();
        let next = rest.next().and_then(|_| page.last().cloned());
        (page, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(token: Option<&str>, size: usize) -> (Vec<String>, Option<String>) {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let page_token = token.map(str::to_owned);
        Pagination { page_token, page_size: Some(size), parent: None }.of(names)
    }

    #[test]
    fn pages_cover_the_whole_list() {
        assert_eq!(page(None, 1).0.len(), 3);
        assert_eq!(page(Some(""), 2), (vec!["a".into(), "b".into()], Some("b".into())));
        assert_eq!(page(Some("b"), 2), (vec!["c".into()], None));
        assert_eq!(page(Some(""), 3).1, None);
        assert_eq!(page(Some("c"), 0), (Vec::new(), None));
    }
}
