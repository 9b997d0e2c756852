//! The metrics and the span of a merge.

use headwater_metrics::MergeResult;
use headwater_model::{MergeOutcome, MergeReport, ToProblem};
use headwater_telemetry::SpanTimer;

use super::MergeOptions;
use crate::error::Result;
use crate::lake::Lake;

/// A started merge that is not a dry run, with its span.
pub(super) struct MergeSpan {
    lake: Lake,
    span: Option<SpanTimer>,
}

impl MergeSpan {
    /// Begins the span of a merge.
    pub(super) fn begin(lake: &Lake, target: &str, options: &MergeOptions) -> Self {
        let mut span = lake.begin_span(&options.properties, "merge");
        if let Some(span) = &mut span {
            span.set("headwater.branch", target.to_owned());
        }
        MergeSpan { lake: lake.clone(), span }
    }

    /// Counts the merge by its result, and ends its span.
    pub(super) fn end(self, result: &Result<MergeReport>) {
        let counted = match result.as_ref().map(|report| report.outcome) {
            Ok(MergeOutcome::Merged | MergeOutcome::FastForward) => MergeResult::Merged,
            Ok(MergeOutcome::UpToDate) => MergeResult::UpToDate,
            Ok(MergeOutcome::Conflict) => MergeResult::Conflict,
            Err(_) => MergeResult::Failed,
        };
        self.lake.metrics().merged(counted);
        let Some(mut span) = self.span else { return };
        span.set("headwater.merge.result", counted.as_str());
        if let Ok(report) = result {
            span.set("headwater.commit.id", report.commit.to_string());
        }
        span.end(result.as_ref().err().map(|error| error.code().to_string()));
    }
}
