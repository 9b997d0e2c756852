//! The stored versions of a project, and the triggers that were created without a project.
//!
//! A [`DeploymentStore`] stores each deployed version of a project and which version is active. A
//! [`CreatedTriggerStore`] stores triggers that belong to no project. This crate checks no rights,
//! and starts no triggers.

mod created_trigger;
mod deployment;
mod error;

pub use created_trigger::{CreatedTrigger, CreatedTriggerStore};
pub use deployment::{DeploymentStore, deploy_changes};
pub use error::{Error, Result};
