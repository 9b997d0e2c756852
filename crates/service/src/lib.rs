//! All operations that clients can request, independent of the protocol, and the wiring of all
//! components.
//!
//! [`Service::start`] opens a lake and starts its components in the order of their dependencies.
//! Protocols hold a [`Service`], call one of its methods per request, and encode the result. Each
//! method takes the [`Principal`](headwater_model::Principal) and checks its rights in one place.
//! This crate does not access environment variables, the home folder or sockets.

mod access_control;
mod access_key;
mod access_statement;
mod alias_and_url;
mod async_query;
mod audit_export;
mod auth;
mod backfill;
mod branch;
mod bucket;
mod cloud_event;
mod config;
mod connection;
mod copy_to;
mod deployment;
mod environment;
mod error;
mod event_source_mapping;
mod file_functions;
mod grant;
pub mod iceberg;
mod import;
mod invocation;
mod job;
mod layer;
mod limit;
mod maintenance;
mod metrics;
mod namespace;
mod object;
mod oidc_login;
mod operation_job;
mod queue;
mod queue_worker;
mod reference;
mod restriction;
mod restriction_statement;
mod role;
mod run;
mod s3;
mod secret;
mod service;
mod sql_catalog;
mod standalone_function;
mod start;
mod statement;
mod table;
mod tag;
mod token;
mod transaction;
mod trigger;
mod upload;
mod user;
mod view;
mod visibility;

pub use access_control::AccessControl;
pub use access_key::{AccessKeys, Signatures};
pub use alias_and_url::FunctionUrlChange;
pub use async_query::AsyncQueries;
pub use audit_export::AuditExport;
pub use branch::Branches;
pub use bucket::Buckets;
pub use config::ServiceConfig;
pub use connection::ClientConnections;
pub use deployment::Deployments;
pub use environment::Environments;
pub use error::{Error, Result};
pub use grant::Grants;
pub use headwater_queues::{
    Error as QueueError, EventSourceMapping, MappingSettings, MessageAttribute, NewMessage,
    QueueRecord, ReceiveOptions, ReceivedMessage, SentMessage, attributes_md5,
};
pub use iceberg::Iceberg;
pub use import::Imports;
pub use invocation::{CallInput, Invocations, ResolvedFunction};
pub use job::Jobs;
pub use layer::Layers;
pub use maintenance::Maintenance;
pub use namespace::Namespaces;
pub use object::Objects;
pub use operation_job::EndedJob;
pub use reference::Refs;
pub use role::Roles;
pub use run::Runs;
pub use s3::S3Operations;
pub use secret::Secrets;
pub use service::Service;
pub use standalone_function::StandaloneFunctions;
pub use statement::{COPIED_ROWS, StartedStatement, Statements};
pub use table::{Tables, WriteTarget};
pub use tag::Tags;
pub use token::Tokens;
pub use transaction::{OpenTransaction, Transactions};
pub use trigger::Triggers;
pub use upload::Uploads;
pub use user::Users;
pub use view::Views;

pub use headwater_access::{
    Access, AuditFilter, AuditLog, Credential, CredentialDigest, Decision, DecisionReason,
    DenialReason, LOGIN_RETRY_AFTER, LoginAttempt, LoginLimiter, NewUser,
};
pub use headwater_connections::{
    AdvisoryKey, ClientProperties, ConnectionHandle, ConnectionState, LockKind, LockMode,
    LockScope, TooManyLocks, TransactionState,
};
pub use headwater_engine::{
    ParameterDescription, PlanEstimate, PreparedStatement, RecordBatches as CopiedRows,
    StatementDescription, array_elements, split_script,
};
pub use headwater_executors::{StatementRows, read_project};
pub use headwater_function_store::{
    ARCHIVE_BYTES_MAX, Cors, EventInvokeConfig, FILES_BYTES_MAX, FunctionChange, FunctionFiles,
    FunctionSource, FunctionUpdate, FunctionUrl, InvokeMode, LAYERS, LayerChange, LayerVersion,
    ProvisionedConfig, QualifierChange, QualifierSettings, STORED_ARCHIVE_BYTES_MAX,
    StoredFunction, StoredLayer, StoredVersion, UrlAuth, UrlOptions, UsedLayer,
    read_source as read_function, write_archive as write_function_archive,
};
pub use headwater_functions::{
    Argument, ArgumentValue, FunctionResult, Isolation, OptionalCallParts, ProvisionedStatus,
    ResponsePart, ResponseSender, ResultKind, SharedTable, SpawnerCommand, make_folder,
    set_short_time_slice, spawner_main,
};
pub use headwater_jobs::{JobContext, JobFilter, UsageGroup, UsageGrouping};
pub use headwater_lake::{CloudSettings, WarehouseOptions};
pub use headwater_oidc::{OidcConfig, is_jwt};
pub use headwater_query_results::ResultRows;
pub use headwater_secrets::KeySource;
pub use headwater_table_diff::{ComparedTable, DiffOptions};
pub use headwater_triggers::TriggerEventFilter;

/// Types of the operations on buckets and objects.
pub mod objects {
    pub use headwater_objects::{
        Bucket, CompletedPart, ContentStream, CopyRequest, ListEntry, ListRequest, ListedPart,
        ListedUpload, Listing, NewObject, NewUpload, ObjectHeaders, ObjectPath, ObjectPrecondition,
        ObjectRecord, OpenObject, UploadTarget,
    };
}
pub use event_source_mapping::{EventSourceMappings, MappingStatus};
pub use queue::Queues;
