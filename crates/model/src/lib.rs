//! The types that all crates share: names, refs, ids, requests, responses, events and error codes.
//! No I/O and no async code. The types of the HTTP API are defined here once, for the server and
//! its clients.

mod access_control;
mod access_control_request;
mod access_key;
mod access_object;
mod access_object_kind;
mod async_query;
mod audit;
mod backfill;
mod branch;
mod bucket_notification;
mod bucket_trigger;
mod budget;
mod cherry_pick;
mod clock;
mod cloud_event;
mod commit;
mod deployment;
mod did_you_mean;
mod diff;
mod duration_text;
mod environment;
mod error;
mod event;
mod field_names;
mod function;
mod health;
mod import;
mod job;
mod kafka_trigger;
mod layer;
mod limit;
mod maintenance;
mod merge;
mod message_trigger;
pub mod name;
mod network_address;
mod object_id;
mod occurrence_trigger;
mod permission;
mod principal;
mod project_file;
mod quantity;
mod query;
pub mod reference;
mod restriction;
mod run;
mod schedule_text;
mod secret;
mod session;
mod standalone_function;
mod table;
mod text_excerpt;
mod text_hash;
mod trigger;
mod upload;
mod usage;
mod view;
mod write;

pub use access_control::{
    AccessToken, CreatedToken, CredentialSettings, Grant, Role, User, UserKind,
};
pub use access_control_request::{
    AccessExplanation, CreateRole, CreateToken, CreateUser, GrantRequest, UpdateUser, Whoami,
};
pub use access_key::{AccessKey, CreateAccessKey, CreatedAccessKey};
pub use access_object::{AccessObject, ObjectPattern};
pub use access_object_kind::ObjectKind;
pub use async_query::AsyncQuery;
pub use audit::{AuditEvent, AuditOutcome, AuditRetention};
pub use backfill::BackfillRequest;
pub use branch::{Branch, CreateRef, TRANSACTION_BRANCHES, Tag, UpdateRef};
pub use bucket_notification::BucketNotification;
pub use bucket_trigger::{BucketEvent, BucketTrigger};
pub use budget::{BudgetUsage, DailyBudget};
pub use cherry_pick::{CherryPickRequest, RevertRequest};
pub use clock::{Clock, FixedClock, SystemClock, Timestamp};
pub use cloud_event::{CloudEvent, CloudEventError, CloudEventFormat, EVENTS_PER_REQUEST_MAX};
pub use commit::{Commit, PROPERTY_EVENT, PROPERTY_JOB, PROPERTY_PICKED, PROPERTY_REVERTED};
pub use deployment::{DeployChange, DeployReport, DeployRequest, DeployedKind, Deployment};
pub use did_you_mean::{did_you_mean, nearest};
pub use diff::{
    ChangeKind, ChangedColumn, ColumnDiff, ColumnStatistics, CompareRows, ComparisonMethod, Diff,
    PropertyDiff, RowDiff, RowsDiff, StatisticsDiff, TableComparison, TableDiff, ViewDiff,
};
pub use environment::{
    EnvironmentDetails, EnvironmentSummary, FunctionCall, PackageChange, PruneEnvironments,
    PrunedEnvironments, RebuiltEnvironment, WarmInstanceSummary, ZygoteSummary,
};
pub use error::{ErrorCode, Problem, ResultExt, ToProblem, sentence};
pub use event::{
    ArrivedFile, ChangedObject, Event, EventData, KafkaRecord, NatsMessage, ObjectOperation,
    QueueMessage, Requester, SpecVersion,
};
pub use field_names::field_names;
pub use function::{
    AcceptedEvent, CallResponseStart, FunctionArgument, FunctionSummary, InvokeAsyncRequest,
    InvokeRequest, Priority, ProvisionedInstances,
};
pub use health::Health;
pub use import::{
    FileFormat, ImportColumn, ImportFile, ImportPlan, ImportReport, ImportRequest, OnError,
};
pub use job::{Job, JobEvent, JobEventKind, JobId, JobKind, JobStatus, LogStream, StepStatus};
pub use kafka_trigger::{KafkaMechanism, KafkaStart, KafkaTrigger};
pub use layer::{LayerVersion, PublishLayer};
pub use limit::{Limit, LimitUsage, Limits};
pub use maintenance::{
    MaintainReport, MaintainRequest, MaintainedTable, RemovedFiles, SkippedTable, TableMaintenance,
};
pub use merge::{
    CHANGE_READ, ColumnConflict, ConflictCause, ConflictKind, MergeChoice, MergeConflict,
    MergeOutcome, MergeReport, MergeRequest, MergeResolution, MergedTable, RowConflict,
};
pub use message_trigger::{NatsStart, NatsTrigger, PostgresTrigger, QueueTrigger};
pub use name::{DEFAULT_NAMESPACE, NameError, SYSTEM_NAMESPACE, TableName};
pub use network_address::{AddressScope, embedded_address};
pub use object_id::{CommitId, ObjectId};
pub use occurrence_trigger::{
    BranchMerge, EndedJob, JOB_END_JOURNAL, JobsTrigger, MERGE_JOURNAL, MergesTrigger,
};
pub use permission::{Action, Permission, PermissionError};
pub use principal::{
    AUTHOR_BYTES_MAX, Actor, AuthMethod, AuthenticatedUser, Identity, ObjectOwner, Principal,
};
pub use project_file::{
    BinaryFile, FileContent, PROJECT_FILE, PROJECT_FILES, PackedFile, ProjectFiles,
};
pub use quantity::{FUNCTION_MEMORY_BYTES_MIN, parse_duration, parse_size};
pub use query::QueryRequest;
pub use reference::{AncestorDistance, MAIN_BRANCH, RefSpec, ResolvedRef, parse_timestamp};
pub use restriction::{CreateRestriction, Restriction, Restrictions};
pub use run::{
    AffectedReader, FIRST_RUN, PlannedColumns, PlannedInstall, PlannedStep, PreviewColumn,
    PreviewOptions, RowsPreview, RunEnvironment, RunPlan, RunReport, RunRequest, StepReport,
    run_reasons,
};
pub use secret::{Secret, SetSecret};
pub use session::{
    BrowserSession, CreateSession, LoginCode, LoginMethods, LoginStart, OidcLogin, SessionCode,
    StartLogin,
};
pub use standalone_function::{
    DeployFunction, FunctionAlias, FunctionSetting, FunctionSettings, FunctionSettingsUpdate,
    FunctionUrlAuth, FunctionUrlConfig, FunctionVersion, SetFunctionUrl, StandaloneFunction,
    UpdateFunctionAlias,
};
pub use table::{Column, CreateNamespace, Namespace, PartitionField, SortField, Table, Transform};
pub use text_hash::text_hash;
pub use trigger::{
    CatchupPolicy, EventFormat, FilesTrigger, ScheduleTrigger, TablesTrigger, Trigger,
    TriggerEvent, TriggerEventStatus, TriggerImport, TriggerStatus, TriggerTarget,
};
pub use upload::Upload;
pub use usage::{RateCard, Usage, UsageLine};
pub use view::{SqlView, ViewQuery};
pub use write::{WriteMode, WriteReport};
