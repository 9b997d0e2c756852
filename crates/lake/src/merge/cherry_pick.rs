//! Cherry-pick and revert of one commit. A cherry-pick merges the commit, with the commit's parent
//! as merge base. A revert merges the parent, with the commit as merge base.

use std::collections::BTreeSet;

use headwater_catalog::{MergePlan, TableChange};
use headwater_model::{
    CherryPickRequest, Commit, CommitId, MergeReport, MergeRequest, PROPERTY_JOB, PROPERTY_PICKED,
    PROPERTY_REVERTED, RefSpec, RevertRequest, TableName,
};

use super::{MergeOptions, MergeRange, MergeRights, OngoingMerge};
use crate::error::{Error, Result};
use crate::lake::Lake;

impl Lake {
    /// Applies the difference between a commit and its first parent to a branch, as one new commit.
    /// Cherry-picks are allowed on protected branches, like merges. A conflict is part of the
    /// report and not an error.
    pub async fn cherry_pick(
        &self,
        target: &str,
        request: CherryPickRequest,
        options: impl Into<MergeOptions>,
    ) -> Result<MergeReport> {
        let id = self.catalog().resolve(&request.commit).await?.commit;
        let (commit, parent) = self.with_parent(id).await?;
        let message =
            request.message.unwrap_or_else(|| format!("{}\n\nFrom commit {id}", commit.message));
        let merge = MergeRequest {
            source: request.commit,
            message: Some(message),
            dry_run: request.dry_run,
            unchecked: request.unchecked,
            on_conflict: request.on_conflict,
            choices: request.choices,
        };
        let options = with_commit(options.into(), PROPERTY_PICKED, id);
        let range = MergeRange::From { commit: parent, only: None, is_revert: false };
        self.merge_range(target, merge, options, range).await
    }

    /// Reverts the changes of one commit, in one new commit. The request names a commit of the
    /// branch, or a run whose merge commit is reverted. It can select some of the changed tables;
    /// the default is all. Later changes are kept. A conflict with later changes is part of the
    /// report and not an error.
    pub async fn revert(
        &self,
        target: &str,
        request: RevertRequest,
        options: impl Into<MergeOptions>,
    ) -> Result<MergeReport> {
        let options = options.into();
        let id = self.reverted(target, &request).await?;
        let (commit, parent) = self.with_parent(id).await?;
        let only = if request.tables.is_empty() {
            None
        } else {
            let changes = self.catalog().diff(parent, id).await?;
            Some(reverted_tables(&request, id, &changes, options.rights.as_deref())?)
        };
        let message = request.message.unwrap_or_else(|| {
            let subject = commit.message.lines().next().unwrap_or_default();
            format!("Revert \"{subject}\"\n\nUndoes commit {id}")
        });
        let merge = MergeRequest {
            source: RefSpec::Commit(parent.to_string()),
            message: Some(message),
            dry_run: request.dry_run,
            unchecked: request.unchecked,
            on_conflict: request.on_conflict,
            choices: request.choices,
        };
        let options = with_commit(options, PROPERTY_REVERTED, id);
        let range = MergeRange::From { commit: id, only, is_revert: true };
        self.merge_range(target, merge, options, range).await
    }

    async fn with_parent(&self, id: CommitId) -> Result<(Commit, CommitId)> {
        let commit = self.catalog().read_commit(id).await?;
        match commit.parents.first() {
            Some(parent) => {
                let parent = *parent;
                Ok((commit, parent))
            }
            None => Err(invalid(
                format!("`@{}` is the first commit and has no changes", id.short()),
                "Use a commit that `headwater log` lists.",
            )),
        }
    }

    /// Resolves the commit to revert, which must be in the branch's history.
    async fn reverted(&self, target: &str, request: &RevertRequest) -> Result<CommitId> {
        let head = self.catalog().branch(target).await?.commit;
        match (&request.commit, &request.run) {
            (Some(commit), None) => {
                let id = self.catalog().resolve(commit).await?.commit;
                if self.catalog().merge_bases(id, head).await? == [id] {
                    return Ok(id);
                }
                let message =
                    format!("commit `@{}` is not in the history of `{target}`", id.short());
                Err(invalid(message, "Use a commit that `headwater log` lists."))
            }
            (None, Some(run)) => self.commit_of_run(target, head, run).await,
            _ => Err(invalid(
                "a commit or a run is required".to_owned(),
                "Specify the commit or the run to revert.",
            )),
        }
    }

