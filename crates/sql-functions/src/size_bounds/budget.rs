//! Memory budget of one statement's function results.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{DataFusionError, Result, config_err};

use crate::error::Error;
use crate::total_memory::TotalMemory;

/// Number of copies of a constant that the optimizer has computed, as an assumption: one for each
/// row of a batch.
const BATCH_ROWS: u64 = 8192;

/// Maximum size of a constant that the optimizer may always compute in advance, in bytes.
const FOLDED_BYTES_MIN: u64 = 4 << 10;

/// Limit for functions that are called outside of a statement, in bytes.
const LIMIT_ELSEWHERE: u64 = 64 << 20;

/// Ratio of the statement's limit to the limit for one value.
const VALUES_PER_LIMIT: u64 = 4;

/// Memory that the results of a statement's function calls use, with its limits.
#[derive(Debug)]
pub struct FunctionMemory {
    limit: u64,
    used: AtomicUsize,
    total: Arc<TotalMemory>,
    planning: AtomicBool,
    stopped: AtomicBool,
}

impl FunctionMemory {
    /// Creates a budget of `limit` bytes, within the total of all statements.
    pub fn new(limit: u64, total: Arc<TotalMemory>) -> Self {
        FunctionMemory {
            limit,
            used: AtomicUsize::new(0),
            total,
            planning: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// Records whether the optimizer is running. While the optimizer folds constants, lower limits
    /// apply.
    pub fn set_planning(&self, planning: bool) {
        self.planning.store(planning, Ordering::Relaxed);
    }

    /// Makes all further function calls of the statement fail.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Returns the bytes of results currently in memory.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the limit of all results of the statement, in bytes.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the limit of one value, in bytes. The limit is lower during planning, because a
    /// folded constant may later be copied for each row of a batch.
    pub(super) fn value_limit(&self) -> u64 {
        let limit = self.limit / VALUES_PER_LIMIT;
        if self.planning.load(Ordering::Relaxed) {
            return (self.limit / BATCH_ROWS).max(FOLDED_BYTES_MIN).min(limit);
        }
        limit
    }

    pub(super) fn check_stopped(&self) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(DataFusionError::ResourcesExhausted(
                "the statement was stopped".to_owned(),
            ));
        }
        Ok(())
    }

    /// Charges bytes for a function's result until the charge is dropped.
    pub(super) fn charge(self: &Arc<Self>, function: &str, bytes: u64) -> Result<MemoryCharge> {
        let mut charge = MemoryCharge { memory: Arc::clone(self), bytes: 0 };
        charge.resize(function, bytes)?;
        Ok(charge)
    }

    fn try_grow(&self, by: usize) -> bool {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let fits = |used: usize| used.checked_add(by).filter(|sum| *sum <= limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        if !self.total.try_grow(by) {
            self.used.fetch_sub(by, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn shrink(&self, by: usize) {
        self.used.fetch_sub(by, Ordering::Relaxed);
        self.total.shrink(by);
    }
}

/// A charge to the memory budget of a statement, released when dropped.
#[derive(Debug)]
pub(super) struct MemoryCharge {
    memory: Arc<FunctionMemory>,
    bytes: usize,
}

impl MemoryCharge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the charge to the given size. After an error, the charge is unchanged.
    pub(super) fn resize(&mut self, function: &str, bytes: u64) -> Result<()> {
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        if wanted > self.bytes {
            if !self.memory.try_grow(wanted - self.bytes) {
                let held = self.memory.used().saturating_sub(self.bytes) as u64;
                let size = bytes.saturating_add(held);
                return Err(too_large(function, size, "in all batches", self.memory.limit));
            }
        } else {
            self.memory.shrink(self.bytes - wanted);
        }
        self.bytes = wanted;
        Ok(())
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

/// Returns the error of a call whose result exceeds its limit.
pub(super) fn too_large(
    function: &str,
    size: u64,
    scope: &'static str,
    limit: u64,
) -> DataFusionError {
    // The names of internal functions begin with NUL. These functions are casts that the user
    // wrote, or casts to the type of a column.
    let function = if function.starts_with('\0') { "CAST" } else { function }.to_owned();
    DataFusionError::External(Box::new(Error::FunctionMemory { function, size, scope, limit }))
}

/// The memory budget of a statement. It is an extension of the `ConfigOptions` that each function
/// call receives.
#[derive(Debug, Clone)]
pub struct FunctionMemoryExtension(pub Arc<FunctionMemory>);

impl FunctionMemoryExtension {
    /// Returns the budget in the options, or a default budget for calls outside of a statement.
    pub fn of(options: &ConfigOptions) -> Arc<FunctionMemory> {
        if let Some(budget) = options.extensions.get::<FunctionMemoryExtension>() {
            return Arc::clone(&budget.0);
        }
        let total = Arc::new(TotalMemory::new(LIMIT_ELSEWHERE));
        Arc::new(FunctionMemory::new(LIMIT_ELSEWHERE, total))
    }
}

impl ConfigExtension for FunctionMemoryExtension {
    const PREFIX: &'static str = "headwater_budget";
}

impl ExtensionOptions for FunctionMemoryExtension {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        config_err!("`{key}` cannot be set")
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
