//! Attacks by packages: malicious wheels, which the tests write to a folder that `uv` uses as an
//! index.

use headwater_environments::Error as EnvironmentError;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use headwater_functions::{Environment, Error, Functions, FunctionsOptions, ZygoteOptions};

use super::probe;
use crate::support::{
    ask, environment, holds, not_checked, options, own_address, processes, service, wait_until,
};

/// The script that writes the wheels.
const WHEELS: &str = include_str!("wheels.py");

/// A folder for wheels and environments, on the file system of uv's cache.
struct WheelFolder {
    folder: tempfile::TempDir,
}

impl WheelFolder {
    fn new() -> Self {
        let tools = options().tools_dir;
        fs::create_dir_all(&tools).unwrap();
        let folder = tempfile::tempdir_in(tools).unwrap();
        fs::create_dir(folder.path().join("wheels")).unwrap();
        WheelFolder { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a wheel by one of the script's recipes, with arguments.
    fn wheel(&self, recipe: &str, arguments: &[&str]) {
        let folder = self.path("wheels");
        let mut python = Command::new("python3");
        python.args(["-c", WHEELS, recipe]).arg(folder).args(arguments);
        let done = python.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Returns options of a runtime with these wheels and with environments in the folder.
    fn options(&self, environments: &str) -> FunctionsOptions {
        let mut options =
            FunctionsOptions { environments_dir: self.path(environments), ..options() };
        let spawner = options.spawner.program.to_string_lossy().into_owned();
        let wheels = format!("UV_FIND_LINKS={}", self.path("wheels").display());
        options.spawner.program = "env".into();
        options.spawner.arguments = vec![wheels, spawner];
        options
    }

    async fn start(&self, environments: &str) -> Functions {
        Functions::start(self.options(environments)).await.unwrap()
    }
}

/// Returns all files below a folder, without following links.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Returns the folder of an environment's packages.
fn packages(environment: &Environment) -> PathBuf {
    environment.python.ancestors().nth(2).unwrap().join("lib/python3.11/site-packages")
}

#[tokio::test]
async fn a_wheel_with_parent_paths_writes_nothing_outside_its_folder() {
    let market = WheelFolder::new();
    let mark = format!("headwater-climbed-{}", std::process::id());
    market.wheel("climber", &[&mark]);
    let functions = market.start("environments").await;
    match functions.environment(&crate::support::spec(&[("headwater-climber", "")]), &|_| ()).await
    {
        Ok(made) => {
            let body = "import headwater_climber\nreturn headwater_climber.HERE";
            holds(&functions, probe(&made, body)).await;
        }
        Err(error) => assert!(
            matches!(error, Error::Environment(EnvironmentError::Failed { .. })),
            "{error:?}"
        ),
    }
    let cache = options().cache_dir;
    let within = below(market.folder.path()).into_iter().chain(below(&cache));
    let above = market.folder.path().ancestors().chain(cache.ancestors());
    let above = above.chain([Path::new("/tmp")]).map(|folder| folder.join(&mark));
    let escaped: Vec<_> =
        within.chain(above).filter(|path| path.ends_with(&mark) && path.exists()).collect();
    assert_eq!(escaped, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn links_in_a_wheel_lead_nowhere() {
    let market = WheelFolder::new();
    let (secrets, secret) = (market.path("secrets"), market.path("secrets/secret.txt"));
    fs::create_dir(&secrets).unwrap();
    fs::write(&secret, "the host's secret").unwrap();
    market.wheel("linker", &[secret.to_str().unwrap()]);
    let functions = market.start("environments").await;
    for name in ["headwater-linker", "headwater-through"] {
        let made = functions.environment(&crate::support::spec(&[(name, "")]), &|_| ()).await;
        let made = match made {
            Ok(made) => made,
            Err(Error::Environment(EnvironmentError::Failed { .. })) => continue,
            Err(error) => panic!("{error:?}"),
        };
        let files = below(&packages(&made));
        assert!(files.iter().any(|path| path.ends_with("headwater_linker")), "{files:?}");
        let links = files.iter().filter(|path| path.is_symlink());
        assert_eq!(links.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
        let body = "folder = next(path for path in sys.path if path.endswith('site-packages'))
for folder, _, names in os.walk(folder + '/headwater_linker'):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path) or b'the host' in open(path, 'rb').read():
            return False
return not os.path.exists(folder + '/root/etc')";
        holds(&functions, probe(&made, body)).await;
    }
    assert_eq!(below(&secrets), vec![secret.clone()]);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "the host's secret");
}

/// Code that runs when the package is imported, and that attempts all attacks that must fail.
const TRAP: &str = "
import builtins, ctypes, os, socket, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
passed = []

def tries(what, attempt, *arguments):
    try:
        attempt(*arguments)
    except OSError:
        return
    passed.append(what)

def asks(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def connects(host, port):
    socket.create_connection((host, port), timeout=5).close()

for path in ['/etc/shadow', 'WITNESS', '/proc/1/mem', '/dev/kmsg']:
    tries('read ' + path, open, path)
for path in ['/home', '/var', '/sys', '/run', '/boot']:
    tries('list ' + path, os.listdir, path)
for path in ['/environment/x', '/headwater/x', '/usr/x', '/project/x', '/x', 'WITNESS']:
    tries('write ' + path, open, path, 'w')
for host, port in ADDRESSES:
    tries(f'connect {host}', connects, host, port)
tries('mount', asks, 'mount', b'none', b'/tmp', b'tmpfs', 0, None)
tries('unshare', asks, 'unshare', 0x10000000)
tries('ptrace', asks, 'ptrace', 16, 1, 0, 0)
tries('sethostname', asks, 'sethostname', b'x', 1)
tries('setuid', os.setuid, 0)
tries('raw socket', socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
open('/tmp/headwater-trap', 'w').close()
subprocess.Popen(['/bin/sh', '-c', 'sleep 1000; : MARKER'], start_new_session=True)
builtins.headwater_trap = {'passed': passed, 'by': sys.orig_argv}
";

#[tokio::test]
async fn startup_code_of_a_wheel_is_sandboxed() {
    let market = WheelFolder::new();
    let (witness, marker) = (market.path("witness"), format!("trap{}", std::process::id()));
    let services = [service("127.0.0.1".parse().ok()), service(own_address())];
    let services: Vec<_> = services.into_iter().flatten().collect();
    let addresses = services.iter().map(|(at, _)| format!("('{}', {})", at.ip(), at.port()));
    let addresses = format!("[{}]", addresses.collect::<Vec<_>>().join(", "));
    let code = TRAP.replace("WITNESS", witness.to_str().unwrap());
    let code = code.replace("MARKER", &marker).replace("ADDRESSES", &addresses);
    market.wheel("trap", &[&code]);
    for enabled in [true, false] {
        let zygotes = ZygoteOptions { enabled, ..ZygoteOptions::default() };
        let options = FunctionsOptions { zygotes, ..market.options("environments") };
        let functions = Functions::start(options).await.unwrap();
        let trapped = environment(&functions, &[("headwater-trap", "")]).await;
        let honest = environment(&functions, &[]).await;
        let body = format!(
            "import builtins, headwater_trap
found = builtins.headwater_trap
print(found)
seen = [name for name in os.listdir('/proc') if name.isdigit()]
zygote = any('headwater_zygote' in one for one in found['by'])
alone = not {0} or (len(seen) == 2 and os.listdir('/tmp') == [])
return found['passed'] == [] and zygote == {0} and alone",
            if enabled { "True" } else { "False" }
        );
        for _ in 0..2 {
            holds(&functions, probe(&trapped, &body)).await;
        }
        assert_eq!(processes(&marker).is_empty(), !enabled);
        // Other functions of the lake are not affected by the package.
        let body = "import builtins
seen = [name for name in os.listdir('/proc') if name.isdigit()]
return not hasattr(builtins, 'headwater_trap') and len(seen) == 2 and os.listdir('/tmp') == []";
        holds(&functions, probe(&honest, body)).await;
        drop(functions);
        wait_until("a package's process lives on", || processes(&marker).is_empty());
    }
    assert!(!witness.exists(), "it ran outside");
    for (at, count) in services {
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 0, "{at} was reached");
    }
}

/// All environments share compiled bytecode, which is found by the file hashes in a package's
/// RECORD.
#[tokio::test]
async fn a_package_cannot_replace_the_code_of_another() {
    let market = WheelFolder::new();
    market.wheel("honest", &[]);
    let functions = market.start("first").await;
    let made = environment(&functions, &[("headwater-honest", "1.0")]).await;
    let record = packages(&made).join("headwater_honest-1.0.dist-info/RECORD");
    market.wheel("liar", &[&fs::read_to_string(record).unwrap()]);
    drop((made, functions));

    let functions = market.start("second").await;
    let liar = environment(&functions, &[("headwater-liar", "1.0")]).await;
    let source = |said: &str| {
        format!("import headwater_honest\ndef f():\n    return headwater_honest.SAID == '{said}'\n")
    };
    holds(&functions, ask(&liar, &source("lies"))).await;
    compiled(&liar).await;
    let honest = environment(&functions, &[("headwater-honest", "1.0")]).await;
    holds(&functions, ask(&honest, &source("honest"))).await;
}

/// Waits until the bytecode of an environment is compiled.
async fn compiled(environment: &Environment) {
    let folder = packages(environment);
    let begun = || {
        let compiled = below(&folder.join("__pycache__"));
        compiled.iter().any(|path| path.to_string_lossy().contains("headwater_liar.cpython"))
    };
    // The process that compiles the bytecode is found by the folder in its command line.
    let compiler = folder.to_string_lossy().into_owned();
    let waiting = async {
        while !begun() || !processes(&compiler).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), waiting).await.unwrap();
}

/// Attempts to change a file that other environments and uv's cache share.
const CHANGES: &str = "import mmap
file = next(path for path in map(os.path.abspath, FILES) if os.path.exists(path))
folder = os.path.dirname(file)
held = os.open(file, os.O_RDONLY)
page = lambda: mmap.mmap(held, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
attempts = [(open, file, 'r+b'), (open, f'/proc/self/fd/{held}', 'r+b'), (os.truncate, file, 0),
    (os.ftruncate, held, 0), (os.unlink, file), (os.rename, file, '/tmp/moved'), (os.link, file, '/tmp/mine'),
    (os.link, f'/proc/self/fd/{held}', '/tmp/mine'), (os.chmod, file, 0o777), (os.fchmod, held, 0o777),
    (os.chown, file, os.getuid(), os.getgid()), (os.utime, file), (os.setxattr, file, 'user.x', b'x'),
    (os.posix_fallocate, held, 0, 10), (page,), (os.replace, '/tmp/other', file), (os.symlink, '/tmp', folder + '/l')]
open('/tmp/other', 'w').write('changed')
done = [fails(*attempt) for attempt in attempts]
return all(done) and not os.path.exists('/tmp/mine')";

#[tokio::test]
async fn environments_cannot_change_shared_files() {
    let market = WheelFolder::new();
    market.wheel("honest", &[]);
    market.wheel("squatter", &[]);
    let functions = market.start("environments").await;
    let one = environment(&functions, &[("headwater-honest", "1.0")]).await;
    let other = environment(&functions, &[("headwater-honest", "1.0"), ("six", "1.17.0")]).await;
    let file = |environment: &Arc<Environment>| packages(environment).join("headwater_honest.py");
    let (meta, again) = (fs::metadata(file(&one)).unwrap(), fs::metadata(file(&other)).unwrap());
    if meta.ino() != again.ino() {
        return not_checked("uv's cache lies on another file system");
    }
    assert!(meta.nlink() >= 3, "uv's cache has it, too");
    let body = CHANGES.replace("FILES", "[path + '/headwater_honest.py' for path in sys.path]");
    for environment in [&one, &other] {
        holds(&functions, probe(environment, &body)).await;
    }
    let places = format!(
        "return not any(os.path.exists(path) for path in {:?})",
        [options().cache_dir, market.path("environments"), market.path("wheels")]
    );
    holds(&functions, probe(&one, &places)).await;
    // A package with a file of the same name replaces the file only in its own environment.
    let both = [("headwater-honest", "1.0"), ("headwater-squatter", "1.0")];
    environment(&functions, &both).await;
    for environment in [&one, &other] {
        assert_eq!(fs::read_to_string(file(environment)).unwrap(), "SAID = 'honest'\n");
        assert_eq!(fs::metadata(file(environment)).unwrap().mtime(), meta.mtime());
    }
    let third = environment(&functions, &[("headwater-honest", "1.0"), ("six", "1.16.0")]).await;
    assert_eq!(fs::read_to_string(file(&third)).unwrap(), "SAID = 'honest'\n");
}