    /// Returns the commit by which a run was merged into a branch.
    async fn commit_of_run(&self, target: &str, head: CommitId, run: &str) -> Result<CommitId> {
        let mut next = Some(head);
        while let Some(id) = next {
            let commit = self.catalog().read_commit(id).await?;
            if commit.properties.get(PROPERTY_JOB).is_some_and(|job| job == run) {
                return Ok(id);
            }
            next = commit.parents.first().copied();
        }
        let message = format!("run `{run}` has no commit on `{target}`");
        Err(invalid(message, "Use the run's id from `headwater job ls`."))
    }
}

impl OngoingMerge<'_> {
    /// Returns true if, since the merge base, the changes of one commit reached both sides through
    /// a cherry-pick.
    pub(super) async fn has_common_cherry_pick(&self, plan: &MergePlan) -> Result<bool> {
        if matches!(&self.range, MergeRange::From { is_revert: true, .. }) {
            return Ok(false);
        }
        let catalog = self.lake.catalog();
        let mut oldest = self.lake.clock().now();
        for base in &plan.bases {
            oldest = oldest.min(catalog.read_commit(*base).await?.time);
        }
        let mut commit_sets = Vec::new();
        for heads in [plan.bases.as_slice(), &[plan.head], &[plan.source]] {
            let commits = catalog.history_since(heads, oldest).await?;
            let picked = commits.iter().filter_map(|commit| commit.properties.get(PROPERTY_PICKED));
            let picked: Vec<CommitId> = picked.filter_map(|id| id.parse().ok()).collect();
            commit_sets.push(commits.iter().map(|commit| commit.id).chain(picked).collect());
        }
        let [base, ours, theirs]: [BTreeSet<CommitId>; 3] =
            commit_sets.try_into().unwrap_or_default();
        Ok(ours.intersection(&theirs).any(|id| !base.contains(id)))
    }
}

/// Returns the tables that a revert request selects from the changes of a commit. The request must
/// set `partial` to revert only some of the tables that the commit changed. The error message omits
/// the names of tables that the author may not see.
fn reverted_tables(
    request: &RevertRequest,
    id: CommitId,
    changes: &[TableChange],
    rights: Option<&dyn MergeRights>,
) -> Result<BTreeSet<TableName>> {
    let mut tables = BTreeSet::new();
    for table in &request.tables {
        let mut changed = changes.iter().map(|change| &change.table);
        let same = |found: &&TableName| {
            found.namespace.eq_ignore_ascii_case(&table.namespace)
                && found.name.eq_ignore_ascii_case(&table.name)
        };
        let exact = changed.clone().find(|found| *found == table);
        let Some(found) = exact.or_else(|| changed.find(same)) else {
            let message = format!("commit `@{}` did not change table `{table}`", id.short());
            return Err(invalid(message, "Specify tables that the commit changed."));
        };
        tables.insert(found.clone());
    }
    let rest: Vec<&TableChange> =
        changes.iter().filter(|change| !tables.contains(&change.table)).collect();
    if request.partial || rest.is_empty() {
        return Ok(tables);
    }
    let shown = rest.iter().filter(|change| {
        let mut sides = [&change.from, &change.to].into_iter().flatten();
        rights.is_none_or(|rights| sides.all(|entry| rights.shows(&change.table, entry)))
    });
    let mut names: Vec<String> = shown.map(|change| format!("`{}`", change.table)).collect();
    if names.len() < rest.len() {
        names.push("tables that are hidden from the user".to_owned());
    }
    let message = format!("commit `@{}` also changed {}", id.short(), names.join(", "));
    Err(invalid(message, "Revert the whole commit, or use `--partial`."))
}

/// Records the picked or reverted commit as a property of the new commit.
fn with_commit(mut options: MergeOptions, property: &str, id: CommitId) -> MergeOptions {
    options.properties.insert(property.to_owned(), id.to_string());
    options
}

fn invalid(message: String, hint: &'static str) -> Error {
    Error::InvalidRequest { message, hint }
}
