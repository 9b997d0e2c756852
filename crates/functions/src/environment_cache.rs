//! Cache of environments for repeated calls of functions.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_environments::{Environment, EnvironmentSpec};
use parking_lot::Mutex;

use crate::Functions;

/// Time after which a cached environment is looked up again. The lookup also records the use of the
/// environment, so it must not be omitted for long.
const ASKED_EVERY: Duration = Duration::from_secs(60);

/// The environments that calls have recently used. Repeated calls need no lookup of their
/// environment.
#[derive(Debug, Default)]
pub struct EnvironmentCache(Mutex<Vec<(EnvironmentSpec, Weak<Environment>, Instant)>>);

impl EnvironmentCache {
    /// Returns the cached environment for a specification. Returns `None` if its lookup is too old,
    /// or if this build of the environment no longer exists.
    pub fn find(&self, functions: &Functions, spec: &EnvironmentSpec) -> Option<Arc<Environment>> {
        let given = self.0.lock();
        let (_, environment, asked) = given.iter().find(|(known, _, _)| known == spec)?;
        let environment = environment.upgrade().filter(|_| asked.elapsed() < ASKED_EVERY)?;
        drop(given);
        functions.is_current(&environment).then_some(environment)
    }

    /// Adds an environment to the cache, and removes environments that no longer exist.
    pub fn insert(&self, spec: EnvironmentSpec, environment: &Arc<Environment>) {
        let mut given = self.0.lock();
        given.retain(|(known, found, _)| *known != spec && found.strong_count() > 0);
        given.push((spec, Arc::downgrade(environment), Instant::now()));
    }
}
