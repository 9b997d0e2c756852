//! A system table that blocks a run until the test ends the block, so that a test can act in the
//! middle of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use headwater_engine::SystemTable;
use headwater_lake::CommitView;
use headwater_model::Problem;
use tokio::sync::Notify;

/// `system.gate`: its first reads return, and the next read blocks.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    passes: AtomicUsize,
    reached: Notify,
    open: Notify,
}

impl Gate {
    pub fn new(passes: usize) -> Gate {
        Gate(Arc::new(Inner { passes: AtomicUsize::new(passes), ..Inner::default() }))
    }

    /// Waits until a step is blocked.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
    }

    /// Unblocks the step.
    pub fn open(&self) {
        self.0.open.notify_one();
    }
}

#[async_trait]
impl SystemTable for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("open", DataType::Boolean, true)]))
    }

    async fn batches(&self, _view: &CommitView) -> Result<Vec<RecordBatch>, Problem> {
        let one_less = |left: usize| left.checked_sub(1);
        let passed = self.0.passes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if passed.is_err() {
            self.0.reached.notify_one();
            self.0.open.notified().await;
        }
        Ok(Vec::new())
    }
}
