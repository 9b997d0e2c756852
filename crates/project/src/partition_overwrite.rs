//! Rules of models that overwrite partitions.

use crate::{Error, Materialization, Result, Step};

/// Checks that a filter is used only by models that overwrite partitions, and that such models have
/// partitions.
pub(super) fn check(step: &Step) -> Result<()> {
    let overwrites = step.materialization == Materialization::OverwritePartitions;
    if step.overwrite_filter.is_some() && !overwrites {
        let message =
            format!("`{}` has `overwrite_filter`, but does not overwrite partitions", step.name);
        let hint = "Remove the filter, or let the model overwrite partitions.";
        return Err(Error::invalid(step.at.clone(), message, hint));
    }
    if overwrites && step.partition_by.is_empty() {
        let message = format!("`{}` overwrites partitions, but is not partitioned", step.name);
        let hint = "Partition the model, for example by `day(pickup_datetime)`.";
        return Err(Error::invalid(step.at.clone(), message, hint));
    }
    Ok(())
}
