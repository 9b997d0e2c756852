//! Attacks on private files. A user may read the folder of a project. It tries to read the files of
//! the lake and of the warehouse, and files with credentials.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use headwater_model::{AuditEvent, AuditOutcome};
use serde_json::{Value, json};

use crate::access::Users;
use crate::s3::S3;
use crate::support::{self, PATIENCE, TestServer};

/// The content of files with credentials.
const CREDENTIAL: &str = "hwp_private";

/// Parts of other private files: a database of SQLite, and the environment variables of the server,
/// which runs in the process of the test.
const OTHER_SECRETS: [&str; 2] = ["SQLite format", "CARGO_MANIFEST_DIR"];

/// Grants with which an import can succeed.
const GRANTS: [&str; 2] = ["select,insert on table:shop.items", "read,write on branch:*"];

/// The reason why a source is refused.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// The files are private.
    Private,
    /// The user has no grant on the location.
    NoGrant,
}

impl Refusal {
    /// Returns a part of the message.
    fn message(self) -> &'static str {
        match self {
            Refusal::Private => "cannot be read: it belongs to a lake, or may contain credentials",
            Refusal::NoGrant => "may not read location",
        }
    }
}

/// A user that attacks a server.
struct Attacker<'a> {
    users: &'a Users,
    token: &'a str,
    /// Parts of private files, which no response may contain.
    secrets: Vec<String>,
}

/// A server whose key and profiles are in the project's folder. `ana` may read this folder, and
/// `eve` every location.
struct Project {
    users: Users,
    ana: String,
    eve: String,
    folder: PathBuf,
    key: PathBuf,
    profiles: PathBuf,
}

impl Project {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("a path");
        let mut config = support::config(&root);
        let key = root.join("keys/secret.key");
        config.service.secret_key = headwater_server::KeySource::File(key.clone());
        config.service.credentials = vec![root.join("config/headwater")];
        let server = TestServer { running: support::start(config).await, folder };
        let users = Users::on(server).await;
        let ana = users.user("ana", &GRANTS).await;
        users.grant("ana", &[&format!("read on location:{}", root.display())]).await;
        let eve = users.user("eve", &GRANTS).await;
        users.grant("eve", &["read on location:*"]).await;
        let profiles = root.join("config/headwater/profiles.json");
        for path in [&key, &profiles] {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        }
        std::fs::write(&key, CREDENTIAL).expect("a key");
        std::fs::write(&profiles, format!("{{\"token\": \"{CREDENTIAL}\"}}")).expect("a file");
        std::fs::create_dir(root.join("in")).expect("a folder");
        std::fs::write(root.join("in/neighbour.csv"), "id\n2\n").expect("a file");
        Project { users, ana, eve, folder: root, key, profiles }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Creates a symbolic link in the folder `in`.
    fn link(&self, to: &Path, name: &str) -> String {
        let link = self.folder.join("in").join(name);
        symlink(to, &link).expect("a link");
        link.display().to_string()
    }

    fn token_file(&self) -> PathBuf {
        self.users.server.running.token_file().expect("a file").to_owned()
    }

    /// Returns the user with this token as an attacker.
    fn attacker<'a>(&'a self, token: &'a str) -> Attacker<'a> {
        let content = std::fs::read_to_string(self.token_file()).expect("a token");
        let attacker = Attacker::new(&self.users, token);
        let own = [content.trim().to_owned(), CREDENTIAL.to_owned()];
        Attacker { secrets: attacker.secrets.into_iter().chain(own).collect(), ..attacker }
    }

    /// Checks that `ana` cannot read a source because it is private.
    async fn assert_private(&self, source: &str) {
        self.attacker(&self.ana).assert_refused(source, Refusal::Private).await;
    }

    /// Checks that a file in the same folder as the links to private files is imported.
    async fn assert_neighbour_is_imported(&self, source: &str) {
        let body = json!({"table": "shop.items", "sources": [source]});
        let job = import(&self.users, &self.ana, body).await;
        assert_eq!(job["status"], "succeeded", "{source}: {job}");
        let ids = self.users.owner_sql("SELECT id FROM shop.items ORDER BY id").await;
        assert_eq!(ids, json!([{"id": 1}, {"id": 2}]), "{source}");
    }
}

