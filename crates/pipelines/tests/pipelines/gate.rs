//! A system table that a run cannot get past until the test lets it, so that something else can
//! happen in the middle of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use headwater_engine::SystemTable;
use headwater_lake::View;
use headwater_model::Problem;
use tokio::sync::Notify;

/// `system.gate`: the first reads of it pass, and whoever reads it then waits.
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

    /// Waits until a step stands before the gate.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
    }

    /// Lets it go on.
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

    async fn batches(&self, _view: &View) -> Result<Vec<RecordBatch>, Problem> {
        let one_less = |left: usize| left.checked_sub(1);
        let passed = self.0.passes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if passed.is_err() {
            self.0.reached.notify_one();
            self.0.open.notified().await;
        }
        Ok(Vec::new())
    }
}
