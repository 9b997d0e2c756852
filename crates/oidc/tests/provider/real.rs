//! A real OpenID provider, from npm, and logins at it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// `apt-get` under a lock, because several tests install packages at the same time.
const APT: [&str; 2] = ["/tmp/headwater-apt.lock", "apt-get"];

/// The provider's package.
const PACKAGE: &str = "oidc-provider@9.13.3";

/// A running provider process, which is stopped when this value is dropped. Its client is `lake`.
pub struct RealProvider {
    /// The URL.
    pub issuer: String,
    child: Child,
    folder: PathBuf,
    /// The provider's output. The pipe stays open, because a failed write would end the provider.
    _output: BufReader<ChildStdout>,
}

impl RealProvider {
    /// Installs the provider once, and starts it.
    pub fn start() -> Self {
        let folder = installed();
        let mut command = script(&folder);
        command.arg("serve").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("node");
        let mut issuer = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        output.read_line(&mut issuer).expect("a line");
        RealProvider { issuer: issuer.trim().to_owned(), child, folder, _output: output }
    }

    /// Confirms the login of a device as a person.
    pub fn confirm(&self, address: &str, name: &str) {
        self.run(&["confirm", address, name]);
    }

    /// Logs in as a person at the page of a browser's login. Returns the address to which the
    /// provider sends the browser back.
    pub fn return_address(&self, page: &str, name: &str) -> String {
        self.run(&["return", page, name])
    }

    /// Returns an ID token of a person, `NAME@example.com`.
    pub fn token(&self, name: &str) -> String {
        self.run(&["token", &self.issuer, name])
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = script(&self.folder).args(arguments).output().expect("node");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for RealProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(folder: &Path) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/oidc_provider.mjs");
    let mut command = Command::new("node");
    command.arg(path).arg(folder);
    command
}

/// Returns the folder of the installed package.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PACKAGE);
    std::fs::create_dir_all(&folder).expect("a folder");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    lock.lock().expect("a lock");
    if !Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success()) {
        run(Command::new("flock").args(APT).args(["update", "-qq"]));
        let install = ["install", "-qq", "--no-install-recommends", "nodejs", "npm"];
        run(Command::new("flock").args(APT).args(install));
    }
    if !folder.join("node_modules/oidc-provider/package.json").exists() {
        std::fs::write(folder.join("package.json"), "{\"private\": true}").expect("a file");
        let mut npm = Command::new("npm");
        run(npm.args(["install", "--no-audit", "--no-fund", PACKAGE]).current_dir(&folder));
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.output().expect("a process");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
}
