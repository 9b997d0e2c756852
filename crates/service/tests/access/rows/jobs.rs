//! Operations on jobs.

use headwater_metrics::{MetricsFormat, RequestMetrics};
use headwater_service::{JobFilter, UsageGrouping};

use crate::matrix::{Answers, ITEMS, NO, OK, Row, done, every, listed};

/// The answer for a job of another user, unless the principal may read the usage of that user.
const HIDDEN: &str = "job_not_found";
const SHOWN: Answers = [HIDDEN, HIDDEN, OK, OK, OK];

/// The answers of an operation that also needs rights on the project and the branch.
const STARTS: Answers = [HIDDEN, HIDDEN, NO, OK, OK];

pub const ROWS: &[Row] = &[
    // Each user has started jobs in earlier rows.
    ("Jobs::list", every(ITEMS), |c| {
        let filter = JobFilter::default();
        listed(async move { c.service.jobs().list(&c.by, &filter).await })
    }),
    ("Jobs::get", SHOWN, |c| done(async move { c.service.jobs().get(&c.by, &c.known.run).await })),
    ("Jobs::events", SHOWN, |c| {
        done(async move { c.service.jobs().events(&c.by, &c.known.run, 0).await })
    }),
    ("Jobs::follow", SHOWN, |c| {
        done(async move { c.service.jobs().follow(&c.by, &c.known.run, 0).await })
    }),
    // The job has ended, so it is unchanged.
    ("Jobs::stop", STARTS, |c| {
        done(async move { c.service.jobs().stop(&c.by, &c.known.run).await })
    }),
    ("Jobs::rerun", STARTS, |c| {
        done(async move { c.service.jobs().rerun(&c.by, &c.known.run).await })
    }),
    ("Jobs::rerun_exactly", STARTS, |c| {
        let branch = Some(format!("again/{}", c.own()));
        done(async move { c.service.jobs().rerun_exactly(&c.by, &c.known.run, branch).await })
    }),
    ("Jobs::metrics", [NO, NO, OK, OK, OK], |c| {
        done(async move {
            let requests = RequestMetrics::default();
            c.service.jobs().metrics(&c.by, &requests, MetricsFormat::Prometheus).await
        })
    }),
    ("Jobs::usage", every(ITEMS), |c| {
        let by = UsageGrouping::default();
        listed(async move { c.service.jobs().usage(&c.by, None, None, by).await })
    }),
];
