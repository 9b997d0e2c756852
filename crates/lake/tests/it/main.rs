//! Integration tests of the lake, on local folders and in memory.

#[cfg(test)]
mod adopt;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod crashing_store;
#[cfg(test)]
mod deleted_refs;
#[cfg(test)]
mod failing_object_store;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod maintenance;
#[cfg(test)]
mod maintenance_crash;
#[cfg(test)]
mod many_tables;
#[cfg(test)]
mod merge;
#[cfg(test)]
mod merge_histories;
#[cfg(test)]
mod merge_property;
#[cfg(test)]
mod merge_scenarios;
#[cfg(test)]
mod merged_files;
#[cfg(test)]
mod owners;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod support;
#[cfg(test)]
mod temporary_branch;
#[cfg(test)]
mod transaction;
#[cfg(test)]
mod uncertain_store;
#[cfg(test)]
mod views;
#[cfg(test)]
mod writers;
