//! Tests of a real server, over real connections.
//!
//! The program has its own `main`, because it also runs as the server's spawner, and as a server in
//! tests that kill it.

mod access;
mod access_matrix;
mod access_projects;
mod access_restrictions;
mod api;
mod attacks;
mod bucket_triggers;
mod clients;
mod console;
mod copy_to;
mod declared_operations;
mod deployments;
#[path = "../../../lake/tests/clouds/emulator.rs"]
mod emulator;
mod emulators;
mod event_rights;
mod event_shapes;
#[path = "../../../lake/tests/clouds/fault_proxy.rs"]
#[expect(dead_code, reason = "used only by tests of faults")]
mod fault_proxy;
mod flight;
mod flight_java;
mod flight_matrix;
mod function_budgets;
mod function_lake;
mod function_outputs;
mod function_triggers;
mod functions;
mod iceberg;
mod iceberg_matrix;
#[path = "../../../triggers/tests/triggers/kafka_server.rs"]
mod kafka_server;
mod lambda;
mod lambda_clients;
mod lambda_matrix;
mod life_cycle;
mod limits;
mod listeners;
mod maintenance;
mod message_triggers;
mod metrics;
mod names;
mod network;
mod object_stores;
mod occurrence_triggers;
mod postgres;
mod postgres_matrix;
mod postgres_sessions;
mod postgres_tools;
mod read_files;
#[path = "../../../oidc/tests/provider/real.rs"]
#[expect(dead_code, reason = "used only by other test programs")]
mod real_provider;
mod run_outputs;
mod runs;
#[path = "../../../lake/tests/clouds/s3.rs"]
#[expect(dead_code, reason = "used only by tests of faults")]
mod s3;
mod s3_clients;
mod s3_matrix;
mod scans;
#[path = "../../../triggers/tests/triggers/servers.rs"]
#[expect(dead_code, reason = "used only by tests of triggers")]
mod servers;
mod signed;
mod sqs;
mod sqs_matrix;
mod statements;
mod support;
mod tls;
mod traces;
mod triggers;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The argument that selects the spawner.
pub const SPAWNER: &str = "__spawner";

/// The argument that selects a server; a project's folder follows.
pub const SERVE: &str = "__serve";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some(SPAWNER), _) => headwater_server::spawner_main(),
        (Some(SERVE), Some(project)) => {
            block_on(life_cycle::serve_until_killed(Path::new(&project)));
            ExitCode::SUCCESS
        }
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (noun, path) in api::files() {
        trials.push(trial(format!("api::{noun}"), async move || api::play(noun, path).await));
    }
    trials.extend(access::trials());
    trials.extend(access_matrix::trials());
    trials.extend(access_projects::trials());
    trials.extend(access_restrictions::trials());
    trials.extend(attacks::trials());
    trials.extend(bucket_triggers::trials());
    trials.extend(clients::trials());
    trials.extend(console::trials());
    trials.extend(copy_to::trials());
    trials.extend(listeners::trials());
    trials.extend(emulators::trials());
    trials.extend(event_rights::trials());
    trials.extend(event_shapes::trials());
    trials.extend(deployments::trials());
    trials.extend(flight::trials());
    trials.extend(flight_java::trials());
    trials.extend(flight_matrix::trials());
    trials.extend(function_lake::trials());
    trials.extend(function_budgets::trials());
    trials.extend(function_outputs::trials());
    trials.extend(function_triggers::trials());
    trials.extend(functions::trials());
    trials.extend(iceberg::trials());
    trials.extend(iceberg_matrix::trials());
    trials.extend(lambda::trials());
    trials.extend(lambda_clients::trials());
    trials.extend(lambda_matrix::trials());
    trials.extend(life_cycle::trials());
    trials.extend(limits::trials());
    trials.extend(names::trials());
    trials.extend(network::trials());
    trials.extend(object_stores::trials());
    trials.extend(occurrence_triggers::trials());
    trials.extend(postgres::trials());
    trials.extend(postgres_matrix::trials());
    trials.extend(postgres_sessions::trials());
    trials.extend(postgres_tools::trials());
    trials.extend(read_files::trials());
    trials.extend(run_outputs::trials());
    trials.extend(runs::trials());
    trials.extend(s3_clients::trials());
    trials.extend(s3_matrix::trials());
    trials.extend(scans::trials());
    trials.extend(sqs::trials());
    trials.extend(sqs_matrix::trials());
    trials.extend(statements::trials());
    trials.extend(tls::trials());
    trials.extend(traces::trials());
    trials.extend(triggers::trials());
    trials.extend(maintenance::trials());
    trials.extend(message_triggers::trials());
    trials.extend(metrics::trials());
    trials
}

/// A test that fails by panicking.
pub fn trial<F>(name: impl Into<String>, test: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = ()>,
{
    Trial::test(name, move || {
        block_on(test());
        Ok(())
    })
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work);
}
