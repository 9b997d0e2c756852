//! Environments of runs: the recorded packages, and runs with the packages of an earlier run.

use std::collections::BTreeMap;

use headwater_model::{JobEventKind, ProjectFiles, RunEnvironment};

use crate::support::{Ran, World, files};

const MODEL: &str = r#"
import headwater
import six


@headwater.python("3.11", pip={"six": ">=1.15"})
@headwater.model(materialization="replace")
def versions(t=headwater.Model("t")):
    print(six.__version__)
    return t
"#;

fn project() -> ProjectFiles {
    files("", &[("versions.py", MODEL)])
}

/// Returns the environments that a run recorded.
fn environments(ran: &Ran) -> Vec<RunEnvironment> {
    let events = ran.events.iter().filter_map(|event| match event {
        JobEventKind::Environment { environment } => Some((**environment).clone()),
        _ => None,
    });
    events.collect()
}

fn versions(environment: &RunEnvironment) -> BTreeMap<&str, &str> {
    let packages = environment.packages.iter();
    packages.map(|(name, version)| (name.as_str(), version.as_str())).collect()
}

#[tokio::test]
async fn a_run_uses_the_recorded_packages_of_an_earlier_run() {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id"]).await;
    let ran = world.run(&project()).await;
    ran.report();
    let all = environments(&ran);
    let [recorded] = &all[..] else { panic!("{:?}", ran.events) };
    assert_eq!(recorded.environment, "python 3.11, six >=1.15");
    assert_eq!(recorded.python, "3.11");
    let newest = versions(recorded)["six"].to_owned();
    assert!(versions(recorded).contains_key("pyarrow"), "{recorded:?}");
    let other = if newest == "1.16.0" { "1.15.0" } else { "1.16.0" };
    assert_eq!(ran.printed(), [format!("versions versions.py:9 {newest}")]);

    // The same packages use the existing environment, and an unchanged model does not run.
    let pins = vec![recorded.clone()];
    let same = world.run_with(&project(), |request| request.environments = pins).await;
    same.report();
    assert_eq!(same.steps(), "versions unchanged");
    assert_eq!(environments(&same), std::slice::from_ref(recorded));

    // An earlier run had another version, which the project allows.
    let mut older = recorded.clone();
    older.packages.insert("six".to_owned(), other.to_owned());
    let pins = vec![older.clone()];
    let pinned = world
        .run_with(&project(), |request| {
            request.environments = pins;
            request.no_cache = true;
        })
        .await;
    pinned.report();
    assert_eq!(pinned.printed(), [format!("versions versions.py:9 {other}")]);
    assert_eq!(environments(&pinned), [older]);
}

#[tokio::test]
async fn a_recorded_version_that_no_longer_exists_is_named() {
    let world = World::new().await;
    world.sql("main", &["CREATE TABLE t AS SELECT 1 AS id"]).await;
    let gone = RunEnvironment {
        environment: "python 3.11, six >=1.15".to_owned(),
        python: "3.11".to_owned(),
        packages: BTreeMap::from([("six".to_owned(), "1.16.999".to_owned())]),
    };
    let ran = world.run_with(&project(), |request| request.environments = vec![gone]).await;
    let refusal = ran.refusal();
    for part in ["the package versions of the earlier run", "1.16.999"] {
        assert!(refusal.contains(part), "no `{part}` in {refusal}");
    }
    assert!(environments(&ran).is_empty());
}
