//! Start times of functions, compared with `python -c import` and `uv run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_functions::{
    CallOwner, Environment, EnvironmentSpec, Functions, FunctionsOptions, Invocation, Isolation,
    Limits, OptionalCallParts, ResultKind, ReuseScope, SpawnerCommand, Telemetry, ZygoteOptions,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::report::{Report, duration};
use crate::sample::{median, wait_until_quiet};

const PACKAGES: [(&str, &str); 3] = [("numpy", "2.3"), ("pandas", "2.3"), ("pyarrow", "21.0.0")];
const IMPORTS: &str = "import numpy, pandas, pyarrow";
const NOTHING: &str = "def f():\n    return True\n";

/// Number of plain interpreters whose time is measured to extrapolate the time of a burst, and
/// number of interpreters that run concurrently.
const PLAIN: usize = 40;
const CONCURRENT: usize = 2;

/// Measures the requested parts with `samples` starts each, and adds the results to the report.
pub async fn measure(
    report: &mut Report,
    samples: usize,
    wanted: impl Fn(&str) -> bool,
) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let bench = Bench { folder: folder.path().to_owned(), samples };
    if wanted("warm") {
        tokio::task::block_in_place(|| crate::invoke::measure(report, 5 * samples))?;
    }
    if wanted("callers") {
        tokio::task::block_in_place(|| crate::call_throughput::measure(report))?;
    }
    // Measure starts first: after the transfer of large tables, the kernel allocates memory more
    // slowly for some time.
    if wanted("starts") {
        bench.edited_to_result(report).await?;
        bench.package_added(report).await?;
    }
    if wanted("first") {
        bench.first_start(report).await?;
    }
    if wanted("handover") {
        bench.transfer(report).await?;
    }
    Ok(())
}

/// Folder and sample count of the benchmarks.
pub struct Bench {
    /// Working folder.
    pub folder: PathBuf,
    /// Number of samples.
    pub samples: usize,
}

impl Bench {
    /// Measures the time from an edit of a function to its result.
    async fn edited_to_result(&self, report: &mut Report) -> Outcome<()> {
        let functions = self.runtime("lake").await?;
        let bare = self.environment(&functions, &[]).await?;
        let packed = self.environment(&functions, &PACKAGES).await?;
        self.starts(report, &functions, &bare, &packed).await?;
        self.edits(report, &functions, &packed).await?;
        self.burst(report, &functions, &bare).await?;
        Ok(())
    }

    /// Measures the transfer of tables between functions.
    async fn transfer(&self, report: &mut Report) -> Outcome<()> {
        let functions = self.runtime("lake").await?;
        let packed = self.environment(&functions, &PACKAGES).await?;
        // Ray does not have wheels for all machines.
        let with_ray = [&PACKAGES[..], &[("ray", "2")]].concat();
        let with_ray = self.environment(&functions, &with_ray).await.ok();
        crate::table_transfer::measure(report, &functions, &packed, with_ray.as_ref()).await
    }

    async fn runtime(&self, name: &str) -> Outcome<Functions> {
        let functions = Functions::start(self.options(name)).await?;
        for warning in functions.warnings() {
            eprintln!("{warning}");
        }
        Ok(functions)
    }

    /// Returns the options of a runtime with a folder of this name.
    pub fn options(&self, name: &str) -> FunctionsOptions {
        let folder = self.folder.join(name);
        let path = std::env::var_os("PATH").unwrap_or_default();
        FunctionsOptions {
            spawner: SpawnerCommand {
                program: crate::commands::binary(),
                arguments: vec!["__spawner".to_owned()],
            },
            own_dir: folder.join("own"),
            environments_dir: folder.join("environments"),
            tools_dir: self.folder.join("tools"),
            cache_dir: self.folder.join("cache"),
            memory_bytes_total: 64 << 30,
            concurrency: 1_000,
            waiting_max: 10_000,
            python_search: std::env::split_paths(&path).collect(),
            nameservers: None,
            reachable_own: Vec::new(),
            connections_max: None,
            isolation: Isolation::Sandbox,
            zygotes: ZygoteOptions::default(),
            telemetry: Telemetry::default(),
        }
    }

    /// Creates an environment with these packages.
    pub async fn environment(
        &self,
        functions: &Functions,
        packages: &[(&str, &str)],
    ) -> Outcome<Arc<Environment>> {
        let packages = packages.iter().map(|(name, version)| ((*name).into(), (*version).into()));
        let spec = EnvironmentSpec { packages: packages.collect(), ..EnvironmentSpec::default() };
        let tell = |event| eprintln!("{event}");
        Ok(functions.environment(&spec, &tell).await?)
    }

