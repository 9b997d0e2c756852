//! Branches: list, make, look at, change, delete, merge.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use headwater_model::{
    Branch, CherryPickRequest, Commit, ConflictCause, CreateRef, ErrorCode, Fault, MergeConflict,
    MergeOutcome, MergeReport, MergeRequest, Problem, RevertRequest, TableName, UpdateRef, nearest,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Author, Body, Parameters, Segments};
use super::failure::{Answer, Failure};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, remove))
        .routes(routes!(merge))
        .routes(routes!(cherry_pick))
        .routes(routes!(revert))
}

/// Which branches or tags to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only names that begin so.
    pub prefix: Option<String>,
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Succeed where there is nothing to delete.
    #[serde(default)]
    pub if_exists: bool,
}

impl Removal {
    /// The outcome of a removal, where its thing may have been missing all along.
    pub fn settle<E: Fault>(&self, outcome: Result<(), E>) -> Answer<StatusCode> {
        let missing = |error: &E| {
            let code = error.code();
            [ErrorCode::RefNotFound, ErrorCode::TableNotFound, ErrorCode::NamespaceNotFound]
                .contains(&code)
        };
        match outcome {
            Err(error) if !(self.if_exists && missing(&error)) => Err(error.into()),
            _ => Ok(StatusCode::NO_CONTENT),
        }
    }
}

/// Lists branches by name.
#[utoipa::path(get, path = "/v1/branches",
    operation_id = "list_branches", tag = "branch",
    params(Filter), responses(
    (status = 200, body = [Branch]), (status = "default", body = Problem)))]
async fn list(
    State(app): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Answer<Json<Vec<Branch>>> {
    Ok(Json(app.lake.catalog().branches(filter.prefix.as_deref()).await?))
}

/// Makes a branch: one small durable write, however many tables there are.
#[utoipa::path(post, path = "/v1/branches",
    operation_id = "create_branch", tag = "branch",
    request_body = CreateRef, responses(
    (status = 201, body = Branch), (status = "default", body = Problem)))]
async fn create(
    State(app): State<App>,
    Body(request): Body<CreateRef>,
) -> Answer<(StatusCode, Json<Branch>)> {
    let branch = app.lake.create_branch(request).await?;
    Ok((StatusCode::CREATED, Json(branch)))
}

/// Answers a branch.
#[utoipa::path(get, path = "/v1/branches/{branch}",
    operation_id = "get_branch", tag = "branch",
    params(("branch" = String, Path)),
    responses((status = 200, body = Branch), (status = "default", body = Problem)))]
async fn show(State(app): State<App>, Segments(name): Segments<String>) -> Answer<Json<Branch>> {
    Ok(Json(app.lake.catalog().branch(&name).await?))
}

/// Renames a branch, or says whether it takes direct writes.
#[utoipa::path(patch, path = "/v1/branches/{branch}",
    operation_id = "update_branch", tag = "branch",
    params(("branch" = String, Path)), request_body = UpdateRef,
    responses((status = 200, body = Branch), (status = "default", body = Problem)))]
async fn update(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Body(change): Body<UpdateRef>,
) -> Answer<Json<Branch>> {
    let catalog = app.lake.catalog();
    let mut branch = catalog.branch(&name).await?;
    if let Some(new) = change.name.filter(|new| *new != branch.name) {
        branch = catalog.rename_branch(&branch.name, &new).await?;
    }
    if let Some(protected) = change.protected {
        branch = catalog.protect_branch(&branch.name, protected).await?;
    }
    if let Some(project) = change.requires {
        check_project(&app, &project).await?;
        branch = catalog.require_checks(&branch.name, &project).await?;
    }
    Ok(Json(branch))
}

/// Refuses a project that nobody knows here: a slip in its name would lock the branch.
async fn check_project(app: &App, project: &str) -> Answer<()> {
    app.settings.refresh().await;
    let own = app.settings.name();
    if own.as_deref() == Some(project) || app.lake.has_checked(project).await? {
        return Ok(());
    }
    let message = format!("no run of a project `{project}` has passed in this lake yet");
    let hint = match own.as_deref().and_then(|own| nearest(project, [own])) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => {
            "Name it as its `headwater.toml` does, and run it once before it is required.".into()
        }
    };
    Err(Failure::invalid(message, hint))
}

/// Deletes a branch; its commits stay reachable by their ids.
#[utoipa::path(delete, path = "/v1/branches/{branch}",
    operation_id = "delete_branch", tag = "branch",
    params(("branch" = String, Path), Removal),
    responses((status = 204), (status = "default", body = Problem)))]
async fn remove(
    State(app): State<App>,
    Segments(name): Segments<String>,
    Parameters(removal): Parameters<Removal>,
) -> Answer<StatusCode> {
    removal.settle(app.lake.catalog().delete_branch(&name).await)
}

/// Merges a ref into a branch. A table that both changed is merged by its content where that can be;
/// where it cannot, and no side was chosen, nothing is changed, and the error `merge_conflict` holds the
/// report in its context, as `report`. A dry run answers the same, and
/// changes nothing.
#[utoipa::path(post, path = "/v1/branches/{branch}/merge",
    operation_id = "merge_branch", tag = "branch",
    params(("branch" = String, Path)), request_body = MergeRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn merge(
    State(app): State<App>,
    Segments(target): Segments<String>,
    author: Author,
    Body(request): Body<MergeRequest>,
) -> Answer<Json<MergeReport>> {
    let source = request.source.clone();
    let report = app.lake.merge(&target, request, &author.or(None)).await?;
    if report.outcome == MergeOutcome::Conflict {
        return Err(conflict(&target, &source.to_string(), &report));
    }
    Ok(Json(report))
}

