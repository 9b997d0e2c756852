//! Large functions: the memory of the server does not depend on the size of their files.

mod support;

use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};
use support::{Workspace, count};

const HANDLER: &str = "\
import os
import subprocess
import zlib


def handler(event, context):
    folder = os.path.dirname(__file__)
    checksum = 0
    with open(os.path.join(folder, 'weights.bin'), 'rb') as file:
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    tool = subprocess.run([os.path.join(folder, 'bin', 'tool')], capture_output=True, text=True)
    return {'crc': checksum, 'bytes': file_bytes(folder), 'tool': tool.stdout}


def file_bytes(folder):
    return os.path.getsize(os.path.join(folder, 'weights.bin'))
";

/// Writes a file of pseudo-random bytes, which cannot be compressed, in parts of 1 MiB.
fn write_weights(workspace: &Workspace, mebibytes: usize) {
    let path = workspace.write("model/weights.bin", "");
    let mut file = std::fs::File::create(path).expect("a file");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut part = Vec::with_capacity(1 << 20);
    for _ in 0..1 << 17 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        part.extend_from_slice(&state.to_le_bytes());
    }
    for number in 0..mebibytes {
        part[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&part).expect("written");
    }
}

/// Runs a Python program in the workspace and returns its output.
fn python(workspace: &Workspace, program: &str) -> String {
    let mut python = Command::new("python3");
    let output = python.args(["-c", program]).current_dir(workspace.path()).output();
    let output = output.expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Returns the peak memory of the server in bytes.
fn peak(workspace: &Workspace) -> u64 {
    let pid = workspace.server().expect("a server")["pid"].clone();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

fn deploy(workspace: &Workspace, name: &str, source: &str) -> Value {
    let arguments = ["function", "deploy", name, source, "--runtime", "python3.11"];
    workspace.json(&[&arguments[..], &["--handler", "app.handler"]].concat())
}

fn invoke(workspace: &Workspace, name: &str) -> Value {
    workspace.json(&["function", "invoke", name, "--arg", "event=1"])
}

#[test]
fn soak_a_large_function_needs_little_memory() {
    // 1,000 MiB is close to the limit of 1 GiB.
    let mebibytes = count(80, 1_000);
    let workspace = Workspace::new();
    workspace.write("small/app.py", "def handler(event, context):\n    return event\n");
    deploy(&workspace, "small", "small");
    assert_eq!(invoke(&workspace, "small"), json!(1));
    workspace.write("model/app.py", HANDLER);
    let tool = workspace.write("model/bin/tool", "#!/bin/sh\nprintf ready\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(tool, executable).expect("a mode");
    write_weights(&workspace, mebibytes);
    let program = "import zlib\nchecksum = 0\nwith open('model/weights.bin', 'rb') as file:\n    \
                   while part := file.read(1 << 20):\n        \
                   checksum = zlib.crc32(part, checksum)\nprint(checksum)";
    let checksum: u64 = python(&workspace, program).trim().parse().expect("a number");
    let expected = json!({"crc": checksum, "bytes": mebibytes << 20, "tool": "ready"});

    let before = peak(&workspace);
    let deployed = deploy(&workspace, "folder", "model");
    assert_eq!(deployed["files"], json!(["app.py", "bin/tool", "weights.bin"]));
    assert_eq!(invoke(&workspace, "folder"), expected);
    let program = "import zipfile\nwith zipfile.ZipFile('model.zip', 'w') as archive:\n    \
                   for name in ['app.py', 'bin/tool', 'weights.bin']:\n        \
                   archive.write(f'model/{name}', name)";
    python(&workspace, program);
    deploy(&workspace, "archive", "model.zip");
    assert_eq!(invoke(&workspace, "archive"), expected);
    let growth = peak(&workspace).saturating_sub(before);
    assert!(growth < 48 << 20, "the server needed {} MiB more", growth >> 20);

    // The upload is deleted, and a new server reads the stored package.
    let uploads = std::fs::read_dir(workspace.path().join(".headwater/uploads"));
    assert_eq!(uploads.map_or(0, Iterator::count), 0);
    workspace.kill_server();
    assert_eq!(invoke(&workspace, "folder"), expected);
    workspace.ok(&["function", "rm", "folder"]);
    workspace.fails(3, &["function", "invoke", "folder"]);
    assert_eq!(invoke(&workspace, "archive"), expected);
}

#[test]
fn a_large_folder_with_a_link_is_rejected() {
    let workspace = Workspace::new();
    workspace.write("model/app.py", HANDLER);
    write_weights(&workspace, 33);
    std::os::unix::fs::symlink("/etc/passwd", workspace.path().join("model/link")).expect("a link");
    let arguments = ["function", "deploy", "f", "model", "--runtime", "python3.11"];
    let error = workspace.fails(2, &[&arguments[..], &["--handler", "app.handler"]].concat());
    assert!(error.contains("is a link or a special file"), "{error}");
    std::fs::remove_file(workspace.path().join("model/link")).expect("removed");
    let error = workspace.fails(2, &[&arguments[..], &["--handler", "main.handler"]].concat());
    assert!(error.contains("`main.py`, which does not exist"), "{error}");
    assert!(error.contains("`app.py`"), "{error}");
}

#[test]
fn the_handler_of_a_large_function_is_checked() {
    let workspace = Workspace::new();
    workspace.write("model/app.py", HANDLER);
    workspace.write("model/broken.py", "def handler(:\n");
    write_weights(&workspace, 33);
    let arguments = ["function", "deploy", "f", "model", "--runtime", "python3.11"];
    for (handler, expected) in [
        ("app.nope", "the file `app.py` does not define `nope` at its top level"),
        ("broken.handler", "line 1 of the file `broken.py` of the handler"),
    ] {
        let error = workspace.fails(2, &[&arguments[..], &["--handler", handler]].concat());
        assert!(error.contains(expected), "{error}");
    }
    let uploads = std::fs::read_dir(workspace.path().join(".headwater/uploads"));
    assert_eq!(uploads.map_or(0, Iterator::count), 0, "failed deployments keep no upload");
    deploy(&workspace, "f", "model");
}
