//! Assigns files to the partitions of a scan: the largest file first, each to the partition with
//! the fewest bytes so far.

use std::sync::Arc;

use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use headwater_tables::DataFile;

/// Distributes files over at most `partitions` groups, balanced by bytes. Files in a group keep
/// their order. If `numbers` is given, each file gets its number as a partition value, which is a
/// column of the scan.
pub(crate) fn balance(
    files: &[Arc<DataFile>],
    statistics: Option<Vec<Statistics>>,
    numbers: Option<&[i32]>,
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
            let number = numbers.and_then(|numbers| numbers.get(index).copied());
            partitioned_file(&files[index], number, known)
        });
        FileGroup::new(files.collect())
    };
    members.into_iter().map(group).collect()
}

fn partitioned_file(
    file: &DataFile,
    number: Option<i32>,
    statistics: Option<Statistics>,
) -> PartitionedFile {
    let mut planned = PartitionedFile::new(String::new(), file.bytes);
    planned.object_meta.location = file.path.clone();
    planned.partition_values = number.into_iter().map(ScalarValue::from).collect();
    match statistics {
        // DataFusion would append the statistics of partition values, but `statistics` already
        // contains those of the file number.
        Some(statistics) if number.is_some() => {
            planned.statistics = Some(Arc::new(statistics));
            planned
        }
        Some(statistics) => planned.with_statistics(Arc::new(statistics)),
        None => planned,
    }
}
