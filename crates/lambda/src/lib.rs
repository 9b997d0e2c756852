//! Lambda's REST API: functions, versions, aliases and calls for AWS clients.
//!
//! [`LambdaProtocol`] answers a request: it checks the signature, and parses the path and body. It
//! then calls one operation of the service, and encodes the response or error in the format of AWS.
//! It does not handle connections.

mod account;
mod alias;
mod concurrency;
mod configuration;
mod error;
mod event_invoke;
mod function;
mod invoke;
mod layer;
mod name;
mod page;
mod permission;
mod protocol;
mod request;
mod route;
mod signature;
mod tags;
mod url;
mod url_call;
mod url_event;
mod url_response;

pub use protocol::{BODY_BYTES_MAX, LambdaProtocol, ROOTS};
pub use url::URL_ROOT;
pub use url_call::UrlTarget;