/// Makes the change of a commit again on a branch: what it changed since its first parent, in one commit.
/// Conflicts are answered as those of a merge.
#[utoipa::path(post, path = "/v1/branches/{branch}/cherry-pick",
    operation_id = "cherry_pick", tag = "branch",
    params(("branch" = String, Path)), request_body = CherryPickRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn cherry_pick(
    State(app): State<App>,
    Segments(target): Segments<String>,
    author: Author,
    Body(request): Body<CherryPickRequest>,
) -> Answer<Json<MergeReport>> {
    let source = request.commit.to_string();
    let report = app.lake.cherry_pick(&target, request, &author.or(None)).await?;
    if report.outcome == MergeOutcome::Conflict {
        return Err(conflict(&target, &source, &report));
    }
    Ok(Json(report))
}

/// Undoes a commit of a branch, or what a run wrote there, in one commit; what others did since stays.
/// Conflicts are answered as those of a merge.
#[utoipa::path(post, path = "/v1/branches/{branch}/revert",
    operation_id = "revert", tag = "branch",
    params(("branch" = String, Path)), request_body = RevertRequest,
    responses((status = 200, body = MergeReport), (status = "default", body = Problem)))]
async fn revert(
    State(app): State<App>,
    Segments(target): Segments<String>,
    author: Author,
    Body(request): Body<RevertRequest>,
) -> Answer<Json<MergeReport>> {
    let report = app.lake.revert(&target, request, &author.or(None)).await?;
    if report.outcome == MergeOutcome::Conflict {
        let undone = report.base.map(|base| format!("the undoing of @{}", base.short()));
        return Err(conflict(&target, &undone.unwrap_or_default(), &report));
    }
    Ok(Json(report))
}

fn conflict(target: &str, source: &str, report: &MergeReport) -> Failure {
    let tables: Vec<_> =
        report.conflicts.iter().map(|conflict| format!("`{}`", conflict.table)).collect();
    let message = format!("`{target}` and `{source}` both changed {}", tables.join(", "));
    let base = report.base.map(|base| base.short());
    let look = base.as_ref().map_or_else(String::new, |base| {
        format!(" `headwater branch diff @{base} {target}` shows what one side did.")
    });
    let mut problem = Problem::new(ErrorCode::MergeConflict, message).with_hint(format!(
        "Make the change of one side again on the other, then merge; or choose a side with \
             `--ours TABLE` or `--theirs TABLE`.{look}"
    ));
    for conflict in &report.conflicts {
        problem.causes.push(describe(target, source, conflict));
        problem.causes.extend(conflict.causes.iter().map(|cause| clash(&conflict.table, cause)));
    }
    problem.causes.extend(base.map(|base| format!("the merge base is @{base}")));
    problem.context.insert("report".to_owned(), json!(report));
    Failure(problem)
}

/// The most data files that a conflict names in words.
const FILES_NAMED: usize = 3;

/// `planes: both changed the same rows: 3 rows in 2 files (a.parquet, b.parquet), such as {"id":1}`
fn clash(table: &TableName, cause: &ConflictCause) -> String {
    let count = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let names = cause.files.iter().take(FILES_NAMED);
    let mut names: Vec<_> = names.map(|file| file.rsplit('/').next().unwrap_or(file)).collect();
    if cause.files_total > names.len() as u64 {
        names.push("…");
    }
    let files = (cause.files_total > 0)
        .then(|| format!("{} ({})", count(cause.files_total, "file"), names.join(", ")));
    let about = match (cause.rows_total, files) {
        (Some(rows), Some(files)) => format!(": {} in {files}", count(rows, "row")),
        (None, Some(files)) => format!(": {files}"),
        (Some(rows), None) => format!(": {}", count(rows, "row")),
        (None, None) => String::new(),
    };
    let row = cause.rows.first().map(|row| format!(", such as {row}")).unwrap_or_default();
    format!("{table}: {}{about}{row}", cause.message)
}

/// `planes: appended on main by @3fa9c1d2abcd (ada: INSERT INTO planes), dropped on dev by …`
fn describe(target: &str, source: &str, conflict: &MergeConflict) -> String {
    let side = |change: &str, reference: &str, commit: Option<&Commit>| {
        let commit = commit.map(|commit| {
            let subject: String =
                commit.message.lines().next().unwrap_or_default().chars().take(60).collect();
            format!(" by @{} ({}: {subject})", commit.id.short(), commit.author)
        });
        format!("{change} on {reference}{}", commit.unwrap_or_default())
    };
    let ours = side(&conflict.target_change, target, conflict.target.as_ref());
    let theirs = side(&conflict.source_change, source, conflict.source.as_ref());
    format!("{}: {ours}, {theirs}", conflict.table)
}

#[cfg(test)]
mod tests {
    use headwater_model::ConflictKind;

    use super::*;

    #[test]
    fn a_conflict_names_its_files_and_a_row() {
        let files = ["a", "b", "c", "d"].map(|name| format!("file:///lake/t/data/{name}.parquet"));
        let mut cause = ConflictCause {
            kind: ConflictKind::Rows,
            message: "both changed the same rows".to_owned(),
            files: files[..1].to_vec(),
            files_total: 1,
            rows: vec![json!({"id": 7})],
            rows_total: Some(1),
        };
        let table = TableName::new("public", "t").unwrap();
        assert_eq!(
            clash(&table, &cause),
            "t: both changed the same rows: 1 row in 1 file (a.parquet), such as {\"id\":7}"
        );
        (cause.files, cause.files_total) = (files.to_vec(), 9);
        assert!(clash(&table, &cause).contains("9 files (a.parquet, b.parquet, c.parquet, …)"));
    }
}
