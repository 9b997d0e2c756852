//! The S3 protocol: buckets and objects for S3 clients, on `s3s`.
//!
//! [`S3Protocol`] responds to a request. `s3s` parses requests, checks signatures and encodes
//! responses; this crate calls one operation of the service for each request. This crate does not
//! handle connections.

mod authentication;
mod bucket;
mod checksum;
mod content;
mod error;
mod failed_condition;
mod listing;
mod multipart;
mod notification;
mod object;
mod operations;
mod protocol;
mod unsupported_settings;

pub use protocol::{Peer, S3Protocol};
pub use s3s::{Body, HttpRequest, HttpResponse};
