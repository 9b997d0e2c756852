//! Real PostgreSQL and NATS servers on loopback, from Debian packages that are installed once.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The lock file for `apt-get`, because tests install packages concurrently, and the program.
const APT: [&str; 2] = ["/tmp/headwater-apt.lock", "apt-get"];

/// The user of servers that refuse to run as root.
const UNPRIVILEGED: u32 = 65_534;

/// The password of the user `headwater` in PostgreSQL.
pub const PASSWORD: &str = "p@ss word";

/// A PostgreSQL server with the user `headwater` and the database `shop`.
pub struct PostgresProcess {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl PostgresProcess {
    /// Creates a database cluster and starts its server.
    pub fn start() -> Self {
        let bin = postgres_bin();
        let folder = tempfile::tempdir().expect("a folder");
        let server = PostgresProcess { folder, bin, port: free_port(), child: None };
        let folder = server.folder.path();
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD).expect("a file");
        if is_root(folder) {
            for path in [folder, &password] {
                chown(path, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("an owner");
            }
        }
        let mut initdb = server.command("initdb");
        initdb.args(["--no-sync", "--username=headwater", "--auth=scram-sha-256"]);
        initdb.arg("--encoding=UTF8").arg("--pwfile").arg(&password);
        run(initdb.arg("--pgdata").arg(folder.join("data")));
        let mut server = server;
        server.restart();
        server.sql_in("postgres", "CREATE DATABASE shop");
        server
    }

    /// Starts the stopped server.
    pub fn restart(&mut self) {
        let folder = self.folder.path().to_owned();
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(folder.join("data"));
        postgres.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        postgres.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
        postgres.args(["-c", "fsync=off"]).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(postgres.spawn().expect("postgres"));
        until("PostgreSQL accepts connections", || {
            let mut ready = self.command("pg_isready");
            ready.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).stdout(Stdio::null());
            ready.status().is_ok_and(|status| status.success())
        });
    }

    /// Stops the server at once, as a crash does.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        run(Command::new("kill").args(["-QUIT", &child.id().to_string()]));
        child.wait().expect("the end of postgres");
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the database, without the password.
    pub fn url(&self) -> String {
        format!("postgres://headwater@127.0.0.1:{}/shop", self.port)
    }

    /// Runs SQL in the database, and returns the output.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("shop", sql)
    }

    fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut psql = self.command("psql");
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "headwater"]);
        psql.args(["-v", "ON_ERROR_STOP=1", "-qAt", "-d", database, "-c", sql]);
        let output = psql.env("PGPASSWORD", PASSWORD).output().expect("psql");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {errors}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if self.folder.path().metadata().is_ok_and(|folder| folder.uid() == UNPRIVILEGED) {
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        command
    }
}

impl Drop for PostgresProcess {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
    }
}

/// A NATS server with JetStream.
pub struct NatsProcess {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl NatsProcess {
    /// Starts a server with additional arguments.
    pub fn start(arguments: &[&str]) -> Self {
        install("nats-server", Path::new("/usr/sbin/nats-server"));
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = NatsProcess { folder, port: free_port(), arguments, child: None };
        server.restart();
        server
    }

    /// Starts the stopped server.
    pub fn restart(&mut self) {
        let mut nats = Command::new("/usr/sbin/nats-server");
        nats.args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]);
        nats.arg(self.folder.path()).args(&self.arguments);
        nats.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        self.child = Some(nats.spawn().expect("nats-server"));
        let address = format!("127.0.0.1:{}", self.port);
        until("NATS accepts connections", || std::net::TcpStream::connect(&address).is_ok());
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("a signal");
        child.wait().expect("the end of nats-server");
    }

    /// The URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

impl Drop for NatsProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the folder with the programs of PostgreSQL.
fn postgres_bin() -> PathBuf {
    let find = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let bins = versions.flatten().map(|version| version.path().join("bin"));
        bins.filter(|bin| bin.join("initdb").exists() && bin.join("psql").exists()).max()
    };
    find().unwrap_or_else(|| {
        install("postgresql", Path::new("/nonexistent"));
        find().expect("the programs of PostgreSQL")
    })
}

/// Installs a Debian package, unless its program exists.
fn install(package: &str, program: &Path) {
    if !program.exists() {
        run(Command::new("flock").args(APT).args(["update", "-qq"]));
        let mut install = Command::new("flock");
        install.args(APT).args(["install", "-qq", "--no-install-recommends", package]);
        run(install.env("DEBIAN_FRONTEND", "noninteractive"));
    }
}

fn is_root(folder: &Path) -> bool {
    folder.metadata().expect("a folder").uid() == 0
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
