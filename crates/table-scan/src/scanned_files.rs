//! The data files that a plan scans.

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

/// Returns the number of data files that a plan scans. A file that is scanned twice counts twice.
pub fn files_planned(plan: &dyn ExecutionPlan) -> usize {
    let own = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>())
        .map_or(0, |config| {
            let mut paths: Vec<_> = config
                .file_groups
                .iter()
                .flat_map(|group| group.files().iter().map(|file| &file.object_meta.location))
                .collect();
            paths.sort();
            paths.dedup();
            paths.len()
        });
    own + plan.children().iter().map(|child| files_planned(child.as_ref())).sum::<usize>()
}
