//! Keys of instances. Two calls can use the same instance if they have the same key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_model::{JobId, ProjectFiles};
use parking_lot::Mutex;

use crate::instance::reusable;
use crate::queue::InstanceKey;
use crate::{Invocation, Limits, ReuseScope};

/// The keys of the functions that have queued or running calls or idle instances, each with the
/// identity that it stands for.
#[derive(Debug, Default)]
pub(crate) struct InstanceKeys(Mutex<Vec<(KeyProperties, InstanceKey)>>);

/// The properties that two calls must share to have the same key.
#[derive(Debug)]
struct KeyProperties {
    code: InstanceCode,
    files: Arc<ProjectFiles>,
    /// The id of the environment, and the build of its packages.
    environment: String,
    build: String,
    limits: Limits,
}

/// The code that one instance can execute.
#[derive(Debug, PartialEq, Eq)]
enum InstanceCode {
    Function {
        module: String,
        function: String,
    },
    /// All functions in a folder, for the calls of one job. Functions of other folders need another
    /// instance: Python looks up modules in the folder of the first function, so other functions
    /// could import a wrong module.
    Folder {
        folder: PathBuf,
        job: Option<JobId>,
    },
    /// All functions in a folder, for the calls of one SQL statement.
    Statement {
        folder: PathBuf,
        statement: JobId,
    },
}

impl InstanceCode {
    fn of(invocation: &Invocation) -> Self {
        let Invocation { module, function, share, .. } = invocation;
        let folder = || Path::new(module).parent().unwrap_or(Path::new("")).to_owned();
        match invocation.reuse {
            ReuseScope::SameJob => InstanceCode::Folder { folder: folder(), job: share.job },
            ReuseScope::SameStatement(statement) => {
                InstanceCode::Statement { folder: folder(), statement }
            }
            ReuseScope::Never | ReuseScope::SameFunction => {
                InstanceCode::Function { module: module.clone(), function: function.clone() }
            }
        }
    }
}

impl InstanceKeys {
    /// Returns the key of the instances that a call may use; `None` if the call needs a new
    /// instance.
    pub(crate) fn of(&self, invocation: &Invocation) -> Option<InstanceKey> {
        if !reusable(invocation) {
            return None;
        }
        let code = InstanceCode::of(invocation);
        let mut known = self.0.lock();
        let same = |identity: &KeyProperties| identity.code == code && identity.is_of(invocation);
        if let Some((_, key)) = known.iter().find(|(identity, _)| same(identity)) {
            return Some(key.clone());
        }
        known.retain(|(_, key)| key.is_used());
        let key = InstanceKey::default();
        known.push((KeyProperties::of(code, invocation), key.clone()));
        Some(key)
    }

    /// Removes and returns the keys for the calls of an SQL statement.
    pub(crate) fn take(&self, statement: JobId) -> Vec<InstanceKey> {
        let is_own = |code: &InstanceCode| match code {
            InstanceCode::Statement { statement: id, .. } => *id == statement,
            InstanceCode::Function { .. } | InstanceCode::Folder { .. } => false,
        };
        let mut known = self.0.lock();
        known.extract_if(.., |(identity, _)| is_own(&identity.code)).map(|(_, key)| key).collect()
    }

    /// Removes the keys of functions that have neither calls nor instances.
    pub(crate) fn forget_unused(&self) {
        self.0.lock().retain(|(_, key)| key.is_used());
    }
}

impl KeyProperties {
    fn of(code: InstanceCode, invocation: &Invocation) -> Self {
        KeyProperties {
            code,
            files: invocation.files.clone(),
            environment: invocation.environment.id.clone(),
            build: invocation.environment.build.clone(),
            limits: invocation.limits.clone(),
        }
    }

    /// Returns true if a call has this identity, apart from the code.
    fn is_of(&self, invocation: &Invocation) -> bool {
        self.build == invocation.environment.build
            && self.environment == invocation.environment.id
            && self.limits.is_compatible_with(&invocation.limits)
            && self.limits.variables == invocation.limits.variables
            && (Arc::ptr_eq(&self.files, &invocation.files) || self.files == invocation.files)
    }
}
