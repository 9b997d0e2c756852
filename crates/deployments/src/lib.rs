//! The stored versions of a project, and the triggers that were created without a project.
//!
//! A [`DeploymentStore`] stores each deployed version of a project and which version is active. A
//! [`StandaloneTriggerStore`] stores triggers that belong to no project. This crate checks no
//! rights, and starts no triggers.

mod deployment_store;
mod error;
mod standalone_trigger;

pub use deployment_store::{DeploymentStore, deploy_changes};
pub use error::{Error, Result};
pub use standalone_trigger::{StandaloneTrigger, StandaloneTriggerStore};
