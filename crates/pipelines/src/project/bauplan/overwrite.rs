//! Rules of the strategy `OVERWRITE_PARTITIONS`.

use crate::{Error, Location, Materialization, Result};

/// Checks that only models that overwrite partitions have a filter, and that they have partitions.
pub(in crate::project) fn check(
    materialization: Materialization,
    is_partitioned: bool,
    filter: Option<&str>,
    at: &Location,
) -> Result<()> {
    let overwrites = materialization == Materialization::OverwritePartitions;
    if filter.is_some() && !overwrites {
        let message = "`overwrite_filter` is set, which only `OVERWRITE_PARTITIONS` uses";
        let hint =
            "Set `materialization_strategy` to `OVERWRITE_PARTITIONS`, or remove the filter.";
        return Err(Error::invalid(at.clone(), message, hint));
    }
    if overwrites && !is_partitioned {
        let message = "`OVERWRITE_PARTITIONS` is set without `partitioned_by`";
        let hint = "Set `partitioned_by`, for example to `day(pickup_datetime)`.";
        return Err(Error::invalid(at.clone(), message, hint));
    }
    Ok(())
}