    /// Measures calls in new processes and sandboxes; only the zygote is warm.
    async fn starts(
        &self,
        report: &mut Report,
        functions: &Functions,
        bare: &Arc<Environment>,
        packed: &Arc<Environment>,
    ) -> Outcome<()> {
        let imports = format!("{IMPORTS}\n{NOTHING}");
        for (what, environment, source, plain, bounds) in [
            ("new sandbox, hello world", bare, NOTHING, "pass", (10, 40)),
            ("new sandbox, numpy, pandas, pyarrow", packed, imports.as_str(), IMPORTS, (20, 80)),
        ] {
            call(functions, environment, source).await?;
            tokio::task::block_in_place(wait_until_quiet)?;
            let (mut taken, mut references) = (Vec::new(), Vec::new());
            for index in 0..self.samples {
                taken.push(call(functions, environment, source).await?);
                if index % 10 == 0 {
                    references.push(python(environment, plain)?);
                }
            }
            let references = format!("python -c \"{plain}\" {}", duration(median(references)));
            let millis = |bound| Duration::from_millis(bound);
            report.spread(what, &taken, &references, (millis(bounds.0), millis(bounds.1)));
        }
        Ok(())
    }

    /// Measures the same function with a different source text each time.
    async fn edits(
        &self,
        report: &mut Report,
        functions: &Functions,
        packed: &Arc<Environment>,
    ) -> Outcome<()> {
        let mut taken = Vec::new();
        for edit in 0..self.samples.min(50) {
            let source = format!("{IMPORTS}\n# edit {edit}\n{NOTHING}");
            taken.push(call(functions, packed, &source).await?);
        }
        let references = format!("python -c \"{IMPORTS}\" {}", duration(python(packed, IMPORTS)?));
        let bound = Duration::from_millis(150);
        report.time("code edited to its result", median(taken), &references, bound);
        Ok(())
    }

