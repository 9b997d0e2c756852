//! The command line's syntax: every command with its arguments and examples.
//!
//! [`Arguments`] is the parsed command line. Each noun has one file; the file of the same name in
//! `commands/` of the crate `cli` executes its commands. This crate executes nothing and reads no
//! environment variable.

mod access_key;
mod audit;
mod backfill;
mod branch;
mod checkout;
mod command;
mod completions;
mod console;
mod demo;
mod deployment;
mod diff;
mod environment;
mod event;
mod function;
mod function_alias;
mod function_layer;
mod function_url;
mod grant;
mod init;
mod job;
mod limit;
mod log;
mod login;
mod namespace;
mod output;
mod parse;
mod profile;
mod query;
mod reference;
mod restriction;
mod role;
mod run;
mod secret;
mod serve;
mod sql;
mod table;
mod tag;
mod test;
mod token;
mod trigger;
mod usage;
mod user;
mod view;

pub use self::access_key::Key;
pub use self::audit::Audit;
pub use self::backfill::Backfill;
pub use self::branch::{
    Branch, BranchCherryPick, BranchLs, BranchMerge, BranchRevert, BranchRm, ConflictOptions,
    ConflictResolution, CreateRef, RenameRef, TagRm,
};
pub use self::checkout::Checkout;
pub use self::command::{Arguments, Command};
pub use self::completions::Completions;
pub use self::console::Console;
pub use self::demo::Demo;
pub use self::deployment::{Deploy, Deployment};
pub use self::diff::{BranchDiff, CompareArgument, CompareOptions, TableDiff};
pub use self::environment::{Environment, EnvironmentPrune, EnvironmentRebuild};
pub use self::event::{Event, EventId, EventLs, EventSend};
pub use self::function::{
    Function, FunctionDeploy, FunctionInvoke, FunctionLogs, FunctionName, FunctionRm,
    ResettableSetting,
};
pub use self::function_alias::{
    AliasVersion, FunctionAlias, FunctionAliasCreate, FunctionAliasRm, FunctionAliasUpdate,
};
pub use self::function_layer::{FunctionLayer, FunctionLayerPublish, FunctionLayerRm};
pub use self::function_url::{
    FunctionUrl, FunctionUrlCreate, FunctionUrlName, FunctionUrlRm, FunctionUrlUpdate,
    UrlAuthArgument,
};
pub use self::grant::{Access, AccessExplain, Grant, Revoke};
pub use self::init::{ExampleArgument, Init};
pub use self::job::{Job, JobLogs, JobLs, JobRerun};
pub use self::limit::Limit;
pub use self::log::Log;
pub use self::login::{Login, Logout};
pub use self::namespace::{Namespace, NamespaceRm};
pub use self::output::{ColorArgument, OutputFormat};
pub use self::parse::parse;
pub use self::profile::Profile;
pub use self::query::Query;
pub use self::reference::{BranchArgument, RefArgument};
pub use self::restriction::{Restriction, RestrictionCreate};
pub use self::role::{Role, RoleMember, RoleRm};
pub use self::run::Run;
pub use self::secret::Secret;
pub use self::serve::{IsolationArgument, Serve, ServeNetwork};
pub use self::sql::Sql;
pub use self::table::{
    FormatArgument, OnErrorArgument, Table, TableGet, TableImport, TableLs, TableMaintain, TableRm,
};
pub use self::tag::Tag;
pub use self::test::Test;
pub use self::token::{Token, TokenCreate};
pub use self::trigger::{Trigger, TriggerCreate, TriggerRm};
pub use self::usage::{Usage, UsageBy};
pub use self::user::{User, UserCreate, UserRm};
pub use self::view::{View, ViewGet, ViewRm};
