//! Environments: shared, content-addressed, with clear errors.

use headwater_environments::Error as EnvironmentError;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{ask, environment, holds, options, run, spec, start, wait_until};
use headwater_functions::{
    Environment, EnvironmentEvent, EnvironmentSpec, Error, FunctionResult, Functions,
    FunctionsOptions, Invocation, ReuseScope, ZygoteOptions,
};
use headwater_model::ToProblem;
use tokio_util::sync::CancellationToken;

fn fresh(folder: &tempfile::TempDir) -> FunctionsOptions {
    // The idle time is short, so that the test often finds unused environments.
    let zygotes = ZygoteOptions { idle_max: Duration::from_secs(2), ..ZygoteOptions::default() };
    let environments_dir = folder.path().join("environments");
    FunctionsOptions { environments_dir, zygotes, ..options() }
}

#[tokio::test]
async fn functions_see_their_own_versions() {
    let functions = start().await;
    let old = environment(&functions, &[("Polars", "1.37"), ("pandas", "2.2.3")]).await;
    let new = environment(&functions, &[("polars", "1.38.1"), ("pandas", "2.3")]).await;
    assert!(old.packages["polars"].starts_with("1.37."), "{:?}", old.packages);
    for (environment, polars, pandas) in [(&old, "1.37.", "2.2.3"), (&new, "1.38.1", "2.3.")] {
        let source = format!(
            "
import polars, pandas
def f():
    found = polars.__version__, pandas.__version__
    print(*found)
    return found[0].startswith('{polars}') and found[1].startswith('{pandas}')
"
        );
        holds(&functions, ask(environment, &source)).await;
    }
}

