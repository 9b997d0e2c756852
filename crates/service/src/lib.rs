//! Every operation that a client can request, below every protocol, and the wiring of all components.
//!
//! [`Service::start`] opens a lake and starts its components from the ground up. Protocols hold a
//! [`Service`], call one of its methods per request, and encode what it returns. Nothing here reads
//! the environment, the home folder or a socket.

mod access;
mod branch;
mod commit_history;
mod config;
mod deployment;
mod error;
mod executors;
mod import;
mod invocation;
mod maintenance;
mod metered_runtime;
mod operation;
mod project_files;
mod reference;
mod service;
mod settings;
mod statement;
mod system_tables;
mod tag;
mod template_params;
mod trigger_executor;

pub use branch::Branches;
pub use config::ServiceConfig;
pub use deployment::{Deployed, Deployer, Version, missing_branch};
pub use error::{Error, Result};
pub use executors::{project_name, run_queue, run_summary};
pub use import::FileImports;
pub use invocation::{CallInput, EndedCall, FoundFunction, Invocations};
pub use maintenance::new_job as new_maintenance_job;
pub use project_files::read_project;
pub use reference::Refs;
pub use service::{Components, Service};
pub use statement::{StartedStatement, StatementRows, Statements};
pub use tag::Tags;
