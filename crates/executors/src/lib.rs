//! Execution of recorded jobs with the rights of an identity: imports, runs, maintenance and
//! deliveries of events. Also holds the active version of the project, the state of running SQL
//! statements, the system tables of recorded work, and stored uploads.
//!
//! A job does not depend on a waiting client, and continues after a restart of the server. A
//! statement ends when its rows are dropped.

mod audit_table;
mod auto_maintenance;
mod backfill;
mod backfill_request_checks;
mod batch_call;
mod bucket_notification;
mod call_budget;
mod call_output;
mod call_rights;
mod deployer;
mod destination_delivery;
mod entry_rights;
mod export_file;
mod file_read_counters;
mod function_catalog;
mod function_owner;
mod function_summary;
mod hidden_rows;
mod import;
mod import_rights;
mod job_payload;
mod job_system_tables;
mod maintenance;
mod metered_thread_pool;
mod object_grants;
mod occurrence_rights;
mod project_file_settings;
mod project_files;
mod provisioner;
mod remote_buckets;
mod rights;
mod run;
mod run_conflict_retry;
mod run_output;
mod run_request_checks;
mod running_statement;
mod scheduled_call_preparation;
mod secret_owner;
mod standalone_trigger;
mod trigger_commits;
mod trigger_delivery;
mod trigger_placeholders;
mod trigger_rights;
mod upload_storage;

pub use audit_table::audit_schema;
pub use auto_maintenance::start_maintenance;
pub use backfill::BackfillExecutor;
pub use backfill_request_checks::{check_backfill, check_backfill_parameters};
pub use call_budget::call_budget;
pub use call_output::{CallOutputs, OutputWriter};
pub use call_rights::{call_rights, check_secrets};
pub use deployer::{
    ActiveDeployment, DeployIdentity, Deployer, ParsedDeployment, TriggerDependencies,
    missing_branch, nothing_deployed, parse_folder,
};
pub use destination_delivery::check_destination;
pub use entry_rights::{CheckedEntry, EntryRights};
pub use export_file::{ExportOutput, ExportTarget, not_written, path_to_write};
pub use file_read_counters::FileReadCounters;
pub use function_catalog::{
    CallPermit, CalledFunction, FunctionCatalog, ParsedFunction, check_function,
    function_not_found, split_name,
};
pub use function_owner::called_object;
pub use function_summary::{function_summary, instance_state, provisioned_instances};
pub use hidden_rows::{part_only, sides, without_rows};
pub use import::ImportExecutor;
pub use import_rights::{ImportRights, upload_folder};
pub use job_payload::JobPayload;
pub use job_system_tables::{register_system_tables, to_batches};
pub use maintenance::{MaintenanceExecutor, maintenance_job};
pub use metered_thread_pool::MeteredThreadPool;
pub use object_grants::{ObjectGrants, layer_object};
pub use project_file_settings::ProjectFileSettings;
pub use project_files::read_project;
pub use provisioner::{Provisioner, ProvisionerParts, provisioned_status};
pub use remote_buckets::CloudBuckets;
pub use rights::{
    EVERY, authorize, is_change, limits, record_denial, record_secrets, table_access,
    unauthenticated,
};
pub use run::{RunExecutor, run_queue};
pub use run_request_checks::{check_request, check_retriable};
pub use running_statement::{RunningStatement, StatementRows};
pub use secret_owner::OwnedSecrets;
pub use trigger_commits::CommitHistory;
pub use trigger_delivery::TriggerExecutor;
pub use upload_storage::{UPLOADS_FOLDER, delete_interrupted_uploads, store_upload};
