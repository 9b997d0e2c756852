//! Runs the same scenarios on S3, Google Cloud Storage and Azure: a complete lake, conditional
//! writes, and failures of the object store.
//!
//! S3 and Google Cloud Storage are servers in this process. Azure is the emulator Azurite behind a
//! proxy that injects faults.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "moto's S3 is for tests of the server")]
mod emulator;
mod fault_proxy;
mod faults;
mod google;
mod lake;
mod provider;
#[expect(dead_code, reason = "used only by tests of several processes")]
mod s3;
mod scenarios;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (cloud, provider) in provider::ALL {
        for (name, scenario) in scenarios::ALL {
            let test = move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                runtime.unwrap().block_on(scenario(provider()));
                Ok(())
            };
            trials.push(Trial::test(format!("{cloud}::{name}"), test));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
