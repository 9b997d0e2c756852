//! State of a running server, shared by every protocol: the service, and what belongs to connections
//! and requests rather than to the lake.

use std::time::Duration;

use headwater_model::Health;
use headwater_service::Service;

use crate::activity::Activity;
use crate::ending::Ending;
use crate::http::body::Bodies;
use crate::iceberg::{Plans, Requests};
use crate::{Result, ServerConfig};

/// Interval between checks for changed settings and deployments.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// State of a running server.
pub struct AppState {
    pub config: ServerConfig,
    pub service: Service,
    /// Memory quota of request bodies.
    pub bodies: Bodies,
    /// Scans planned for Iceberg REST clients.
    pub scans: Plans,
    /// Iceberg REST changes in progress, by idempotency key.
    pub requests: Requests,
    pub activity: Activity,
    pub ending: Ending,
}

impl AppState {
    /// Starts the service.
    pub async fn start(config: ServerConfig) -> Result<Self> {
        Ok(AppState {
            service: Service::start(config.service.clone()).await?,
            bodies: Bodies::new(config.service.memory_bytes / 8, config.stall),
            scans: Plans::default(),
            requests: Requests::default(),
            activity: Activity::default(),
            ending: Ending::default(),
            config,
        })
    }

    /// Begins the shutdown: the server takes no more jobs, and running ones have `grace` to end.
    pub fn end(&self, grace: Duration) {
        self.service.components().jobs.close();
        self.ending.request(grace);
    }

    /// Returns the server's health.
    pub fn health(&self) -> Health {
        let stopping = self.ending.is_requested();
        Health {
            status: if stopping { "stopping" } else { "ok" }.to_owned(),
            version: self.config.service.version.clone(),
            pid: Some(std::process::id()),
            lake: Some(self.config.service.lake_dir.display().to_string()),
            jobs_running: Some(self.service.components().jobs.running() as u64),
        }
    }

    /// Applies changed settings and deployments periodically. Never returns.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.service.components().refresh().await;
        }
    }

    /// Returns once the server has been idle for the configured time; never if none is configured.
    pub async fn idle(&self) {
        let Some(timeout) = self.config.idle else { return std::future::pending().await };
        let pause = (timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
        loop {
            tokio::time::sleep(pause).await;
            if !self.service.components().is_busy() && self.activity.idle() >= timeout {
                return;
            }
        }
    }
}