/// Imports as a user. Returns the job, or the error of the request.
async fn import(users: &Users, token: &str, body: Value) -> Value {
    let (status, started) = users.post(token, "/v1/imports", body).await;
    if status >= 400 {
        return started;
    }
    let path = format!("/v1/jobs/{}", started["id"].as_str().expect("an id"));
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (_, job) = users.get(token, &path).await;
        if !matches!(job["status"].as_str(), Some("queued" | "running")) {
            return job;
        }
        assert!(std::time::Instant::now() < deadline, "the job does not end: {job}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

impl<'a> Attacker<'a> {
    fn new(users: &'a Users, token: &'a str) -> Self {
        Attacker { users, token, secrets: OTHER_SECRETS.map(str::to_owned).to_vec() }
    }

    /// Checks that a source is refused by imports, plans of imports and queries, and that no
    /// response contains a part of the file.
    async fn assert_refused(&self, source: &str, refusal: Refusal) {
        let Attacker { users, token, .. } = self;
        for format in [json!(null), json!("csv"), json!("ndjson"), json!("parquet")] {
            let body = json!({"table": "shop.items", "sources": [source], "format": format});
            let mut plan = body.clone();
            plan["dry_run"] = json!(true);
            let (status, answer) = users.post(token, "/v1/imports", plan).await;
            assert_eq!(status, 403, "plan of {source}: {answer}");
            self.assert_forbidden(source, refusal, &answer);
            let job = import(users, token, body).await;
            let error = if job["error"].is_object() { &job["error"] } else { &job };
            self.assert_forbidden(source, refusal, error);
            self.assert_no_secret(source, &job);
        }
        for function in ["read_csv", "read_json", "read_parquet"] {
            for sql in [
                format!("SELECT * FROM {function}('{source}')"),
                format!("SELECT count(*) FROM {function}('{source}')"),
                format!("DESCRIBE SELECT * FROM {function}('{source}')"),
                format!("EXPLAIN SELECT * FROM {function}('{source}')"),
            ] {
                let (status, answer) = users.sql(token, &sql).await;
                assert_eq!(status, 403, "{sql}: {answer}");
                self.assert_forbidden(source, refusal, &answer);
            }
        }
        let rows = users.owner_sql("SELECT count(*) AS n FROM shop.items").await;
        assert_eq!(rows, json!([{"n": 1}]), "{source}");
    }

    /// Checks that an error states why a file is not read, and reveals nothing else about the file.
    fn assert_forbidden(&self, source: &str, refusal: Refusal, error: &Value) {
        assert_eq!(error["code"], "forbidden", "{source}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(refusal.message()), "{source}, not {refusal:?}: {error}");
        self.assert_no_secret(source, error);
    }

    fn assert_no_secret(&self, source: &str, answer: &Value) {
        let text = answer.to_string();
        let shown = self.secrets.iter().find(|secret| text.contains(secret.as_str()));
        assert_eq!(shown, None, "{source}: {answer}");
    }
}

pub async fn of_the_lake() {
    let project = Project::start().await;
    let token = project.token_file();
    let linked = project.folder.join("in/hard.csv");
    std::fs::hard_link(&token, &linked).expect("a link");
    let hard = linked.display().to_string();
    let folder = project.folder.display();
    for source in [
        token.display().to_string(),
        project.path(".headwater"),
        project.path(".headwater/*"),
        project.path(".headwater/absent"),
        project.path(".headwater/lake.db"),
        project.link(&token, "token.csv"),
        project.link(&token, "token"),
        format!("{}/server.token", project.link(&project.folder.join(".headwater"), "lake")),
        hard.clone(),
        format!("{folder}/in/hard*"),
        format!("{folder}/in/*.csv"),
        format!("{folder}/**/*.csv"),
        format!("{folder}/in/{{token,other}}.csv"),
        format!("{folder}/./.headwater/server.token"),
        format!("{folder}//.headwater//server.token"),
    ] {
        project.assert_private(&source).await;
    }
    // A grant on the folder does not cover these names. A grant on every location does.
    let (ana, eve) = (project.attacker(&project.ana), project.attacker(&project.eve));
    for source in [
        format!("{folder}/in/../.headwater/server.token"),
        format!("/proc/self/root{}", token.display()),
    ] {
        ana.assert_refused(&source, Refusal::NoGrant).await;
        eve.assert_refused(&source, Refusal::Private).await;
    }
    let url = format!("file://{}", token.display());
    ana.assert_refused(&url, Refusal::NoGrant).await;
    let sql = format!("SELECT * FROM read_csv('{url}')");
    let (_, answer) = project.users.sql(&project.eve, &sql).await;
    assert_eq!(answer["code"], "invalid_argument", "{answer}");
    eve.assert_no_secret(&url, &answer);
    // An import of the folder leaves out the links.
    let body = json!({"table": "shop.items", "sources": [project.path("in")]});
    let job = import(&project.users, &project.ana, body).await;
    ana.assert_no_secret("the folder", &job);
    assert_eq!(job["result"]["rows"], 1, "{job}");
    project.assert_neighbour_is_imported(&project.path("in/neighbour.csv")).await;
}

pub async fn of_credentials() {
    let project = Project::start().await;
    for (number, file) in [&project.key, &project.profiles].into_iter().enumerate() {
        let folder = file.parent().expect("a folder");
        let hard = project.folder.join(format!("in/hard{number}.json"));
        std::fs::hard_link(file, &hard).expect("a link");
        for source in [
            file.display().to_string(),
            project.link(file, &format!("{number}.json")),
            hard.display().to_string(),
            format!("{}/*", folder.display()),
            format!("{}/in/*{number}.json", project.folder.display()),
        ] {
            project.assert_private(&source).await;
        }
    }
    project.users.grant("ana", &["read on location:/proc"]).await;
    for source in [
        "/proc/self/environ".to_owned(),
        project.path("config/headwater"),
        project.path("config/headwater/absent.json"),
        project.link(Path::new("/proc/self/environ"), "environ.csv"),
    ] {
        project.assert_private(&source).await;
    }
    project.assert_neighbour_is_imported(&project.path("in/neighbour*")).await;
}

/// Returns the paths of the Parquet files below a folder.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|it| it == "parquet") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no file in {}", folder.display());
    found
}

pub async fn of_the_warehouse() {
    let project = Project::start().await;
    let warehouse = project.folder.join(".headwater/warehouse");
    let file = data_files(&warehouse.join("sales")).remove(0);
    let hard = project.folder.join("in/hard.parquet");
    std::fs::hard_link(&file, &hard).expect("a link");
    for source in [
        file.display().to_string(),
        warehouse.display().to_string(),
        format!("{}/**/*.parquet", warehouse.display()),
        project.link(&file, "link.parquet"),
        hard.display().to_string(),
        format!("{}/in/*.parquet", project.folder.display()),
    ] {
        project.assert_private(&source).await;
    }
    project.assert_neighbour_is_imported(&project.path("in/*.csv")).await;
}

pub async fn of_a_linked_warehouse() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().canonicalize().expect("a path");
    std::fs::create_dir(root.join("tables")).expect("a folder");
    std::fs::create_dir(root.join(".headwater")).expect("a folder");
    symlink(root.join("tables"), root.join(".headwater/warehouse")).expect("a link");
    let running = support::start(support::config(&root)).await;
    let users = Users::on(TestServer { running, folder }).await;
    let ana = users.user("ana", &GRANTS).await;
    users.grant("ana", &[&format!("read on location:{}", root.display())]).await;
    let attacker = Attacker::new(&users, &ana);
    let file = data_files(&root.join("tables/sales")).remove(0);
    let hard = root.join("hard.parquet");
    std::fs::hard_link(&file, &hard).expect("a link");
    for source in [
        file.display().to_string(),
        hard.display().to_string(),
        root.join("tables").display().to_string(),
        format!("{}/tables/**/*.parquet", root.display()),
        root.join(".headwater/warehouse").display().to_string(),
    ] {
        attacker.assert_refused(&source, Refusal::Private).await;
    }
}

pub async fn of_a_warehouse_in_a_bucket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bucket = folder.path().join("s3/lakes");
    std::fs::create_dir_all(&bucket).expect("a bucket");
    let mut config = support::config(folder.path());
    let s3 = S3::start(&folder.path().join("s3"));
    config.service.warehouse.url = Some("s3://lakes/a".to_owned());
    config.service.warehouse.cloud = headwater_server::CloudSettings::new(s3.variables());
    let users = Users::on(TestServer { running: support::start(config).await, folder }).await;
    let ana = users.user("ana", &GRANTS).await;
    users.grant("ana", &["read on location:s3://lakes", "read on location:s3a://lakes"]).await;
    let attacker = Attacker::new(&users, &ana);
    let file = data_files(&bucket.join("a/sales")).remove(0);
    let key = file.strip_prefix(&bucket).expect("a key").display().to_string();
    for source in [
        format!("s3://lakes/{key}"),
        format!("s3a://lakes/{key}"),
        format!("s3://lakes//{key}"),
        "s3://lakes/a/**/*.parquet".to_owned(),
        "s3://lakes/*/**/*.parquet".to_owned(),
        "s3://lakes/a/sales/".to_owned(),
        "s3://lakes/a/absent.parquet".to_owned(),
    ] {
        attacker.assert_refused(&source, Refusal::Private).await;
    }
    std::fs::create_dir(bucket.join("in")).expect("a folder");
    std::fs::write(bucket.join("in/neighbour.csv"), "id\n2\n").expect("an object");
    let sources = ["s3://lakes/in/neighbour.csv"];
    let job = import(&users, &ana, json!({"table": "shop.items", "sources": sources})).await;
    assert_eq!(job["status"], "succeeded", "{job}");
}

