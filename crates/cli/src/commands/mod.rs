//! The commands, one file per noun: each calls the API and prints the result.

mod access_key;
mod async_query;
mod audit;
mod backfill;
mod branch;
mod call_report;
mod checkout;
mod completions;
mod console;
mod demo;
mod deployment;
mod diff;
mod diff_rows;
mod environment;
mod event;
mod event_send;
mod function;
mod function_alias;
mod function_layer;
mod function_log_output;
mod function_logs;
mod function_url;
mod function_watch;
mod grant;
mod init;
mod init_dbt;
mod job;
mod limit;
mod log;
mod login;
mod maintenance;
mod namespace;
mod profile;
mod query;
mod remove_if_exists;
mod restriction;
mod role;
mod run;
mod run_openlineage;
mod run_preview;
mod run_watch;
mod secret;
mod serve;
mod sql;
mod standalone_function;
mod status;
mod table;
mod tag;
mod token;
mod trigger;
mod usage;
mod user;
mod view;
mod watch;
mod whoami;

use headwater_model::Problem;

use crate::api::ApiClient;
use crate::arguments::Command;
use crate::connect;
use crate::context::Context;
use crate::error::Result;

/// Runs a command.
pub async fn run(context: &Context, command: Command) -> Result<()> {
    match command {
        Command::Init(arguments) => return init::init(context, &arguments).await,
        Command::Demo(arguments) => return Box::pin(demo::demo(context, &arguments)).await,
        Command::Serve(arguments) => return serve::serve(context, &arguments).await,
        Command::Console(arguments) => return console::console(context, &arguments).await,
        Command::Stop => return serve::stop(context).await,
        Command::Status => return status::status(context).await,
        Command::Login(arguments) => return login::login(context, &arguments).await,
        Command::Logout(arguments) => return login::logout(context, &arguments),
        Command::Profile(arguments) => return profile::profile(context, arguments),
        Command::Completions(arguments) => {
            completions::completions(&arguments);
            return Ok(());
        }
        Command::Query(arguments) if arguments.detach && context.in_process => {
            return Err(query::detached_in_process());
        }
        _ => {}
    }
    let api = connect::connect(context).await?;
    let outcome = dispatch(context, &api, command).await;
    let outcome = outcome.map_err(|problem| context.explain(problem));
    api.close().await;
    outcome
}

/// Runs a command that needs only the API.
async fn dispatch(context: &Context, api: &ApiClient, command: Command) -> Result<()> {
    match command {
        Command::Query(arguments) => query::query(context, api, arguments).await,
        Command::Sql(arguments) => sql::sql(context, api, arguments).await,
        Command::Run(arguments) => run::run(context, api, &arguments).await,
        Command::Backfill(arguments) => backfill::backfill(context, api, &arguments).await,
        Command::Test(arguments) => run::test(context, api, &arguments).await,
        Command::Deploy(arguments) => deployment::deploy(context, api, &arguments).await,
        Command::Deployment(arguments) => deployment::deployment(context, api, arguments).await,
        Command::Table(arguments) => table::table(context, api, arguments).await,
        Command::View(arguments) => view::view(context, api, arguments).await,
        Command::Branch(arguments) => branch::branch(context, api, arguments).await,
        Command::Checkout(arguments) => checkout::checkout(context, api, &arguments).await,
        Command::Tag(arguments) => tag::tag(context, api, arguments).await,
        Command::Log(arguments) => log::log(context, api, &arguments).await,
        Command::Namespace(arguments) => namespace::namespace(context, api, arguments).await,
        Command::Job(arguments) => job::job(context, api, arguments).await,
        Command::Environment(arguments) => environment::environment(context, api, arguments).await,
        Command::Event(arguments) => event::event(context, api, arguments).await,
        Command::Function(arguments) => function::function(context, api, arguments).await,
        Command::Secret(arguments) => secret::secret(context, api, arguments).await,
        Command::Usage(arguments) => usage::usage(context, api, &arguments).await,
        Command::Audit(arguments) => audit::audit(context, api, &arguments).await,
        Command::Trigger(arguments) => trigger::trigger(context, api, arguments).await,
        Command::User(arguments) => user::user(context, api, arguments).await,
        Command::Token(arguments) => token::token(context, api, arguments).await,
        Command::Key(arguments) => access_key::key(context, api, arguments).await,
        Command::Restriction(arguments) => restriction::restriction(context, api, arguments).await,
        Command::Limit(arguments) => limit::limit(context, api, arguments).await,
        Command::Role(arguments) => role::role(context, api, arguments).await,
        Command::Grant(arguments) => grant::grant(context, api, arguments).await,
        Command::Revoke(arguments) => grant::revoke(context, api, arguments).await,
        Command::Access(arguments) => grant::access(context, api, arguments).await,
        Command::Whoami => whoami::whoami(context, api).await,
        Command::Init(_)
        | Command::Demo(_)
        | Command::Serve(_)
        | Command::Console(_)
        | Command::Stop
        | Command::Status
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Profile(_)
        | Command::Completions(_) => Ok(()),
    }
}

/// Returns the named ref, or the active branch.
fn reference(context: &Context, named: Option<String>) -> Result<String> {
    match named {
        Some(named) => Ok(named),
        None => Ok(context.lake()?.active_branch()),
    }
}

/// Adds the correct command as a hint, if a command for tables names a view, or the reverse.
fn with_other_noun_hint(noun: &'static str, verb: &'static str) -> impl FnOnce(Problem) -> Problem {
    move |problem| match problem.context.get(noun).and_then(|name| name.as_str()) {
        Some(name) => {
            let hint = format!("Use `headwater {noun} {verb} {name}`.");
            problem.with_hint(hint)
        }
        None => problem,
    }
}
