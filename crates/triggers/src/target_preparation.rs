//! Preparation of the targets of scheduled triggers shortly before each scheduled time, so that the
//! delivery starts sooner.

use std::sync::Arc;
use std::time::Duration;

use crate::event_source::POLL_PAUSE_MIN;
use crate::trigger_worker::{SLEEP_MAX, TriggerWorker};

impl TriggerWorker {
    /// Prepares the target before each scheduled time, until the trigger stops.
    pub(crate) async fn prepare_loop(self: Arc<Self>) {
        while let Some(pause) = self.stop().run_until_cancelled(self.prepare_target()).await {
            self.stop().run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Prepares the target for the next scheduled time, if that time is near. Returns the time
    /// until the next check.
    pub(crate) async fn prepare_target(&self) -> Duration {
        let now = self.context.now();
        let (next, ahead) =
            (self.definition.source.next_after(now), self.targets.preparation_time(self.trigger()));
        let (Some(next), Some(ahead)) = (next, ahead) else { return SLEEP_MAX };
        let left = (next - now).to_std().unwrap_or_default();
        let early = left.saturating_sub(ahead);
        if !early.is_zero() {
            return early.min(SLEEP_MAX);
        }
        let before = self.prepared.lock().replace(next);
        if before != Some(next) {
            self.targets.prepare(self.trigger(), next).await;
        }
        left.clamp(POLL_PAUSE_MIN, SLEEP_MAX)
    }
}
