//! Access checks of the service, below every protocol. The tests cover every operation, every kind
//! of principal and credential, and every place that creates a principal.
//!
//! The program has its own `main`, because it also runs as the service's spawner.

mod credentials;
#[path = "../../../server/tests/server/declared_operations.rs"]
#[expect(dead_code, reason = "used only by the matrices of protocols")]
mod declared_operations;
mod functions;
mod grants;
mod lake;
mod layers;
mod matrix;
mod methods;
mod principals;
mod queues;
mod rows;
mod transactions;
mod triggers;
mod unchecked;
mod uploads;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The argument that selects the spawner.
pub const SPAWNER: &str = "__spawner";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(SPAWNER) {
        return headwater_service::spawner_main();
    }
    libtest_mimic::run(&Arguments::from_args(), trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    let tests = [
        methods::trials(),
        matrix::trials(),
        credentials::trials(),
        principals::trials(),
        queues::trials(),
        functions::trials(),
        layers::trials(),
        grants::trials(),
        uploads::trials(),
        transactions::trials(),
        triggers::trials(),
    ];
    tests.into_iter().flatten().collect()
}

/// A test that fails by panicking.
pub fn trial<F>(name: impl Into<String>, test: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = ()>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test());
        Ok(())
    })
}
