//! What clients need to reach the files of a warehouse in a cloud themselves: where it is, and, where they
//! ask for them and the server's owner allows it, the credentials that the server has.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::http::App;

/// The header in which a client says how it would like to be let in.
const DELEGATION_HEADER: &str = "x-iceberg-access-delegation";

/// How a client is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    credentials: bool,
}

impl Access {
    /// As the client asks for it, as far as the server may.
    pub fn asked(app: &App, headers: &HeaderMap) -> Self {
        let asked = headers.get_all(DELEGATION_HEADER).iter().filter_map(|it| it.to_str().ok());
        let mut asked = asked.flat_map(|value| value.split(','));
        let asked = asked.any(|way| way.trim() == "vended-credentials");
        Access { credentials: asked && app.config.vend_credentials }
    }

    /// Without credentials.
    pub fn plain() -> Self {
        Access { credentials: false }
    }

    /// What a client is told with each table.
    pub fn config(self, app: &App) -> Value {
        json!(app.service.components().lake.tables().for_clients(self.credentials))
    }

    /// The same as credentials for a part of the warehouse; none where there are none.
    pub fn storage_credentials(self, app: &App) -> Value {
        let config = app.service.components().lake.tables().for_clients(true);
        if !self.credentials || config.is_empty() {
            return json!([]);
        }
        json!([{"prefix": app.service.components().lake.tables().root_url(), "config": config}])
    }
}