pub async fn audited() {
    let project = Project::start().await;
    let token = project.token_file().display().to_string();
    project.assert_private(&token).await;
    let events = project.users.access.audit().list(1000).await.expect("events");
    let object = format!("location:{token}");
    let denied: Vec<_> = events
        .iter()
        .filter(|it| it.principal == "ana" && it.action == "read" && it.object == object)
        .filter(|it| it.outcome == AuditOutcome::Denied)
        .collect();
    assert!(denied.iter().any(|event| event.job.is_some()), "{denied:?}");
    assert!(denied.iter().any(|event| event.job.is_none()), "{denied:?}");
    assert!(denied.iter().all(|event| event.reason.contains("belongs to a lake")), "{denied:?}");

    let file = project.folder.join(".headwater/out.csv").display().to_string();
    let sql = format!("COPY (SELECT 1 AS n) TO '{file}'");
    let answer = project.users.server.post("/v1/query", json!({"sql": sql})).await;
    assert_eq!(answer["code"], "invalid_argument", "{answer}");
    let events = project.users.access.audit().list(1000).await.expect("events");
    let object = format!("location:{file}");
    let is_denied = |event: &AuditEvent| {
        event.action == "write" && event.object == object && event.outcome == AuditOutcome::Denied
    };
    assert!(events.iter().any(|event| is_denied(event) && event.job.is_some()), "{events:?}");
}

pub async fn not_read_by_the_owner() {
    let project = Project::start().await;
    let owner = project.attacker("");
    for file in [project.token_file(), project.key.clone(), project.profiles.clone()] {
        let path = file.display().to_string();
        let sql = format!("SELECT * FROM read_csv('{path}')");
        for (request, body) in [
            ("/v1/query", json!({"sql": sql})),
            ("/v1/imports", json!({"table": "t", "sources": [path], "dry_run": true})),
        ] {
            let answer = project.users.server.post(request, body).await;
            owner.assert_forbidden(&path, Refusal::Private, &answer);
        }
    }
}