#[tokio::test]
async fn an_environment_is_built_once_and_then_shared() {
    let folder = tempfile::tempdir().unwrap();
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    let events = Mutex::new(Vec::new());
    let note = |event: EnvironmentEvent| events.lock().unwrap().push(event);
    let (same, other) = (spec(&[("humanize", "4.13.0")]), spec(&[("Humanize", "4.13.0")]));
    let (one, two) =
        tokio::join!(functions.environment(&same, &note), functions.environment(&other, &note));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id, two.id);
    assert_eq!(u8::from(one.warm) + u8::from(two.warm), 1);
    assert!(one.packages.contains_key("pyarrow"));
    let resolved = events
        .lock()
        .unwrap()
        .iter()
        .filter(|event| matches!(event, EnvironmentEvent::Resolving { .. }))
        .count();
    assert_eq!(resolved, 1);

    // Another server finds the existing environment and needs no network access.
    drop(functions);
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    let again = functions.environment(&same, &|event| panic!("{event}")).await.unwrap();
    assert!(again.warm && again.created_ms == 0 && again.packages == one.packages);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("environments"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".building"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn adding_a_cached_package_is_fast() {
    let functions = start().await;
    environment(&functions, &[("polars", "1.38.1")]).await;
    environment(&functions, &[("humanize", "4.13.0")]).await;
    // The folder is on the file system of uv's cache, so that files can be linked.
    let folder = tempfile::tempdir_in(options().tools_dir).unwrap();
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    let both = spec(&[("polars", "1.38.1"), ("humanize", "4.13.0")]);
    let built = functions.environment(&both, &|_| ()).await.unwrap();
    // The limit is high enough for a busy machine, but downloading or copying the packages takes
    // far longer.
    assert!(built.created_ms < 30_000, "{} ms", built.created_ms);
}

#[tokio::test]
async fn scripts_of_packages_can_import_their_packages() {
    let folder = tempfile::tempdir_in(options().tools_dir).unwrap();
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    let environment = environment(&functions, &[("pandas", "2.3")]).await;
    let source = "
import os, subprocess, sys, numpy
def f():
    script = os.path.join(sys.prefix, 'bin', 'numpy-config')
    said = subprocess.run([script, '--version'], capture_output=True, text=True, env={'PATH': '/usr/bin:/bin'})
    print(said)
    return said.stdout.strip() == numpy.__version__
";
    holds(&functions, ask(&environment, source)).await;
}

#[tokio::test]
async fn old_numpy_gets_a_pyarrow_that_works_with_it() {
    let functions = start().await;
    let environment = environment(&functions, &[("numpy", "1.26")]).await;
    let major: u32 = environment.packages["pyarrow"].split('.').next().unwrap().parse().unwrap();
    assert!(major < 26, "{:?}", environment.packages);
    let source = "
import numpy, pyarrow
def f():
    return pyarrow.array(numpy.arange(3)).to_numpy().sum() == 3
";
    holds(&functions, ask(&environment, source)).await;
}

#[tokio::test]
async fn unavailable_environments_are_errors_with_a_hint() {
    let functions = start().await;
    let check = async |spec: EnvironmentSpec, message: &str, hint: &str| {
        let error = functions.environment(&spec, &|_| ()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(message), "{text}");
        assert!(error.hint().unwrap().contains(hint), "{text}: {:?}", error.hint());
    };
    let none = "headwater-test-no-such-package";
    check(spec(&[(none, "1.0")]), none, "spelling").await;
    check(spec(&[("humanize", "999.0")]), "humanize", "exists").await;
    check(spec(&[("polars", "1; import os")]), "is not a version", "Write a version").await;
    let old = EnvironmentSpec { python: Some("3.99".to_owned()), ..spec(&[]) };
    check(old.clone(), "3.11", "Install that version").await;
    let error = functions.environment(&old, &|_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Environment(EnvironmentError::PythonNotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytecode_that_is_missing_after_a_shutdown_is_compiled_later() {
    let (folder, functions) = alone().await;
    let made = environment(&functions, &[]).await;
    let packages = made.python.ancestors().nth(2).unwrap().join("lib/python3.11/site-packages");
    drop((made, functions));
    let compiled = || packages.join("pyarrow/__pycache__/compute.cpython-311.pyc").exists();
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    let again = environment(&functions, &[]).await;
    assert!(again.warm);
    wait_until("pyarrow is not compiled", compiled);
}

/// Creates a runtime with a separate folder of environments.
async fn alone() -> (tempfile::TempDir, Functions) {
    let folder = tempfile::tempdir().unwrap();
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    (folder, functions)
}

#[tokio::test]
async fn packages_of_removed_environments_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let cache_dir = folder.path().join("cache");
    let options = FunctionsOptions { cache_dir: cache_dir.clone(), ..fresh(&folder) };
    let functions = Functions::start(options).await.unwrap();
    let archives = || {
        let folder = std::fs::read_dir(cache_dir.join("archive-v0")).unwrap();
        folder.flatten().filter(|entry| entry.path().is_dir()).count()
    };
    let kept = environment(&functions, &[]).await;
    drop(environment(&functions, &[("six", "1.17.0")]).await);
    let both = archives();
    let pruned = functions.prune(Duration::ZERO).await.unwrap();
    assert_eq!((pruned.removed.len(), &pruned.busy[..]), (1, &[kept.id.clone()][..]));
    assert_eq!(archives(), both - 1, "what the other has stays");
    drop(kept);
    let foreseen = functions.prunable(Duration::ZERO).await;
    let pruned = functions.prune(Duration::ZERO).await.unwrap();
    assert_eq!((pruned.removed.len(), archives()), (1, 0));
    let (foreseen, freed) = (foreseen.bytes, pruned.bytes);
    assert!(freed > 10 << 20 && foreseen.abs_diff(freed) < freed / 10, "{foreseen} {freed}");

    let again = environment(&functions, &[("six", "1.17.0")]).await;
    holds(&functions, ask(&again, TRUE)).await;
}

const TRUE: &str = "def f():\n    return True\n";

#[tokio::test]
async fn unused_environments_are_listed_explained_and_removed() {
    let (folder, functions) = alone().await;
    assert!(functions.environments().await.is_empty());
    let made = environment(&functions, &[("six", "1.17.0")]).await;
    holds(&functions, ask(&made, TRUE)).await;
    let listed = functions.environments().await.pop().unwrap();
    assert_eq!((&listed.id, listed.busy), (&made.id, true));
    assert_eq!(
        (listed.packages["six"].as_str(), &listed.requirements[..]),
        ("1.17.0", &["six==1.17.0".to_owned()][..])
    );
    assert!(listed.bytes >= listed.bytes_own && listed.bytes > 1 << 20, "{listed:?}");
    let explained = functions.explain(&made.id[..6]).await.unwrap();
    assert!(explained.zygote.unwrap().memory_bytes > 1 << 20 && explained.calls.is_empty());

    // An environment counts as used as long as a handle to it exists.
    let pruned = functions.prune(Duration::ZERO).await.unwrap();
    assert_eq!((pruned.removed.len(), &pruned.busy[..]), (0, &[made.id.clone()][..]));
    let id = made.id.clone();
    drop(made);
    let pruned = functions.prune(Duration::from_secs(3600)).await.unwrap();
    assert!(pruned.removed.is_empty() && pruned.busy.is_empty(), "{pruned:?}");
    let pruned = functions.prune(Duration::ZERO).await.unwrap();
    assert_eq!(pruned.removed.len(), 1);
    assert!(functions.environments().await.is_empty() && functions.zygotes().is_empty());
    assert!(matches!(
        functions.explain(&id).await,
        Err(Error::Environment(EnvironmentError::NotFound { .. }))
    ));
    wait_until("files are left", || {
        let left = std::fs::read_dir(folder.path().join("environments")).unwrap().flatten();
        let names = left.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".building")).count() == 0
    });
    // A removed environment is built again on request.
    let again = environment(&functions, &[("six", "1.17.0")]).await;
    assert_eq!((&again.id, again.warm), (&id, false));
    holds(&functions, ask(&again, TRUE)).await;
}

#[tokio::test]
async fn running_calls_keep_their_packages_during_a_rebuild() {
    let (_folder, functions) = alone().await;
    let made = environment(&functions, &[("six", "")]).await;
    // Change the description so that it lists an older version of the package.
    let description = made.python.parent().unwrap().parent().unwrap();
    let description = description.join("headwater-environment.json");
    let chosen = made.packages["six"].clone();
    let text = std::fs::read_to_string(&description).unwrap();
    let old = text.replace(&format!("\"six\": \"{chosen}\""), "\"six\": \"1.0.0\"");
    std::fs::write(&description, old).unwrap();

    let source = "
import os, sys, time
def f():
    print('begun')
    time.sleep(2)
    import six, decimal, sqlite3
    return os.path.exists(six.__file__)
";
    let (sink, mut lines) = tokio::sync::mpsc::channel(16);
    let running = functions.invoke(ask(&made, source), sink, CancellationToken::new());
    let rebuilding = async {
        lines.recv().await.unwrap();
        let calls = functions.calls();
        assert_eq!((calls.len(), calls[0].waits_for.as_deref()), (1, None));
        let rebuilt = functions.rebuild(&made.id, &|_| ()).await.unwrap();
        holds(&functions, ask(&made, "import six\ndef f():\n    return True\n")).await;
        rebuilt
    };
    let (outcome, rebuilt) = tokio::join!(running, rebuilding);
    assert!(outcome.returned.is_ok(), "{outcome:?}");
    let change = &rebuilt.changed["six"];
    assert_eq!((change.from.as_deref(), change.to.as_ref()), (Some("1.0.0"), Some(&chosen)));
    assert_eq!(rebuilt.environment.id, made.id);
}

#[tokio::test]
async fn a_waiting_call_reports_its_reason() {
    let functions =
        Functions::start(FunctionsOptions { concurrency: 1, ..options() }).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let source = "import time\ndef f():\n    print('begun')\n    time.sleep(1000)\n";
    let ((sink, mut lines), cancelled) = (tokio::sync::mpsc::channel(16), CancellationToken::new());
    let call = || functions.invoke(ask(&environment, source), sink.clone(), cancelled.clone());
    let looking = async {
        lines.recv().await.unwrap();
        let calls = functions.calls();
        let reasons: Vec<_> = calls.iter().map(|call| call.waits_for.clone()).collect();
        assert_eq!(reasons.iter().filter(|reason| reason.is_none()).count(), 1, "{reasons:?}");
        let waiting: Vec<_> = reasons.into_iter().flatten().collect();
        assert!(
            waiting[0].contains("first in the queue") && waiting[1].contains("behind 1"),
            "{waiting:?}"
        );
        cancelled.cancel();
    };
    tokio::join!(call(), call(), call(), looking);
    assert!(functions.calls().is_empty());
}

/// Returns the folders of environments, except folders that will be removed.
fn folders(root: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(root.path().join("environments")).unwrap().flatten();
    let real = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = real.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[tokio::test]
async fn only_holders_of_an_old_environment_keep_its_packages() {
    let (root, functions) = alone().await;
    let old = environment(&functions, &[("six", "")]).await;
    let source = "
import os, six
calls = []
def f():
    calls.append(1)
    import decimal, sqlite3, unittest
    print(len(calls))
    return os.path.exists(six.__file__)
";
    let again =
        |of: &Arc<Environment>| Invocation { reuse: ReuseScope::SameFunction, ..ask(of, source) };
    let calls = async |of: &Arc<Environment>| {
        let (outcome, lines) = run(&functions, again(of)).await;
        assert!(matches!(outcome, Ok(FunctionResult::Bool(true))), "{outcome:?}");
        lines[0].3.clone()
    };
    assert_eq!((calls(&old).await, calls(&old).await), ("1".to_owned(), "2".to_owned()));

    functions.rebuild(&old.id, &|_| ()).await.unwrap();
    let new = environment(&functions, &[("six", "")]).await;
    assert_eq!((&new.id, new.build == old.build), (&old.id, false));
    assert_eq!(folders(&root).len(), 2);
    // Idle instances with the old packages have ended. A call that holds the old environment
    // continues to use it.
    for _ in 0..2 {
        assert_eq!((calls(&new).await, calls(&old).await), ("1".to_owned(), "1".to_owned()));
        functions.rebuild(&old.id, &|_| ()).await.unwrap();
        let newest = environment(&functions, &[("six", "")]).await;
        assert_eq!(calls(&newest).await, "1");
        drop(newest);
    }
    let builds = folders(&root);
    assert!(builds.contains(&old.build) && builds.contains(&new.build), "{builds:?}");
    holds(&functions, ask(&old, source)).await;

    // Another server on this machine does not remove environments that this server uses.
    let other = Functions::start(fresh(&root)).await.unwrap();
    let pruned = other.prune(Duration::ZERO).await.unwrap();
    assert_eq!((pruned.removed.len(), &pruned.busy[..]), (0, &[old.id.clone()][..]));
    drop((old, new));
    functions.prune(Duration::ZERO).await.unwrap();
    let swept = async {
        while !folders(&root).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swept).await.expect("old makings are left");
}

#[tokio::test]
async fn a_system_program_is_checked_and_available_to_the_function() {
    let functions = start().await;
    let with = |program: &str| EnvironmentSpec { system: vec![program.to_owned()], ..spec(&[]) };
    let environment = functions.environment(&with("env"), &|_| ()).await.unwrap();
    let source = "
import shutil, subprocess
def f():
    return bool(shutil.which('env')) and b'PATH' in subprocess.check_output(['env'])
";
    holds(&functions, ask(&environment, source)).await;
    let missing = with("headwater-no-such-program");
    for refused in [
        functions.check_environment(&missing).unwrap_err(),
        functions.environment(&missing, &|_| ()).await.unwrap_err(),
    ] {
        assert!(refused.to_string().contains("`headwater-no-such-program` is not on"), "{refused}");
        assert!(refused.hint().unwrap().contains("Install the program"), "{refused}");
    }
}

/// The runtime does not use a `uv` in a folder that other users can write to, even if the folder is
/// first in the path.
#[tokio::test]
async fn a_program_from_an_untrusted_folder_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let (planted, marker) = (folder.path().join("bin"), folder.path().join("ran"));
    std::fs::create_dir(&planted).unwrap();
    let script = format!("#!/bin/sh\ntouch {}\nexit 1\n", marker.display());
    std::fs::write(planted.join("uv"), script).unwrap();
    set(&planted.join("uv"), 0o755);
    let mut options = options();
    options.environments_dir = folder.path().join("environments");
    options.python_search.insert(0, planted.clone());
    set(&planted, 0o1777);
    let functions = Functions::start(options.clone()).await.unwrap();
    functions.environment(&spec(&[]), &|_| ()).await.unwrap();
    assert!(!marker.exists());
    drop(functions);
    // A program in a folder that only this user can write to is used.
    set(&planted, 0o755);
    options.environments_dir = folder.path().join("others");
    let functions = Functions::start(options).await.unwrap();
    functions.environment(&spec(&[]), &|_| ()).await.unwrap_err();
    assert!(marker.exists());
}

#[tokio::test]
async fn a_store_that_other_users_can_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["environments", "tools", "cache"] {
        let mut options = options();
        let open = folder.path().join(name);
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        match name {
            "environments" => options.environments_dir = open,
            "tools" => options.tools_dir = open,
            _ => options.cache_dir = open,
        }
        let error = Functions::start(options).await.unwrap_err();
        assert!(error.to_string().contains("can be written by other users"), "{error}");
        assert!(error.hint().unwrap().contains("XDG_CACHE_HOME"));
    }
}
