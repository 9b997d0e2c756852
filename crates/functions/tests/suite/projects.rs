//! The files of a project in a sandbox: each call sees only the files of its own version, and
//! cannot change them.

use std::sync::Arc;

use headwater_functions::{
    Environment, Functions, FunctionsOptions, Invocation, ReuseScope, ZygoteOptions,
};

use crate::support::{ask, environment, holds, options, start};

/// Returns a call of `f` in a project with another file.
fn with_file(environment: &Arc<Environment>, source: &str, path: &str, text: &str) -> Invocation {
    let mut invocation = ask(environment, source);
    Arc::make_mut(&mut invocation.files).insert(path.to_owned(), text.into());
    invocation
}

/// Returns the source of a function that checks the files of its project.
fn sees(files: &[&str]) -> String {
    format!(
        "
import os
def f():
    walked = os.walk('/project')
    found = [os.path.join(folder, name) for folder, _, names in walked for name in names]
    mounts = [line.split() for line in open('/proc/self/mountinfo')]
    inside = [fields[5] for fields in mounts if fields[4].startswith('/project')]
    print(found, inside)
    return sorted(found) == {files:?} and all('ro' in options.split(',') for options in inside)
"
    )
}

#[tokio::test]
async fn files_of_another_version_are_not_visible() {
    for enabled in [true, false] {
        let zygotes = ZygoteOptions { enabled, ..ZygoteOptions::default() };
        let functions = Functions::start(FunctionsOptions { zygotes, ..options() }).await.unwrap();
        let environment = environment(&functions, &[]).await;
        let first = sees(&["/project/first/secret.txt", "/project/models/m.py"]);
        let second = sees(&["/project/models/m.py", "/project/second/other.txt"]);
        for _ in 0..2 {
            let call = with_file(&environment, &first, "first/secret.txt", "secret");
            holds(&functions, call).await;
            let call = with_file(&environment, &second, "second/other.txt", "other");
            holds(&functions, call).await;
        }
    }
}

#[tokio::test]
async fn files_of_layers_are_visible_at_opt_only_in_their_own_project() {
    for enabled in [true, false] {
        let zygotes = ZygoteOptions { enabled, ..ZygoteOptions::default() };
        let functions = Functions::start(FunctionsOptions { zygotes, ..options() }).await.unwrap();
        let environment = environment(&functions, &[]).await;
        let reads = "def f():\n    return open('/opt/share/value.txt').read() == 'layer'\n";
        let call = with_file(&environment, reads, "code/opt/share/value.txt", "layer");
        holds(&functions, call).await;
        let missing = "import os\ndef f():\n    return not os.path.exists('/opt/share')\n";
        holds(&functions, ask(&environment, missing)).await;
    }
}

const CHANGES: &str = "
import os
def f():
    content = open('/project/data/value.txt').read()
    def fails(what):
        try:
            what()
        except OSError:
            return True
        return False
    file = '/project/data/value.txt'
    attempts = [
        lambda: open(file, 'w'), lambda: open(file, 'a'), lambda: open(file, 'r+'),
        lambda: os.unlink(file), lambda: os.chmod(file, 0o777), lambda: os.rename(file, file + '2'),
        lambda: os.truncate(file, 0), lambda: os.utime(file), lambda: os.mkdir('/project/new'),
        lambda: os.symlink('/tmp', '/project/link'), lambda: os.chmod('/project', 0o777),
    ]
    failed = [fails(attempt) for attempt in attempts]
    print(content, failed)
    return content == 'original' and all(failed)
";

#[tokio::test]
async fn a_function_that_changes_its_files_affects_no_later_call() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    for reuse in
        [ReuseScope::Never, ReuseScope::Never, ReuseScope::SameFunction, ReuseScope::SameFunction]
    {
        let call = with_file(&environment, CHANGES, "data/value.txt", "original");
        holds(&functions, Invocation { reuse, ..call }).await;
    }
}

#[tokio::test]
async fn programs_of_a_project_are_executable() {
    let functions = start().await;
    let environment = environment(&functions, &[]).await;
    let source = "
import subprocess
def f():
    return subprocess.run(['/project/bin/hello'], capture_output=True).stdout == b'hello\\n'
";
    let program = "#!/bin/sh\necho hello\n";
    holds(&functions, with_file(&environment, source, "bin/hello", program)).await;
}
