//! The memory pool of a statement. The pools of all statements share a limit for the engine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

use crate::size_bounds::FunctionMemory;
use crate::total_memory::TotalMemory;

/// Error message if the limit of the engine is reached, not the limit of the statement. The engine
/// recognizes the error by this message.
pub const ENGINE_LIMIT_REACHED: &str = "the engine's memory limit is reached";

/// Memory pool of one statement. Divides its limit evenly among the operators that can spill, and
/// records the peak of the reserved bytes.
#[derive(Debug)]
pub struct StatementMemoryPool {
    fair: FairSpillPool,
    limit: usize,
    total: Arc<TotalMemory>,
    used: AtomicUsize,
    peak: AtomicUsize,
    functions: Arc<FunctionMemory>,
}

impl StatementMemoryPool {
    /// Creates a pool with a limit in bytes. Its reservations also count towards `total`.
    pub fn new(limit: u64, total: Arc<TotalMemory>, functions: Arc<FunctionMemory>) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        StatementMemoryPool {
            fair: FairSpillPool::new(limit),
            limit,
            total,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            functions,
        }
    }

    /// Returns the peak bytes reserved by operators.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed) as u64
    }

    /// Returns the bytes currently in use, by operators and by results of functions.
    pub fn bytes_in_use(&self) -> usize {
        self.used.load(Ordering::Relaxed).saturating_add(self.functions.used())
    }

    /// Returns the memory budget of the statement's function results.
    pub fn functions(&self) -> &Arc<FunctionMemory> {
        &self.functions
    }

    fn note_growth(&self, additional: usize) {
        let used = self.used.fetch_add(additional, Ordering::Relaxed) + additional;
        self.peak.fetch_max(used, Ordering::Relaxed);
    }
}

impl MemoryPool for StatementMemoryPool {
    fn name(&self) -> &'static str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.fair.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.fair.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.fair.grow(reservation, additional);
        self.total.grow(additional);
        self.note_growth(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.fair.shrink(reservation, shrink);
        self.total.shrink(shrink);
        self.used.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.fair.try_grow(reservation, additional)?;
        if !self.total.try_grow(additional) {
            self.fair.shrink(reservation, additional);
            return Err(DataFusionError::ResourcesExhausted(ENGINE_LIMIT_REACHED.to_owned()));
        }
        self.note_growth(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.fair.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for StatementMemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement(pool_size: {} bytes)", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_limited_by_its_own_limit_and_the_total() {
        let total = Arc::new(TotalMemory::new(100));
        let pool = |limit| -> Arc<dyn MemoryPool> {
            let functions = Arc::new(FunctionMemory::new(limit, Arc::clone(&total)));
            Arc::new(StatementMemoryPool::new(limit, Arc::clone(&total), functions))
        };
        let (one, other) = (pool(80), pool(80));
        let mine = MemoryConsumer::new("mine").register(&one);
        let theirs = MemoryConsumer::new("theirs").register(&other);
        mine.try_grow(70).unwrap();
        assert!(mine.try_grow(20).is_err());
        let refused = theirs.try_grow(40).unwrap_err().to_string();
        assert!(refused.contains(ENGINE_LIMIT_REACHED), "{refused}");
        mine.free();
        theirs.try_grow(40).unwrap();
        drop(theirs);
        assert_eq!(total.used(), 0);
    }
}
