//! Values of a backfill from the partitions of a table.

use std::collections::BTreeSet;

use headwater_model::{ErrorCode, Problem};

/// The text of a partition whose rows have no value.
const NULL: &str = "null";

/// Returns the values of a table's partitions in ascending order. Each partition is given as text,
/// such as `ts_day=2026-01-01`. The partition of rows without a value is left out.
///
/// Error: `invalid_argument` if the table is not partitioned by exactly one column, or is empty.
pub fn partition_values(
    table: &str,
    columns: usize,
    partitions: impl IntoIterator<Item = String>,
) -> Result<Vec<String>, Problem> {
    let wrong = |message: String, hint: &str| {
        Err(Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    };
    if columns != 1 {
        let message = format!("`{table}` must be partitioned by one column, not by {columns}");
        return wrong(message, "List the values: `headwater backfill NAME=VALUE,VALUE`.");
    }
    let (mut fields, mut values) = (BTreeSet::new(), BTreeSet::new());
    for partition in partitions {
        let (field, value) = partition.split_once('=').unwrap_or_default();
        fields.insert(field.to_owned());
        if value != NULL {
            values.insert(value.to_owned());
        }
    }
    if fields.len() > 1 || fields.contains("") {
        let message = format!(
            "the partitions of `{table}` cannot be listed: some files have an earlier partition \
             spec"
        );
        return wrong(message, "List the values: `headwater backfill NAME=VALUE,VALUE`.");
    }
    if values.is_empty() {
        return wrong(format!("`{table}` has no partitions"), "Write rows to the table first.");
    }
    let mut values: Vec<String> = values.into_iter().collect();
    if values.iter().all(|value| value.parse::<i64>().is_ok()) {
        values.sort_by_key(|value| value.parse::<i64>().unwrap_or_default());
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(columns: usize, partitions: &[&str]) -> String {
        let partitions = partitions.iter().map(|one| (*one).to_owned());
        match partition_values("trips", columns, partitions) {
            Ok(values) => values.join(" "),
            Err(problem) => problem.message,
        }
    }

    #[test]
    fn each_partition_is_one_value_in_ascending_order() {
        let days = ["ts_day=2026-01-02", "ts_day=2026-01-01", "ts_day=2026-01-02"];
        assert_eq!(values(1, &days), "2026-01-01 2026-01-02");
        assert_eq!(values(1, &["part=10", "part=9", "part=-1"]), "-1 9 10");
        assert_eq!(values(1, &["zone=a=b/c", "zone=null", "zone=Oslo"]), "Oslo a=b/c");
    }

    #[test]
    fn tables_without_one_partition_column_are_rejected() {
        let expected = "`trips` must be partitioned by one column, not by 0";
        assert_eq!(values(0, &[]), expected);
        let expected = "`trips` must be partitioned by one column, not by 2";
        assert_eq!(values(2, &["day=2026-01-01/zone=a"]), expected);
        let expected = "the partitions of `trips` cannot be listed: some files have an earlier \
                        partition spec";
        assert_eq!(values(1, &["", "day=2026-01-01"]), expected);
        assert_eq!(values(1, &[]), "`trips` has no partitions");
        assert_eq!(values(1, &["day=null"]), "`trips` has no partitions");
    }
}
