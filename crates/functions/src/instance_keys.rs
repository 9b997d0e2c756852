//! The identities of calls, which determine whether two calls can use the same instance.

use std::sync::Arc;

use headwater_model::ProjectFiles;
use parking_lot::Mutex;

use crate::instance::reusable;
use crate::queue::InstanceKey;
use crate::{Invocation, Limits};

/// The keys of the functions that have queued or running calls, or idle instances.
#[derive(Debug, Default)]
pub(crate) struct InstanceKeys(Mutex<Vec<(Identity, InstanceKey)>>);

/// The properties that two calls must share to use the same instance.
#[derive(Debug)]
struct Identity {
    module: String,
    function: String,
    files: Arc<ProjectFiles>,
    /// The id of the environment, and the build of its packages.
    environment: String,
    build: String,
    limits: Limits,
}

impl InstanceKeys {
    /// Returns the key of the instances that a call may use; `None` if the call needs a new
    /// instance.
    pub(crate) fn of(&self, invocation: &Invocation) -> Option<InstanceKey> {
        if !reusable(invocation) {
            return None;
        }
        let mut known = self.0.lock();
        if let Some((_, key)) = known.iter().find(|(identity, _)| identity.is_of(invocation)) {
            return Some(key.clone());
        }
        known.retain(|(_, key)| key.is_used());
        let key = InstanceKey::default();
        known.push((Identity::of(invocation), key.clone()));
        Some(key)
    }

    /// Removes the keys of functions that have neither calls nor instances.
    pub(crate) fn forget_unused(&self) {
        self.0.lock().retain(|(_, key)| key.is_used());
    }
}

impl Identity {
    fn of(invocation: &Invocation) -> Self {
        Identity {
            module: invocation.module.clone(),
            function: invocation.function.clone(),
            files: invocation.files.clone(),
            environment: invocation.environment.id.clone(),
            build: invocation.environment.build.clone(),
            limits: invocation.limits.clone(),
        }
    }

    fn is_of(&self, invocation: &Invocation) -> bool {
        self.function == invocation.function
            && self.module == invocation.module
            && self.build == invocation.environment.build
            && self.environment == invocation.environment.id
            && self.limits.as_made_for(&invocation.limits)
            && self.limits.variables == invocation.limits.variables
            && (Arc::ptr_eq(&self.files, &invocation.files) || self.files == invocation.files)
    }
}
