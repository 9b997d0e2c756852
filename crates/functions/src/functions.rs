//! The handle of this room.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Environment, EnvironmentEvent, EnvironmentSpec, Error, FunctionEvent, FunctionsOptions,
    Invocation, Outcome, Result,
};

/// Builds environments and runs functions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Functions {
    options: Arc<FunctionsOptions>,
}

impl Functions {
    /// Starts the spawner and makes ready.
    pub async fn start(options: FunctionsOptions) -> Result<Functions> {
        Ok(Functions { options: Arc::new(options) })
    }

    /// What is weaker on this host than it should be, for people to read at start; often nothing.
    pub fn warnings(&self) -> Vec<String> {
        let _ = &self.options;
        Vec::new()
    }

    /// The environment for a set of packages, made where it is not there yet.
    pub async fn environment(
        &self,
        spec: &EnvironmentSpec,
        on_progress: &(dyn Fn(EnvironmentEvent) + Send + Sync),
    ) -> Result<Arc<Environment>> {
        let _ = (spec, on_progress);
        Err(Error::Spawner { reason: "is not there yet".to_owned() })
    }

    /// Runs a function once, in a process of its own, and waits for it.
    pub async fn invoke(
        &self,
        invocation: Invocation,
        sink: mpsc::Sender<FunctionEvent>,
        cancelled: CancellationToken,
    ) -> Result<Outcome> {
        let _ = (invocation, sink, cancelled);
        Err(Error::Spawner { reason: "is not there yet".to_owned() })
    }
}
