//! The rights that a trigger needs to its source and to its target.
//!
//! A trigger has the rights of the identity that deployed or created it. The rights are checked at
//! the deployment or creation, before each poll of the source, and before each delivery. The check
//! before a poll needs only the rights to the source; the other checks need all rights. Without
//! these checks, events would reveal the names of objects that the identity may not read.

use std::path::{Component, Path};

use headwater_engine::SessionRights;
use headwater_ingest::ResolvedPrivateFiles;
use headwater_model::{
    AccessObject, Action, ArrivedFile, ErrorCode, EventData, MAIN_BRANCH, Principal, Problem,
    TableName, Trigger,
};
use headwater_pipelines::Project;
use serde_json::json;

use crate::deployer::{ActiveDeployment, ParsedDeployment};
use crate::function_owner::called_object;
use crate::import::ImportExecutor;
use crate::rights::{EVERY, check_unrecorded};

/// Characters of patterns in the names of watched tables.
const WILDCARDS: [char; 5] = ['*', '?', '[', '{', '\\'];

/// The project on which the rights that a trigger needs to its target depend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TargetProject<'a> {
    /// The project that declares the trigger. The functions and runs of this project need no
    /// further right.
    Declares(&'a Project),
    /// The active version, for a trigger that is created without a project.
    Active(Option<&'a ParsedDeployment>),
}

/// Returns all rights that the identity of a trigger needs.
pub(crate) fn trigger_rights(
    trigger: &Trigger,
    project: TargetProject<'_>,
) -> Vec<(Action, AccessObject)> {
    let mut needed = target_rights(trigger, project);
    needed.extend(source_rights(trigger));
    needed
}

/// Returns the rights to the targets, except the rights of imports and runs to tables and branches,
/// which imports and runs check themselves.
fn target_rights(trigger: &Trigger, project: TargetProject<'_>) -> Vec<(Action, AccessObject)> {
    let mut needed = Vec::new();
    if let Some(name) = &trigger.function {
        let called = match project {
            TargetProject::Declares(project) if project.callables.contains_key(name) => None,
            TargetProject::Declares(_) => Some(called_object(None, name)),
            TargetProject::Active(version) => Some(called_object(version, name)),
        };
        needed.extend(called.map(|function| (Action::Invoke, function)));
    }
    if let TargetProject::Active(Some(version)) = project
        && trigger.run
    {
        needed.push((Action::Run, AccessObject::project(&version.project.name)));
    }
    needed
}

/// Returns the rights to the source. Table patterns, merges and jobs need no right here. The events
/// of these sources contain only objects that the identity may see (`occurrence_rights`).
pub(crate) fn source_rights(trigger: &Trigger) -> Vec<(Action, AccessObject)> {
    let mut needed = Vec::new();
    if let Some(queue) = &trigger.queue {
        needed.push((Action::Read, AccessObject::queue(&queue.name)));
    }
    if let Some(bucket) = &trigger.bucket {
        needed.push(bucket.right());
    }
    if let Some(location) = trigger.files.as_ref().and_then(|it| outside_project(&it.folder)) {
        needed.push((Action::Read, AccessObject::location(location)));
    }
    if let Some(tables) = &trigger.tables {
        let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
        needed.push((Action::Read, AccessObject::branch(branch)));
        let names = tables.names.iter().map(|name| name.trim());
        let names = names.filter(|name| !name.contains(WILDCARDS));
        let tables = names.filter_map(|name| name.parse::<TableName>().ok());
        needed.extend(tables.map(|table| (Action::Select, AccessObject::table(&table))));
    }
    for secret in trigger.secrets() {
        needed.push((Action::Use, AccessObject::secret(secret)));
    }
    needed
}

/// Returns the rights to the files of an event that are outside the project. The trigger may have
/// watched another folder when the event was recorded.
pub(crate) fn file_rights(files: &[ArrivedFile], project: &Path) -> Vec<(Action, AccessObject)> {
    let needed = files.iter().filter_map(|file| {
        let path = Path::new(&file.path);
        // An empty project path is a prefix of every path.
        let below = path.strip_prefix(project).ok().filter(|below| below.is_relative());
        if below.is_some_and(|below| !has_parent(below)) {
            return None;
        }
        let location = if has_parent(path) { EVERY } else { file.path.as_str() };
        Some((Action::Read, AccessObject::location(location)))
    });
    needed.collect()
}

/// Returns the location that a grant must contain for a watched folder; `None` for a relative path
/// in the project. A path with `..` needs a grant on all locations.
fn outside_project(folder: &str) -> Option<&str> {
    let path = Path::new(folder);
    if has_parent(path) {
        return Some(EVERY);
    }
    path.is_absolute().then_some(folder)
}

/// Returns true if a folder in the project leads out of the project through a symbolic link.
fn links_outside(folder: &Path, project: &Path) -> bool {
    match (folder.canonicalize(), project.canonicalize()) {
        (Ok(folder), Ok(project)) => !folder.starts_with(project),
        _ => false,
    }
}

/// Returns true if a path contains `..` as a component.
fn has_parent(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// Returns the rights to write the table of an import. Each import checks these rights itself, and
/// also the rights that depend on the table: to create it, or to add columns.
fn import_rights(trigger: &Trigger) -> Vec<(Action, AccessObject)> {
    let Some(import) = &trigger.import else { return Vec::new() };
    let branch = trigger.branch.as_deref().unwrap_or(MAIN_BRANCH);
    let table = import.table.parse::<TableName>().ok();
    let insert = table.map(|table| (Action::Insert, AccessObject::table(&table)));
    [(Action::Write, AccessObject::branch(branch))].into_iter().chain(insert).collect()
}

/// Checks all rights that the identity of a trigger needs. The error names the trigger.
pub(crate) fn check_trigger_rights(
    trigger: &Trigger,
    project: TargetProject<'_>,
    access: &dyn SessionRights,
) -> Result<(), Problem> {
    let import = import_rights(trigger).into_iter();
    for (action, object) in trigger_rights(trigger, project).into_iter().chain(import) {
        access.check(action, &object).map_err(|problem| of_trigger(trigger, problem))?;
    }
    Ok(())
}

/// Checks before a poll that the identity of a trigger still has the rights to the source.
pub(crate) fn check_source(
    deployed: &ActiveDeployment,
    imports: &ImportExecutor,
    project: &Path,
    trigger: &Trigger,
) -> Result<(), Problem> {
    let needed = source_rights(trigger);
    if needed.is_empty() && trigger.files.is_none() {
        return Ok(());
    }
    let principal = deployed.actor_of(trigger)?.principal();
    for (action, object) in &needed {
        check_unrecorded(&imports.rights.access, &principal, *action, object)?;
    }
    match &trigger.files {
        Some(files) => {
            let folder = project.join(&files.folder);
            check_public(imports, &principal, std::iter::once(folder.as_path()))?;
            if outside_project(&files.folder).is_none() && links_outside(&folder, project) {
                let everywhere = AccessObject::location(EVERY);
                check_unrecorded(&imports.rights.access, &principal, Action::Read, &everywhere)?;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// Checks that paths are not private, such as the files of a lake. Administrators may see the names
/// of private files.
pub(crate) fn check_public<'a>(
    imports: &ImportExecutor,
    principal: &Principal,
    mut paths: impl Iterator<Item = &'a Path>,
) -> Result<(), Problem> {
    let Some(private) = private_files(imports, principal) else { return Ok(()) };
    let Some(path) = paths.find(|path| private.has_path(path)) else { return Ok(()) };
    let path = path.display();
    let message = format!("`{path}` belongs to a lake, or may contain credentials");
    Err(Problem::new(ErrorCode::Forbidden, message).with_hint("Watch another folder."))
}

/// Removes private files from the event of a trigger; returns `None` if no file is left.
pub(crate) fn without_private(
    deployed: &ActiveDeployment,
    imports: &ImportExecutor,
    trigger: &str,
    mut data: EventData,
) -> Option<EventData> {
    if let EventData::FileArrived { files } = &mut data
        && let Ok(Some(identity)) = deployed.identity(trigger)
        && let Some(private) = private_files(imports, &identity.principal())
    {
        files.retain(|file| !private.has_path(Path::new(&file.path)));
        if files.is_empty() {
            return None;
        }
    }
    Some(data)
}

/// Returns the files whose names a principal must not see; `None` for administrators.
fn private_files(imports: &ImportExecutor, principal: &Principal) -> Option<ResolvedPrivateFiles> {
    let rights = &imports.rights;
    let decision = rights.access.decide(principal, Action::Administer, &AccessObject::lake());
    if decision.is_allowed() {
        return None;
    }
    Some(rights.private_files(principal, &[]).resolve(&imports.lake))
}

fn of_trigger(trigger: &Trigger, mut problem: Problem) -> Problem {
    problem.message = format!("trigger `{}`: {}", trigger.name, problem.message);
    problem.context.insert("trigger".to_owned(), json!(trigger.name));
    problem
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_model::{
        Actor, AuthMethod, AuthenticatedUser, ObjectId, ObjectOwner, ProjectFiles, Timestamp,
    };
    use headwater_pipelines::parse_project;

    use super::*;

    /// Returns a version that the user `ana` deployed, of the project `shop` with the function `f`.
    fn version() -> ParsedDeployment {
        let code = "import headwater\n\n\n@headwater.function()\ndef f(event):\n    return event\n";
        let files = ProjectFiles::from([
            ("headwater.toml".to_owned(), "[project]\nname = \"shop\"\n".into()),
            ("functions/f.py".to_owned(), code.into()),
        ]);
        let project = parse_project(&files).expect("files").into_runnable().expect("a project");
        let user = AuthenticatedUser {
            name: "ana".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            method: AuthMethod::Token,
            token: None,
            scopes: None,
            expires: None,
        };
        ParsedDeployment {
            id: ObjectId::of(b""),
            project: Arc::new(project),
            actor: Actor::User(Box::new(user)),
        }
    }

    fn trigger(definition: serde_json::Value) -> Trigger {
        let mut definition = definition;
        definition["name"] = json!("t");
        serde_json::from_value(definition).expect("a trigger")
    }

    fn check(definition: serde_json::Value, expected: &[(Action, AccessObject)]) {
        let trigger = trigger(definition);
        assert_eq!(source_rights(&trigger), expected, "{trigger:?}");
    }

    #[test]
    fn folders_outside_the_project_need_a_right() {
        let folder = |folder: &str| json!({"files": {"folder": folder}, "import": {"table": "t"}});
        check(folder("landing"), &[]);
        check(folder("/data/in"), &[(Action::Read, AccessObject::location("/data/in"))]);
        for path in ["../in", "in/../../etc", "/data/in/../../etc"] {
            check(folder(path), &[(Action::Read, AccessObject::location(EVERY))]);
        }
        check(folder("in..old"), &[]);
    }

    #[test]
    fn tables_need_their_branch_and_each_named_table() {
        let select = |name: &str| {
            (Action::Select, AccessObject::table(&name.parse::<TableName>().expect("a name")))
        };
        let tables = json!({"tables": {"names": [" orders ", "raw.*", "sales.x", "t_?"]}});
        let main = (Action::Read, AccessObject::branch(MAIN_BRANCH));
        check(tables, &[main, select("public.orders"), select("sales.x")]);
        let patterns = json!({"tables": {"names": ["*"]}, "branch": "dev"});
        check(patterns, &[(Action::Read, AccessObject::branch("dev"))]);
    }

    #[test]
    fn buckets_queues_and_secrets_need_a_right() {
        let list = (Action::List, AccessObject::prefix_in("landing", "in/"));
        check(json!({"bucket": {"name": "landing", "prefix": "in/"}}), &[list]);
        for (prefix, location) in [("in/", "s3://partner/in"), ("in", "s3://partner")] {
            let remote = (Action::Read, AccessObject::location(location));
            check(json!({"bucket": {"name": "s3://partner", "prefix": prefix}}), &[remote]);
        }
        check(json!({"queue": "orders"}), &[(Action::Read, AccessObject::queue("orders"))]);
        let source = json!({"url": "postgres://u@db/d", "secret": "KEY", "channel": "c"});
        check(json!({"postgres": source}), &[(Action::Use, AccessObject::secret("KEY"))]);
        check(json!({"merges": {}}), &[]);
    }

    #[test]
    fn a_standalone_trigger_also_needs_the_rights_to_its_target() {
        let (trigger, version) = (trigger(json!({"schedule": "@daily", "run": true})), version());
        let run = trigger_rights(&trigger, TargetProject::Active(Some(&version)));
        assert_eq!(run, [(Action::Run, AccessObject::project("shop"))]);
        assert!(trigger_rights(&trigger, TargetProject::Active(None)).is_empty());
        let check = |function: &str, expected: AccessObject| {
            let function = Some(function.to_owned());
            let calls = Trigger { run: false, function, ..trigger.clone() };
            let needed = trigger_rights(&calls, TargetProject::Active(Some(&version)));
            assert_eq!(needed, [(Action::Invoke, expected)]);
        };
        // The function of the project belongs to the user that deployed the version.
        let owner = ObjectOwner { user: "ana".to_owned(), created: Timestamp::UNIX_EPOCH };
        check("f", AccessObject::function("f").with_owner(Some(&owner)));
        check("g:1", AccessObject::function("g"));
    }

    #[test]
    fn an_import_needs_the_right_to_write_its_table() {
        let check = |definition, branch: &str, table: &str| {
            let table = table.parse::<TableName>().expect("a name");
            let insert = (Action::Insert, AccessObject::table(&table));
            let expected = [(Action::Write, AccessObject::branch(branch)), insert];
            assert_eq!(import_rights(&trigger(definition)), expected);
        };
        let import = |table: &str| json!({"files": {"folder": "in"}, "import": {"table": table}});
        check(import("readings"), "main", "public.readings");
        let mut on_dev = import("raw.t");
        on_dev["branch"] = json!("dev");
        check(on_dev, "dev", "raw.t");
        assert!(import_rights(&trigger(json!({"schedule": "@daily", "run": true}))).is_empty());
    }

    #[test]
    fn files_of_events_outside_the_project_need_a_right() {
        let file = |path: &str| ArrivedFile {
            path: path.to_owned(),
            uri: format!("file://{path}"),
            etag: "e".to_owned(),
            size: 1,
        };
        let files = ["/p/in/a..csv", "/data/a.csv", "/p/../b.csv"].map(file);
        let read = |location| (Action::Read, AccessObject::location(location));
        assert_eq!(file_rights(&files, Path::new("/p")), [read("/data/a.csv"), read(EVERY)]);
    }
}