    /// Measures the start of many instances at once.
    async fn burst(
        &self,
        report: &mut Report,
        functions: &Functions,
        bare: &Arc<Environment>,
    ) -> Outcome<()> {
        let count = 5 * self.samples;
        tokio::task::block_in_place(wait_until_quiet)?;
        let began = Instant::now();
        let calls = (0..count).map(|_| {
            let (functions, bare) = (functions.clone(), bare.clone());
            tokio::spawn(async move { call(&functions, &bare, NOTHING).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await??;
        }
        let taken = began.elapsed();
        let plain = tokio::task::block_in_place(|| plain_burst(bare, count))?;
        let references = format!(
            "{} each; the same number of `python -c pass`, {CONCURRENT} concurrent, extrapolated from {PLAIN}: {}",
            duration(taken / u32::try_from(count)?),
            duration(plain)
        );
        let bound = Duration::from_secs(10) * u32::try_from(count)? / 1_000;
        report.time(&format!("burst to {count} instances"), taken, &references, bound);
        Ok(())
    }

    /// Measures the first call in a new environment whose packages are in the package store.
    async fn first_start(&self, report: &mut Report) -> Outcome<()> {
        let source = format!("{IMPORTS}\n{NOTHING}");
        let functions = self.runtime("first").await?;
        let environment = self.environment(&functions, &PACKAGES).await?;
        call(&functions, &environment, &source).await?;
        // Wait until the packages are compiled in the background, which happens only once.
        tokio::task::block_in_place(wait_until_quiet)?;
        drop((functions, environment));
        let (mut taken, mut references) = (Vec::new(), Vec::new());
        let mut store = bytecode_folder(&self.options("first"));
        for index in 0..(self.samples / 20).max(3) {
            // Use a new folder for each sample. Removing the previous environment would slow down
            // the next sample, because ext4 avoids recently freed inodes.
            let options = self.options(&format!("first-{index}"));
            std::fs::create_dir_all(&options.environments_dir)?;
            let moved = bytecode_folder(&options);
            std::fs::rename(&store, &moved)?;
            store = moved;
            let functions = Functions::start(options).await?;
            tokio::task::block_in_place(wait_until_quiet)?;
            let began = Instant::now();
            let environment = self.environment(&functions, &PACKAGES).await?;
            call(&functions, &environment, &source).await?;
            taken.push(began.elapsed());
            references.push(python(&environment, IMPORTS)?);
        }
        let name = format!("python -c \"{IMPORTS}\"");
        report.ratio(
            "first start of an environment",
            median(taken),
            (&name, median(references)),
            1.2,
        );
        Ok(())
    }

    /// Measures the time from adding a package to the result, without the imports. The package's
    /// wheel is in uv's cache.
    async fn package_added(&self, report: &mut Report) -> Outcome<()> {
        const VERSIONS: [&str; 4] = ["1.17.0", "1.16.0", "1.15.0", "1.14.0"];
        let functions = Functions::start(self.options("lake")).await?;
        for version in VERSIONS {
            self.environment(&functions, &[&PACKAGES[..], &[("six", version)]].concat()).await?;
        }
        let source = format!("{IMPORTS}, six\n{NOTHING}");
        let (mut taken, mut imports, mut references) = (Vec::new(), Vec::new(), Vec::new());
        let functions = Functions::start(self.options("another")).await?;
        for version in VERSIONS {
            let began = Instant::now();
            let packages = [&PACKAGES[..], &[("six", version)]].concat();
            let environment = self.environment(&functions, &packages).await?;
            call(&functions, &environment, &source).await?;
            taken.push(began.elapsed());
            imports.push(python(&environment, &format!("{IMPORTS}, six"))?);
            references.extend(self.uv_run(version)?);
        }
        let (taken, imports) = (median(taken), median(imports));
        let uv = if references.is_empty() {
            String::new()
        } else {
            format!(", uv run {}", duration(median(references)))
        };
        let references = format!("total {}, imports {}{uv}", duration(taken), duration(imports));
        let added = taken.saturating_sub(imports);
        report.time("added package, without imports", added, &references, Duration::from_secs(1));
        Ok(())
    }

    /// Measures `uv run` with the cache folder that the measured functions use; `None` if uv is not
    /// installed or the command fails.
    fn uv_run(&self, version: &str) -> Outcome<Option<Duration>> {
        let Some(uv) = find_uv(&self.folder) else { return Ok(None) };
        let mut command = Command::new(uv);
        command
            .args(["run", "--no-project", "--quiet", "--cache-dir"])
            .arg(self.folder.join("cache"));
        for (name, version) in PACKAGES.iter().chain(&[("six", version)]) {
            let parts = version.split('.').count();
            let any = if parts < 3 { ".*" } else { "" };
            command.arg("--with").arg(format!("{name}=={version}{any}"));
        }
        command.args(["python", "-c", &format!("{IMPORTS}, six")]);
        let began = Instant::now();
        let output = command.output()?;
        Ok(output.status.success().then(|| began.elapsed()))
    }
}

/// Returns the folder of a runtime's compiled bytecode.
fn bytecode_folder(options: &FunctionsOptions) -> PathBuf {
    options.environments_dir.join(".bytecode")
}

fn find_uv(folder: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = std::env::split_paths(&path).map(|folder| folder.join("uv"));
    let fetched = walk(&folder.join("tools")).into_iter().find(|path| path.ends_with("uv"));
    known.into_iter().find(|path| path.is_file()).or(fetched)
}

/// Lists the files in a folder, recursively.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

/// Measures one call of `f`.
async fn call(
    functions: &Functions,
    environment: &Arc<Environment>,
    source: &str,
) -> Outcome<Duration> {
    let (sink, _lines) = mpsc::channel(16);
    let began = Instant::now();
    let invocation = invocation(environment, source);
    functions.invoke(invocation, sink, CancellationToken::new()).await.returned?;
    Ok(began.elapsed())
}

/// Creates a call of `f`.
pub fn invocation(environment: &Arc<Environment>, source: &str) -> Invocation {
    Invocation {
        environment: environment.clone(),
        files: Arc::new(BTreeMap::from([("m.py".to_owned(), source.into())])),
        module: "m.py".to_owned(),
        function: "f".to_owned(),
        arguments: Vec::new(),
        kind: ResultKind::Bool,
        limits: Limits { memory_bytes: 256 << 20, ..Limits::default() },
        label: "f".to_owned(),
        quota: None,
        lake: None,
        client: OptionalCallParts::default(),
        reuse: ReuseScope::Never,
        starts_runtime: false,
        share: CallOwner::default(),
        begins_until: CancellationToken::new(),
        early_result: None,
    }
}

/// Measures the time in which the environment's plain interpreter executes one line.
fn python(environment: &Environment, line: &str) -> Outcome<Duration> {
    let began = Instant::now();
    let status = Command::new(&environment.python).args(["-I", "-c", line]).status()?;
    if status.success() { Ok(began.elapsed()) } else { Err(format!("`{line}`: {status}").into()) }
}

/// Estimates the time of `count` plain interpreters that do nothing, from a sample.
fn plain_burst(environment: &Environment, count: usize) -> Outcome<Duration> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let one =
            || (0..PLAIN / CONCURRENT).try_for_each(|_| python(environment, "pass").map(drop));
        let all = [(); CONCURRENT].map(|()| scope.spawn(one));
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a thread failed")?)
    })?;
    Ok(began.elapsed() * u32::try_from(count)? / u32::try_from(PLAIN)?)
}
