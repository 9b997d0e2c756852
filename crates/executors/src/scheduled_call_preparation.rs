//! Preparation of functions that schedules call: shortly before a scheduled time, the function's
//! process is started, so that the call does not wait for the start.

use std::time::Instant;

use chrono_tz::Tz;
use headwater_functions::ExpectedCall;
use headwater_model::{Problem, ResultExt, ScheduleTrigger, Timestamp, Trigger};

use crate::TriggerExecutor;
use crate::function_catalog::ParsedFunction;

impl TriggerExecutor {
    /// Prepares the function of a trigger for a scheduled time.
    ///
    /// Errors, as for a call: the identity that deployed the trigger may not call the function; the
    /// function has reached its limit of concurrent calls.
    pub(crate) async fn prepare_function(
        &self,
        trigger: &Trigger,
        scheduled: Timestamp,
    ) -> Result<(), Problem> {
        let (Some(name), Some(schedule)) = (&trigger.function, &trigger.schedule) else {
            return Ok(());
        };
        self.authorize_trigger(trigger)?;
        let (function, concurrency) = self.find(name).await?;
        let ParsedFunction { project, callable, .. } = function;
        // Drop the permit at once. If the preparation held it, a call could be rejected meanwhile.
        drop(self.catalog.permit(&callable, concurrency)?);
        let left = (scheduled - self.runs.lake.clock().now()).to_std().unwrap_or_default();
        let cause = cause(schedule, scheduled).into();
        // If the clock was set back, the scheduled time may be too far in the future, so limit the
        // wait.
        let left = left.min(self.runner.preparation_time(&callable.name));
        let expected = ExpectedCall { at: Instant::now() + left, cause };
        let prepared = self.runner.prepare(&project, &self.given, &callable, expected).await;
        prepared.or_problem()
    }
}

/// Returns the cause of a scheduled call as shown to users, with the local time of the schedule.
fn cause(schedule: &ScheduleTrigger, scheduled: Timestamp) -> String {
    let zone = schedule.timezone.as_deref().and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
    let time = scheduled.with_timezone(&zone).format("%H:%M %Z");
    format!("the schedule `{}` at {time}", schedule.cron.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_shows_the_local_time_of_the_schedule() {
        let scheduled: Timestamp = "2026-12-01T05:00:00Z".parse().expect("a time");
        let utc = ScheduleTrigger { cron: "0 5 * * *".into(), ..ScheduleTrigger::default() };
        assert_eq!(cause(&utc, scheduled), "the schedule `0 5 * * *` at 05:00 UTC");
        let timezone = Some("Europe/Berlin".to_owned());
        let berlin = ScheduleTrigger { cron: "0 6 * * *".into(), timezone, ..utc };
        assert_eq!(cause(&berlin, scheduled), "the schedule `0 6 * * *` at 06:00 CET");
    }
}
