//! The runtime client of AWS for Node, `aws-lambda-ric`, in functions that are deployed without a
//! project. `function_runtime.rs` tests the client for Python, and the tests of the server test the
//! client for Rust.

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::Workspace;

const CLIENT: &str = "aws-lambda-ric@3.3.0";

/// The programs that build the client, each with its Debian package.
const TOOLS: [(&str, &str); 6] = [
    ("g++", "g++"),
    ("make", "make"),
    ("cmake", "cmake"),
    ("autoreconf", "autoconf"),
    ("aclocal", "automake"),
    ("libtoolize", "libtool"),
];

const HANDLER: &str = "\
let calls = 0;
exports.handler = async (event, context) => {
  calls += 1;
  console.log(`handling ${JSON.stringify(event)}`);
  if (event === 'fail') throw new TypeError('not today');
  return {
    event,
    calls,
    id: context.awsRequestId,
    arn: context.invokedFunctionArn,
    left: context.getRemainingTimeInMillis(),
    memory: context.memoryLimitInMB,
  };
};
exports.callback = (event, context, callback) => callback(null, { called: event });
exports.stream = awslambda.streamifyResponse(async (event, stream) => {
  stream.write('some ');
  stream.write('text');
  stream.end();
});
";

/// Installs the client from npm, once. Returns the folder `node_modules`.
fn client() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aws-lambda-ric-3.3.0");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !folder.join("ready").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder");
        install_tools();
        // Use the C headers of the installed Node; without this setting, npm downloads them.
        let node = which("node").expect("Node");
        let prefix = node.canonicalize().expect("Node");
        let prefix = prefix.ancestors().nth(2).expect("a prefix").to_owned();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--foreground-scripts", CLIENT]);
        run(npm.current_dir(&folder).env("npm_config_nodedir", prefix));
        // Delete the sources of libcurl, which only the build needs.
        let built = folder.join("node_modules/aws-lambda-ric");
        std::fs::remove_dir_all(built.join("deps")).expect("the sources");
        std::fs::write(folder.join("ready"), "").expect("a file");
    }
    folder.join("node_modules")
}

fn install_tools() {
    let missing = TOOLS.iter().filter(|(program, _)| which(program).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return;
    }
    let apt = ["/tmp/headwater-apt.lock", "apt-get"];
    run(Command::new("flock").args(apt).args(["update", "-qq"]));
    let install = ["install", "-qq", "--no-install-recommends"];
    run(Command::new("flock").args(apt).args(install).args(packages));
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn run(command: &mut Command) {
    let answer = support::answer(command.output().expect("a process"));
    assert_eq!(answer.code, 0, "{command:?}:\n{}\n{}", answer.stdout, answer.stderr);
}

/// Copies the files that the client needs at run time.
fn copy_client(to: &Path) {
    let from = client().join("aws-lambda-ric");
    for part in ["package.json", "bin", "dist"] {
        let to = to.join("node_modules/aws-lambda-ric");
        std::fs::create_dir_all(&to).expect("a folder");
        run(Command::new("cp").arg("-r").arg(from.join(part)).arg(&to));
    }
}

fn deploy(workspace: &Workspace, name: &str, handler: &str) {
    let bootstrap =
        format!("#!/bin/sh\nexec node node_modules/aws-lambda-ric/bin/index.mjs {handler}\n");
    workspace.write("web/bootstrap", bootstrap);
    let deploy = ["function", "deploy", name, "web", "--runtime", "provided.al2023"];
    workspace.ok(&[&deploy[..], &["--system", "node", "--memory", "512MiB"]].concat());
}

fn invoke(workspace: &Workspace, name: &str, event: &Value) -> Value {
    workspace.json(&["function", "invoke", name, "--arg", &format!("event={event}")])
}

#[test]
fn the_client_for_node_runs_unmodified() {
    let workspace = Workspace::new();
    workspace.write("web/app.js", HANDLER);
    copy_client(&workspace.path().join("web"));
    deploy(&workspace, "web", "app.handler");
    for calls in [1, 2, 3] {
        let event = json!({"n": calls});
        let found = invoke(&workspace, "web", &event);
        assert_eq!((&found["event"], &found["calls"]), (&event, &json!(calls)));
        assert_eq!(found["arn"], "arn:aws:lambda:us-east-1:000000000000:function:web");
        assert_eq!(found["memory"], "512");
        let left = found["left"].as_i64().expect("milliseconds");
        assert!(left > 0, "{left}");
        let newest = &workspace.json(&["job", "ls", "--kind", "function"])[0]["id"];
        assert_eq!(&found["id"], newest, "the request id is the job's");
    }
    let told = workspace.run(&["function", "invoke", "web", "--arg", "event=fail"]);
    assert!(told.code != 0 && told.stderr.contains("TypeError: not today"), "{}", told.stderr);
    assert!(told.stderr.contains("handling \"fail\""), "{}", told.stderr);
    // The runtime survives the error.
    assert_eq!(invoke(&workspace, "web", &json!(1))["calls"], 5);

    deploy(&workspace, "callback", "app.callback");
    assert_eq!(invoke(&workspace, "callback", &json!(7)), json!({"called": 7}));
    deploy(&workspace, "stream", "app.stream");
    assert_eq!(invoke(&workspace, "stream", &json!(1)), "some text");
    deploy(&workspace, "missing", "app.none");
    let told = workspace.run(&["function", "invoke", "missing", "--arg", "event=1"]);
    assert!(told.code != 0 && told.stderr.contains("HandlerNotFound"), "{}", told.stderr);
}
