//! Lambda's REST API (functions, versions, aliases and calls) and the JSON protocol of SQS, for AWS
//! clients.
//!
//! [`LambdaApi`] and [`SqsApi`] respond to requests. Both check the signature, parse the
//! request, call one operation of the service, and encode the response. This crate does not handle
//! connections.

mod account_settings;
mod alias;
mod code_input;
mod configuration;
mod error;
mod event_invoke_config;
mod event_stream;
mod function;
mod function_name;
mod invoke;
mod invoke_stream;
mod kafka_mapping;
mod layer;
mod pagination;
mod permission;
mod protocol;
mod provisioned_concurrency;
mod qualifier_settings;
mod queue_mapping;
mod request;
mod reserved_concurrency;
mod response_body;
mod route;
mod signature;
mod sqs;
mod streamed_call;
mod tags;
mod url_call;
mod url_config;
mod url_event;
mod url_response;
mod url_stream;

pub use invoke::EVENT_BYTES_MAX;
pub use protocol::{BODY_BYTES_MAX, LambdaApi, ROOTS};
pub use response_body::LambdaResponseBody;
pub use sqs::{SqsApi, TARGET_PREFIX};
pub use url_call::UrlTarget;
pub use url_config::URL_ROOT;
