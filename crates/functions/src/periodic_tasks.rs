//! Periodic tasks of the runtime: promote starved calls, evict zygotes and instances, shrink the
//! memory of idle instances, and start provisioned instances.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::functions::FunctionsInner;
use crate::queue::Queue;
use crate::{project_folders, provisioning};

/// Interval at which starved calls are promoted, and idle instances are evicted to free memory for
/// them.
const ASSIGN_EVERY: Duration = Duration::from_secs(1);

/// Minimum and maximum interval between evictions of idle zygotes and other unused objects.
const SWEEP_MIN: Duration = Duration::from_millis(50);
const SWEEP_MAX: Duration = Duration::from_secs(30);

/// Intervals between checks of idle instances: the normal interval, and the shorter interval while
/// an instance is returning memory to the kernel.
const SHRINK_EVERY: Duration = Duration::from_secs(1);
const SHRINK_STEP: Duration = Duration::from_millis(10);

/// Starts the periodic tasks. They end when the runtime is dropped.
pub(crate) fn start(inner: &Arc<FunctionsInner>) {
    tokio::spawn(sweep(Arc::downgrade(inner)));
    tokio::spawn(shrink(Arc::downgrade(inner)));
    tokio::spawn(provisioning::fill_periodically(Arc::downgrade(inner)));
    tokio::spawn(Queue::assign_periodically(Arc::downgrade(&inner.queue), ASSIGN_EVERY));
}

/// Evicts idle zygotes, and removes unused environments and project folders periodically.
async fn sweep(functions: Weak<FunctionsInner>) {
    loop {
        let Some(inner) = functions.upgrade() else { return };
        inner.zygotes.sweep();
        inner.instance_keys.forget_unused();
        let (environments, projects) = (inner.environments.clone(), inner.projects.clone());
        let pause = (inner.zygotes.idle_max() / 4).clamp(SWEEP_MIN, SWEEP_MAX);
        drop(inner);
        let remove_unused = move || {
            environments.sweep();
            projects.remove_unused(project_folders::IDLE_MAX);
        };
        let _ = tokio::task::spawn_blocking(remove_unused).await;
        tokio::time::sleep(pause).await;
    }
}

/// Ends expired idle instances, and shrinks the memory of the others.
async fn shrink(functions: Weak<FunctionsInner>) {
    let mut pause = SHRINK_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = functions.upgrade() else { return };
        inner.queue.extend_provisioned(Instant::now());
        inner.queue.end_expired(Instant::now());
        pause = if inner.queue.shrink_idle() { SHRINK_STEP } else { SHRINK_EVERY };
    }
}
