//! The process specifications of instances: sandbox, environment variables and files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headwater_model::FileContent;
use headwater_sandbox::{CloneSpec, EgressPolicy, ProcessIsolation, ProcessSpec, SandboxSpec};
use headwater_shared_memory::MemoryFile;

use crate::instance::InstanceOrigin;
use crate::project_folders::{ProjectFolder, is_large};
use crate::{Environment, Error, Invocation, Limits, Result, worker_protocol};

/// Maximum number of processes and threads of an instance.
const PROCESSES_MAX: u64 = 4096;

/// Paths inside a sandbox: the project, the folder of the worker and the SDK, and the environment.
pub(crate) const PROJECT: &str = "/project";
pub(crate) const WORKER: &str = "/headwater";
pub(crate) const ENVIRONMENT: &str = "/environment";

/// Returns the process specification of an instance that is not cloned from a zygote. If there is a
/// folder `project`, the sandbox mounts it.
pub(crate) fn plan(
    invocation: &Invocation,
    origin: &InstanceOrigin,
    project: Option<&ProjectFolder>,
) -> Result<ProcessSpec> {
    let (limits, environment) = (&invocation.limits, &*invocation.environment);
    let (worker, temp, python, confinement) = if let InstanceOrigin::Folder(folder) = origin {
        let (worker, temp) = (folder.join("headwater"), folder.join("tmp"));
        (worker, temp, environment.python.clone(), ProcessIsolation::Folder(folder.clone()))
    } else {
        let python = Path::new(ENVIRONMENT).join("bin").join("python");
        let mut sandbox =
            environment_sandbox(environment, limits.temp_bytes, !limits.network.denies_all())?;
        let project = project.map(|folder| (folder.path().to_owned(), PathBuf::from(PROJECT)));
        sandbox.read_only.extend(project);
        (PathBuf::from(WORKER), PathBuf::from("/tmp"), python, ProcessIsolation::Sandbox(sandbox))
    };
    let programs = python.parent().map(Path::to_owned).unwrap_or_default();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let command =
        [text(&python), "-I".into(), "-B".into(), text(&worker.join(worker_protocol::FILE))];
    Ok(ProcessSpec {
        command: command.to_vec(),
        variables: variables(&text(&programs), &text(&temp), limits.cpu_millis),
        control: true,
        confinement,
        memory_bytes: Some(limits.memory_bytes),
        processes_max: Some(PROCESSES_MAX),
        cpu_millis: limits.cpu_millis,
        ..ProcessSpec::default()
    })
}

/// Returns the process specification of a clone of the zygote with this id, for calls with the
/// given limits.
pub(crate) fn clone_plan(zygote: u64, limits: &Limits) -> ProcessSpec {
    let (temp_bytes, network) = (limits.temp_bytes, !limits.network.denies_all());
    ProcessSpec {
        variables: variables("/environment/bin", "/tmp", limits.cpu_millis),
        confinement: ProcessIsolation::Clone(CloneSpec { zygote, temp_bytes, network }),
        memory_bytes: Some(limits.memory_bytes),
        processes_max: Some(PROCESSES_MAX),
        cpu_millis: limits.cpu_millis,
        ..ProcessSpec::default()
    }
}

/// Returns all environment variables of an instance.
pub(crate) fn variables(
    programs: &str,
    temp: &str,
    cpu_millis: Option<u32>,
) -> Vec<(String, String)> {
    // Without this variable, libraries count processors in `/sys`, which sandboxes do not have.
    // Some libraries would log a warning at each call.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limit = cpu_millis.map_or(processors, |millis| millis.div_ceil(1000).max(1) as usize);
    let threads = processors.min(limit).to_string();
    let variables = [
        ("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin")),
        ("HOME", temp.to_owned()),
        ("TMPDIR", temp.to_owned()),
        ("USER", "function".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("OMP_NUM_THREADS", threads.clone()),
        ("LOKY_MAX_CPU_COUNT", threads),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// Returns a sandbox that contains an environment and its Python interpreter.
pub(crate) fn environment_sandbox(
    environment: &Environment,
    temp_bytes: u64,
    network: bool,
) -> Result<SandboxSpec> {
    let read_only = environment.mounts(Path::new(ENVIRONMENT))?;
    Ok(SandboxSpec { read_only, temp_bytes, network })
}

/// Writes the worker, the SDK and the project to a memory file. Paths are relative to the root of
/// the sandbox or, without a sandbox, to the work folder. The file omits the worker and SDK for a
/// clone of a zygote, and the project if the sandbox mounts its folder.
///
/// Fails with [`Error::NoFolder`] if a large project has no folder.
pub(crate) fn files(
    invocation: &Invocation,
    origin: &InstanceOrigin,
    policy: Option<&EgressPolicy>,
    project: Option<&ProjectFolder>,
) -> Result<MemoryFile> {
    if project.is_none() && is_large(&invocation.files) {
        return Err(Error::NoFolder { label: invocation.label.clone() });
    }
    let own = worker_protocol::files()
        .map(|(path, text)| (format!("headwater/{path}"), Cow::Owned(text.into())));
    let own = own.filter(|_| !matches!(origin, InstanceOrigin::Zygote(_)));
    let project = invocation.files.iter().filter(|_| project.is_none());
    let project = project.map(|(path, file)| (format!("project/{path}"), Cow::Borrowed(file)));
    let names = policy.map(EgressPolicy::files).unwrap_or_default();
    let names = names.into_iter().map(|(path, text)| (path, Cow::Owned(text.into())));
    let files: BTreeMap<String, Cow<'_, FileContent>> = own.chain(project).chain(names).collect();
    let bytes = serde_json::to_vec(&files)
        .map_err(|error| Error::io("write the project's files")(error.into()))?;
    Ok(MemoryFile::with("headwater-files", &bytes)?)
}
