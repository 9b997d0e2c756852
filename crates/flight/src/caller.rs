//! The client of a request: its identity, and the ref and namespace of its statements.

use std::sync::Arc;

use headwater_model::{ErrorCode, Principal, Problem, QueryRequest, RefSpec, ResultExt};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::grpc_status::to_status;
use crate::session_options;

/// The header with the ref that statements read and write; `main` by default.
pub const REF_HEADER: &str = "x-headwater-ref";

/// The header with the namespace of unqualified names; `public` by default.
pub const NAMESPACE_HEADER: &str = "x-headwater-namespace";

/// The token that a client sends with its requests after a login.
#[derive(Debug, Clone)]
pub struct SessionToken(pub String);

/// The session of a client that logged in, as a handle that can end it.
#[derive(Clone)]
pub struct ClientSession {
    id: String,
    is_open: Arc<dyn Fn() -> bool + Send + Sync>,
    end: Arc<dyn Fn() + Send + Sync>,
}

impl ClientSession {
    /// Creates the handle of a session. In contrast to the session's token, `id` is not secret.
    /// `is_open` returns true until the session ends, and `end` ends the session.
    pub fn new(
        id: String,
        is_open: Arc<dyn Fn() -> bool + Send + Sync>,
        end: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        ClientSession { id, is_open, end }
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns true if the session has not ended.
    pub fn is_open(&self) -> bool {
        (self.is_open)()
    }

    /// Ends the session, and makes its token invalid.
    pub fn end(&self) {
        (self.end)();
    }
}

impl std::fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientSession").field(&self.id).finish()
    }
}

/// The client of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The identity.
    pub principal: Principal,
    /// The ref.
    pub reference: RefSpec,
    /// The namespace of unqualified names; `None` for the default namespace.
    pub namespace: Option<String>,
    /// The session of a client that logged in; `None` if each request contains another credential
    /// than a session token.
    pub session: Option<ClientSession>,
}

impl Caller {
    /// Returns the client of a request, which the server has authenticated.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let principal = request.extensions().get::<Principal>().cloned();
        let principal =
            principal.ok_or_else(|| Status::unauthenticated("the request is not authenticated"))?;
        let metadata = request.metadata();
        let named = header(metadata, REF_HEADER)?.or_else(|| session_options::reference(metadata));
        let reference = match named {
            Some(text) => parse_ref(&text).map_err(to_status)?,
            None => RefSpec::main(),
        };
        Ok(Caller {
            principal,
            reference,
            namespace: header(metadata, NAMESPACE_HEADER)?
                .or_else(|| session_options::namespace(metadata)),
            session: request.extensions().get::<ClientSession>().cloned(),
        })
    }

    /// Returns the context of a statement.
    pub fn request(&self, sql: &str) -> QueryRequest {
        QueryRequest {
            sql: sql.to_owned(),
            reference: Some(self.reference.clone()),
            namespace: self.namespace.clone(),
            ..QueryRequest::default()
        }
    }

    /// Returns the same client at another ref.
    pub fn at(&self, reference: RefSpec) -> Self {
        Caller { reference, ..self.clone() }
    }
}

/// Parses a ref.
pub fn parse_ref(text: &str) -> Result<RefSpec, Problem> {
    text.parse::<RefSpec>().or_problem()
}

fn header(metadata: &MetadataMap, name: &str) -> Result<Option<String>, Status> {
    let Some(value) = metadata.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    // The value of a header consists of bytes; names of refs and namespaces are UTF-8.
    let text = std::str::from_utf8(value.as_bytes());
    text.map(|text| Some(text.to_owned())).map_err(|_| {
        let message = format!("the header `{name}` is not UTF-8 text");
        to_status(Problem::new(ErrorCode::InvalidArgument, message))
    })
}
