//! Secrets: set from standard input or a file, passed to functions, and never shown.

mod support;

use std::io::Write;
use std::process::Stdio;

use support::Workspace;

const VALUE: &str = "sk_live_4eC39HqLyjWDarjtT1";

const FUNCTION: &str = "\
import os
import headwater


@headwater.function(secrets=[\"STRIPE_KEY\"], reuse=True)
@headwater.python(\"3.11\", pip={})
def key():
    print(\"using\", os.environ[\"STRIPE_KEY\"])
    return {\"length\": len(os.environ[\"STRIPE_KEY\"]), \"key\": os.environ[\"STRIPE_KEY\"]}
";

fn set(workspace: &Workspace, value: &str) -> support::Answer {
    let mut command = workspace.command(&["secret", "set", "STRIPE_KEY"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(value.as_bytes()).expect("a reader");
    drop(input);
    support::answer(child.wait_with_output().expect("it ends"))
}

#[test]
fn a_secret_reaches_its_function_and_no_file_output_or_record() {
    let workspace = Workspace::new();
    workspace.write("functions/key.py", FUNCTION);
    let missing = workspace.fails(3, &["deploy"]);
    assert!(missing.contains("secret `STRIPE_KEY` does not exist"), "{missing}");
    assert!(missing.contains("headwater secret set STRIPE_KEY"), "{missing}");

    let told = set(&workspace, &format!("{VALUE}\n"));
    assert!(told.code == 0 && told.stderr.contains("version 1"), "{}", told.stderr);
    workspace.ok(&["deploy"]);
    let told = workspace.run(&["function", "invoke", "key"]);
    assert!(told.code == 0 && told.stderr.contains("using ***"), "{}{}", told.stdout, told.stderr);
    assert!(told.stdout.contains(&VALUE.len().to_string()), "{}", told.stdout);
    assert!(!told.stdout.contains("4eC39") && !told.stderr.contains("4eC39"));

    // After the change, a warm process with the old value is not used again.
    assert_eq!(set(&workspace, "short").code, 0);
    let told = workspace.run(&["function", "invoke", "key"]);
    assert!(told.stdout.contains('5') && !told.stdout.contains("26"), "{}", told.stdout);

    let listed = workspace.ok(&["secret", "ls"]);
    assert!(listed.contains("STRIPE_KEY") && !listed.contains("4eC39"), "{listed}");
    let told = workspace.run(&["secret", "rm", "STRIPE_KEY"]);
    let warning = "warning: calls of `key` fail until the secret is set again";
    assert!(told.code == 0 && told.stderr.contains(warning), "{}", told.stderr);
    workspace.kill_server();
    for entry in walkdir::WalkDir::new(workspace.path()).into_iter().flatten() {
        let text = std::fs::read(entry.path()).unwrap_or_default();
        let shown = text.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
        assert!(!shown, "{}", entry.path().display());
    }
}

#[test]
fn a_value_is_read_from_a_file_and_never_from_an_argument() {
    let workspace = Workspace::new();
    let path = workspace.write("key.pem", "-----BEGIN-----\nabcdef\n");
    let path = path.to_str().expect("a path");
    workspace.ok(&["secret", "set", "TLS_KEY", "--file", path]);
    workspace.fails(2, &["secret", "set", "TLS_KEY", "value"]);
    let told = workspace.fails(2, &["secret", "set", "NOT-A-NAME", "--file", path]);
    assert!(told.contains("`NOT-A-NAME` is not a valid secret name"), "{told}");
    workspace.ok(&["secret", "rm", "TLS_KEY"]);
    workspace.fails(3, &["secret", "rm", "TLS_KEY"]);
    let told = workspace.run(&["secret", "rm", "TLS_KEY", "--if-exists"]);
    assert_eq!(
        (told.code, told.stderr.as_str()),
        (0, "secret TLS_KEY does not exist; nothing was removed\n")
    );
}
