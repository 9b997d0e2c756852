//! Environments: shared, content-addressed, and clear about what cannot be.

use std::sync::Mutex;

use crate::support::{ask, environment, holds, options, spec, start};
use headwater_functions::{EnvironmentEvent, EnvironmentSpec, Error, Functions, FunctionsOptions};
use headwater_model::Fault;

fn fresh(folder: &tempfile::TempDir) -> FunctionsOptions {
    FunctionsOptions { environments_dir: folder.path().join("environments"), ..options() }
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

    // Another server finds it, without asking anybody.
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
async fn adding_a_package_whose_wheel_is_known_takes_under_a_second() {
    let functions = start().await;
    environment(&functions, &[("polars", "1.38.1")]).await;
    environment(&functions, &[("humanize", "4.13.0")]).await;
    // Beside uv's cache, so that files can be linked.
    let folder = tempfile::tempdir_in(options().tools_dir).unwrap();
    let functions = Functions::start(fresh(&folder)).await.unwrap();
    let both = spec(&[("polars", "1.38.1"), ("humanize", "4.13.0")]);
    let built = functions.environment(&both, &|_| ()).await.unwrap();
    // The machine may be busy; a network round trip or a copy of the packages takes far longer.
    assert!(built.created_ms < 3000, "{} ms", built.created_ms);
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
async fn what_cannot_be_is_said_with_a_hint() {
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
    check(spec(&[("polars", "1; import os")]), "is not a version", "write a version").await;
    let old = EnvironmentSpec { python: Some("3.99".to_owned()), ..spec(&[]) };
    check(old.clone(), "3.11", "install that version").await;
    let error = functions.environment(&old, &|_| ()).await.unwrap_err();
    assert!(matches!(error, Error::PythonNotFound { .. }));
}
