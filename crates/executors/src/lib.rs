//! Execution of recorded jobs with the rights of an identity: imports, runs, maintenance and
//! deliveries of events. Also holds the active version of the project, which deliveries use.
//!
//! No job depends on a waiting client: a job continues after a restart of the server.

mod acting_request;
mod auto_maintenance;
mod bucket_notification;
mod call_output;
mod commit_history;
mod created_trigger;
mod deployer;
mod destination;
mod export_file;
mod function_catalog;
mod import;
mod import_rights;
mod maintenance;
mod metered_runtime;
mod occurrence_rights;
mod preparation;
mod project_files;
mod rights;
mod run;
mod settings;
mod template_params;
mod trigger;

pub use acting_request::ActingRequest;
pub use auto_maintenance::start_maintenance;
pub use call_output::{CallOutputs, OutputWriter};
pub use commit_history::CommitHistory;
pub use deployer::{
    ActiveVersion, DeployIdentity, Deployer, TriggerSources, Version, missing_branch,
    nothing_deployed, parse_folder,
};
pub use destination::check_destination;
pub use export_file::{ExportFile, ExportOutput, not_written};
pub use function_catalog::{
    CallPermit, CalledFunction, FunctionCatalog, ParsedFunction, parse_function, split_name,
};
pub use import::ImportExecutor;
pub use import_rights::{ImportRights, upload_folder};
pub use maintenance::{MaintenanceExecutor, maintenance_job};
pub use metered_runtime::MeteredRuntime;
pub use project_files::read_project;
pub use rights::{
    EVERY, authorize, is_change, limits, record_denial, record_secrets, table_access,
    unauthenticated,
};
pub use run::{RunExecutor, run_queue};
pub use settings::Settings;
pub use trigger::TriggerExecutor;
