//! Which partition reads which files: the largest first, each to the partition with the fewest
//! bytes.

use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use headwater_tables::DataFile;

/// Balances files over at most `partitions` groups by their bytes. Within a group the order stays.
pub(crate) fn balance(
    files: &[Arc<DataFile>],
    statistics: Option<Vec<Statistics>>,
    partitions: usize,
) -> Vec<FileGroup> {
    let count = partitions.clamp(1, files.len().max(1));
    let mut largest: Vec<usize> = (0..files.len()).collect();
    largest.sort_by_key(|&index| std::cmp::Reverse(files[index].bytes));
    let mut loads = vec![0_u64; count];
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    for index in largest {
        let lightest = (0..count).min_by_key(|&group| loads[group]).unwrap_or(0);
        loads[lightest] += files[index].bytes.max(1);
        members[lightest].push(index);
    }
    let mut statistics: Vec<Option<Statistics>> = match statistics {
        Some(statistics) => statistics.into_iter().map(Some).collect(),
        None => vec![None; files.len()],
    };
    let group = |mut indexes: Vec<usize>| {
        indexes.sort_unstable();
        let files = indexes.into_iter().map(|index| {
            let known = statistics.get_mut(index).and_then(Option::take);
            partitioned_file(&files[index], known)
        });
        FileGroup::new(files.collect())
    };
    members.into_iter().map(group).collect()
}

fn partitioned_file(file: &DataFile, statistics: Option<Statistics>) -> PartitionedFile {
    let mut planned = PartitionedFile::new(String::new(), file.bytes);
    planned.object_meta.location = file.path.clone();
    match statistics {
        Some(statistics) => planned.with_statistics(Arc::new(statistics)),
        None => planned,
    }
}
