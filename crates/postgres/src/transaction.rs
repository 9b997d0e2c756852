//! Transactions: statements between `BEGIN` and `COMMIT` read one commit.
//!
//! The first write creates a branch, which every later statement reads and writes. `COMMIT` merges
//! it, so that other clients see all changes or none; a conflict is SQLSTATE 40001. A transaction
//! that only reads creates no branch.

use headwater_model::{CreateRef, MergeChoice, MergeRequest, Problem, RefSpec};

use crate::cursor::returns_rows;
use crate::reply::Status;
use crate::session::Session;

/// Prefix of the branches of transactions.
const PREFIX: &str = "transaction-";

/// An open transaction.
#[derive(Debug)]
pub struct Transaction {
    /// The ref that its statements read and write.
    pub reference: RefSpec,
    /// The branch to merge into; none for a tag or commit, which cannot be written.
    target: Option<String>,
    /// Its branch, from the first write on.
    branch: Option<String>,
}

impl Session {
    /// Begins a transaction at the current commit of the ref. Does nothing in a transaction.
    pub async fn begin(&mut self) -> Result<&'static str, Problem> {
        if self.status == Status::Idle {
            let refs = self.service.refs();
            let resolved = refs.resolve(&self.principal, &self.reference).await?;
            let reference = match &resolved.branch {
                Some(name) => {
                    RefSpec::At { name: name.clone(), hash: resolved.commit.to_string() }
                }
                None => self.reference.clone(),
            };
            let target = resolved.branch;
            self.transaction = Some(Transaction { reference, target, branch: None });
            self.status = Status::Transaction;
        }
        Ok("BEGIN")
    }

    /// Creates the branch of the transaction before its first write. `name` is the statement's.
    pub async fn prepare_write(&mut self, name: &str) -> Result<(), Problem> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if returns_rows(name) || transaction.branch.is_some() || transaction.target.is_none() {
            return Ok(());
        }
        let branch = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let request = CreateRef {
            name: branch.clone(),
            from: Some(transaction.reference.clone()),
            if_not_exists: false,
        };
        self.service.branches().create(&self.principal, request).await?;
        transaction.reference = RefSpec::Name(branch.clone());
        transaction.branch = Some(branch);
        Ok(())
    }

    /// Commits the transaction, or undoes it if it has failed.
    pub async fn commit(&mut self) -> Result<&'static str, Problem> {
        if self.status == Status::Failed {
            return Ok(self.roll_back().await);
        }
        self.status = Status::Idle;
        self.portals.clear();
        let Some(transaction) = self.transaction.take() else { return Ok("COMMIT") };
        let (Some(target), Some(branch)) = (&transaction.target, &transaction.branch) else {
            return Ok("COMMIT");
        };
        let request = MergeRequest {
            source: RefSpec::Name(branch.clone()),
            message: Some("transaction".to_owned()),
            dry_run: false,
            unchecked: false,
            on_conflict: MergeChoice::default(),
            choices: std::collections::BTreeMap::new(),
        };
        let branches = self.service.branches();
        let merged = Box::pin(branches.merge(&self.principal, target, request)).await;
        self.discard(branch).await;
        merged.map(|_| "COMMIT").map_err(|problem| {
            problem.with_hint("Repeat the transaction: its changes were undone.")
        })
    }

    /// Undoes the transaction, if there is one.
    pub async fn roll_back(&mut self) -> &'static str {
        self.status = Status::Idle;
        self.portals.clear();
        if let Some(branch) = self.transaction.take().and_then(|it| it.branch) {
            self.discard(&branch).await;
        }
        "ROLLBACK"
    }

    /// Deletes the branch of a transaction that ended.
    async fn discard(&self, branch: &str) {
        // The branch remains, and harms nothing, if the server stops or the store fails.
        let _ = self.service.branches().delete(&self.principal, branch).await;
    }
}
