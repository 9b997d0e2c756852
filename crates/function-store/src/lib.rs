//! Functions that are deployed without a project: archives, versions and aliases.
//!
//! [`read_archive`] reads a ZIP archive that may be hostile. [`FunctionStore`] stores functions:
//! each has a latest state, immutable numbered versions, and aliases of versions. Small files are
//! objects of the store, named by their hash. The files of a large function are in a pack file.
//! [`project_files`] returns a project that contains only one function, so that the function is
//! parsed and called as functions of users' projects are. This crate never calls a function.

mod change;
mod deployment_changes;
mod error;
mod folder;
mod function;
mod function_files;
mod function_store;
mod handler_check;
mod layer;
mod layer_owner;
mod manifest;
mod pack_file;
mod paths;
mod qualifier_settings;
mod requirements;
mod single_function_project;
mod zip_archive;

pub use change::{FunctionChange, FunctionUpdate, NewCode};
pub use deployment_changes::deployment_changes;
pub use error::{Error, Result};
pub use folder::{FunctionSource, read_source, write_archive};
pub use function::{StoredCode, StoredFunction, StoredVersion};
pub use function_files::{FunctionFiles, read_request};
pub use function_store::{Author, FunctionStore};
pub use handler_check::check_handler;
pub use layer::{
    LAYERS, LayerChange, LayerVersion, StoredLayer, UsedLayer, add_layers, parse_layer_version,
};
pub use layer_owner::LayerUser;
pub use pack_file::{ArchiveDigest, temporary_file};
pub use paths::{FILES_BYTES_MAX, check_files};
pub use qualifier_settings::{
    Cors, EventInvokeConfig, FunctionUrl, InvokeMode, ProvisionedConfig, QualifierChange,
    QualifierSettings, UrlAuth, UrlOptions,
};
pub use single_function_project::project_files;
pub use zip_archive::{ARCHIVE_BYTES_MAX, STORED_ARCHIVE_BYTES_MAX, read_archive};
