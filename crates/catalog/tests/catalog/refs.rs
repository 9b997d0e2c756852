//! Examples of branches, tags, hashes, logs and namespaces.

use std::sync::Arc;
use std::time::Duration;

use headwater_catalog::{Catalog, CommitRequest, Error, NamespaceChange, NewBranch};
use headwater_model::{
    CreateRef, ErrorCode, FixedClock, MAIN_BRANCH, Namespace, RefSpec, TableName, ToProblem,
};
use headwater_store::MemoryStore;

use crate::support::{catalog, fork, merge, request, set, tables};

fn spec(text: &str) -> RefSpec {
    text.parse().expect("a ref")
}

fn create(name: &str, from: &str) -> CreateRef {
    CreateRef { name: name.into(), from: Some(spec(from)), if_not_exists: false }
}

#[tokio::test]
async fn a_new_lake_has_main_with_one_commit_and_the_default_namespace() {
    let store = Arc::new(MemoryStore::new());
    let first = crate::support::open(store.clone()).await;
    let second = crate::support::open(store).await;
    let branches = second.branches(None).await.expect("branches");
    assert_eq!(branches, first.branches(None).await.expect("branches"));
    assert_eq!((branches.len(), &*branches[0].name), (1, MAIN_BRANCH));
    assert!(!branches[0].protected);
    let log = second.log(&RefSpec::main(), 10, None).await.expect("a log");
    assert_eq!((log.len(), log[0].parents.len()), (1, 0));
    let state = second.state(log[0].id).await.expect("a state");
    assert_eq!(state.namespaces().await.expect("namespaces")[0].name, "public");
}

#[tokio::test]
async fn branches_are_created_listed_renamed_and_deleted() {
    let catalog = catalog().await;
    let commit = set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    for name in ["feature/b", "feature/a", "other"] {
        assert_eq!(fork(&catalog, name).await.commit, commit.id);
    }
    let names = async |prefix| -> Vec<String> {
        let branches = catalog.branches(prefix).await.expect("branches");
        branches.into_iter().map(|branch| branch.name).collect()
    };
    assert_eq!(names(Some("feature/")).await, ["feature/a", "feature/b"]);
    set(&catalog, "feature/a", &[("a", 2)]).await.expect("a commit");
    let renamed = catalog.rename_branch("feature/a", "done").await.expect("renamed");
    assert_eq!(catalog.branch("done").await.expect("a branch"), renamed);
    assert_eq!(tables(&catalog, "done").await[0].1, "v2");
    catalog.delete_branch("other").await.expect("deleted");
    assert_eq!(names(None).await, ["done", "feature/b", "main"]);
    for (branch, is_at_head) in [("done", false), ("feature/b", true)] {
        let deleted = catalog.delete_branch_at(branch, commit.id).await.expect("a branch");
        assert_eq!(deleted, is_at_head, "{branch}");
    }
    assert_eq!(names(None).await, ["done", "main"]);
    let error = catalog.delete_branch("other").await.expect_err("it is gone");
    assert_eq!(error.code(), ErrorCode::RefNotFound);
    let error = catalog.rename_branch("done", "main").await.expect_err("it exists");
    assert_eq!(error.code(), ErrorCode::AlreadyExists);
    for result in [
        catalog.delete_branch("main").await,
        catalog.rename_branch("main", "trunk").await.map(drop),
    ] {
        assert!(matches!(result, Err(Error::MainBranch { .. })));
    }
    catalog.protect_branch("done", true).await.expect("protected");
    let error = catalog.delete_branch("done").await.expect_err("it is protected");
    assert_eq!(error.code(), ErrorCode::BranchProtected);
}

#[tokio::test]
async fn a_name_cannot_be_both_a_branch_and_a_tag() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    catalog.tags().create(create("v1", "main")).await.expect("a tag");
    for result in [
        catalog.create_branch(create("v1", "main")).await.map(drop),
        catalog.create_branch(create("dev", "main")).await.map(drop),
        catalog.tags().create(create("dev", "main")).await.map(drop),
        catalog.tags().create(create("v1", "main")).await.map(drop),
        catalog.rename_branch("dev", "v1").await.map(drop),
        catalog.tags().rename("v1", "dev").await.map(drop),
    ] {
        assert!(matches!(result, Err(Error::RefExists { .. })), "{result:?}");
    }
    let existing = catalog.branch("dev").await.expect("a branch");
    set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    let again = CreateRef { if_not_exists: true, ..create("dev", "main") };
    assert_eq!(catalog.create_branch(again.clone()).await.expect("as it is"), existing);
    let again = CreateRef { name: "v1".into(), ..again };
    let tag = catalog.tags().create(again).await.expect("as it is");
    assert_eq!(tag.commit, existing.commit);
    for bad in ["", "-x", "a..b", "a b", "a@b", "x/"] {
        let error = catalog.create_branch(create_unchecked(bad)).await.expect_err("a bad name");
        assert_eq!(error.code(), ErrorCode::InvalidName, "{bad:?}");
    }
}

fn create_unchecked(name: &str) -> CreateRef {
    CreateRef { name: name.into(), from: None, if_not_exists: false }
}

#[tokio::test]
async fn tags_do_not_move() {
    let catalog = catalog().await;
    let first = set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    catalog.tags().create(create("v1", "main")).await.expect("a tag");
    set(&catalog, "main", &[("a", 2)]).await.expect("a commit");
    assert_eq!(catalog.tags().get("v1").await.expect("a tag").commit, first.id);
    assert_eq!(tables(&catalog, "v1").await[0].1, "v1");
    let resolved = catalog.resolve(&spec("v1")).await.expect("it resolves");
    assert_eq!((resolved.commit, resolved.branch), (first.id, None));
    catalog.tags().rename("v1", "v1.0").await.expect("renamed");
    catalog.create_branch(create("fix", "v1.0")).await.expect("a branch");
    let tags = catalog.tags().list(Some("v1")).await.expect("tags");
    assert_eq!((tags.len(), &*tags[0].name), (1, "v1.0"));
    let error = set(&catalog, "v1.0", &[("a", 3)]).await.expect_err("a tag takes no commit");
    assert_eq!(error.code(), ErrorCode::RefNotFound);
    catalog.tags().delete("v1.0").await.expect("deleted");
    assert_eq!(catalog.tags().get("v1.0").await.expect_err("gone").code(), ErrorCode::RefNotFound);
}

#[tokio::test]
async fn hashes_resolve_in_the_given_history() {
    let catalog = catalog().await;
    fork(&catalog, "dev").await;
    let here = set(&catalog, "main", &[("a", 1)]).await.expect("a commit").id.to_string();
    let there = set(&catalog, "dev", &[("a", 2)]).await.expect("a commit").id.to_string();
    let resolve = async |text: String| -> Result<String, Error> {
        Ok(catalog.resolve(&spec(&text)).await?.commit.to_string())
    };
    for length in [8, 20, 64] {
        let prefix = &here[..length];
        assert_eq!(resolve(format!("main@{prefix}")).await.expect("it resolves"), here);
        assert_eq!(resolve(format!("@{}", prefix.to_uppercase())).await.expect("it does"), here);
        let error = resolve(format!("dev@{prefix}")).await.expect_err("not on dev");
        assert_eq!(error.code(), ErrorCode::RefNotFound);
        assert!(error.to_string().contains(prefix), "{error}");
    }
    merge(&catalog, "dev", "main").await.expect("a report");
    assert!(resolve(format!("main@{there}")).await.is_err(), "a conflict changes nothing");
    catalog.delete_branch("dev").await.expect("deleted");
    assert_eq!(resolve(format!("@{there}")).await.expect("still there"), there);
    catalog.create_branch(create("again", &format!("@{there}"))).await.expect("restored");
    assert_eq!(tables(&catalog, "again").await[0].1, "v2");
}

#[tokio::test]
async fn an_unknown_name_suggests_the_nearest() {
    let catalog = catalog().await;
    fork(&catalog, "feature/prices").await;
    catalog.tags().create(create("release-1", "main")).await.expect("a tag");
    let commit = set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    let check = async |given: &str, near: Option<&str>| {
        let error = catalog.resolve(&spec(given)).await.expect_err("nothing answers");
        let hint = error.hint().expect("there is always a hint");
        match near {
            Some(near) => assert_eq!(hint, format!("Did you mean `{near}`?")),
            None => assert!(!hint.contains("mean"), "{hint}"),
        }
    };
    check("mian", Some("main")).await;
    check("feature/price", Some("feature/prices")).await;
    check("Release-1", Some("release-1")).await;
    check("nothing-like-it", None).await;
    let digits = &commit.id.to_string()[..12];
    check(digits, Some(&format!("@{digits}"))).await;
}

#[tokio::test]
async fn the_log_follows_merges_newest_first() {
    let clock = Arc::new(FixedClock::at("2026-01-01T00:00:00Z".parse().expect("a moment")));
    let store = Arc::new(MemoryStore::new());
    let catalog = Catalog::open(store, clock.clone()).await.expect("a catalog");
    fork(&catalog, "dev").await;
    let mut expected = catalog.log(&RefSpec::main(), 10, None).await.expect("a log");
    for (version, branch) in ["main", "dev", "main", "dev"].into_iter().enumerate() {
        clock.advance(Duration::from_mins(1));
        let table = format!("{branch}_table");
        let commit = set(&catalog, branch, &[(&table, version as u32 + 1)]).await;
        expected.insert(0, commit.expect("a commit"));
    }
    let report = merge(&catalog, "dev", "main").await.expect("a merge");
    expected.insert(0, catalog.read_commit(report.commit).await.expect("a commit"));
    let log = catalog.log(&RefSpec::main(), 100, None).await.expect("a log");
    assert_eq!(log, expected);
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|commit: &headwater_model::Commit| commit.id);
        let page = catalog.log(&RefSpec::main(), 4, after).await.expect("a page");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, expected);
    let bases = catalog.merge_bases(log[1].id, log[2].id).await.expect("a base");
    assert_eq!(bases, [log[5].id]);
    let dev = catalog.branch("dev").await.expect("a branch").commit;
    assert_eq!(catalog.merge_bases(report.commit, dev).await.expect("a base"), [dev]);
}

#[tokio::test]
async fn namespaces_are_created_and_dropped_by_commits() {
    let catalog = catalog().await;
    let namespace =
        |name: &str| Namespace { name: name.into(), properties: [].into(), owner: None };
    let change = async |changes: Vec<NamespaceChange>| {
        catalog.commit(CommitRequest { namespaces: changes, ..request("main", &[]) }).await
    };
    let make = |name: &str| vec![NamespaceChange::Create(namespace(name))];
    let remove = |name: &str| vec![NamespaceChange::Drop(name.into())];
    let error = set(&catalog, "main", &[("raw.a", 1)]).await.expect_err("no namespace");
    assert_eq!(error.code(), ErrorCode::NamespaceNotFound);
    change(make("raw")).await.expect("made");
    set(&catalog, "main", &[("raw.a", 1), ("b", 1)]).await.expect("a commit");
    assert!(matches!(change(make("raw")).await, Err(Error::NamespaceExists { .. })));
    assert!(matches!(change(make("system")).await, Err(Error::ReservedNamespace { .. })));
    assert!(matches!(change(make("a/b")).await, Err(Error::Name(_))));
    let full = change(remove("raw")).await.expect_err("it contains a table");
    assert!(matches!(full, Error::NamespaceNotEmpty { tables: 1, .. }));
    let error = change(remove("rwa")).await.expect_err("no such namespace");
    assert_eq!(error.hint().as_deref(), Some("Did you mean `raw`?"));
    let head = catalog.branch("main").await.expect("main").commit;
    let state = catalog.state(head).await.expect("a state");
    let listed = state.tables(Some("raw")).await.expect("tables");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].0, TableName::new("raw", "a").expect("a name"));
    set(&catalog, "main", &[("raw.a", 0)]).await.expect("dropped");
    change(remove("raw")).await.expect("the name is empty");
}

#[tokio::test]
async fn a_nested_namespace_has_outer_namespaces_and_tables() {
    let catalog = catalog().await;
    let change = async |changes: Vec<NamespaceChange>| {
        catalog.commit(CommitRequest { namespaces: changes, ..request("main", &[]) }).await
    };
    let make = |name: &str| {
        NamespaceChange::Create(Namespace { name: name.into(), properties: [].into(), owner: None })
    };
    let remove = |name: &str| NamespaceChange::Drop(name.into());
    change(vec![make("shop.my-eu.2024")]).await.expect("created with its outer namespaces");
    set(&catalog, "main", &[("shop.t", 1), ("shop.my-eu.2024.a b", 2)]).await.expect("a commit");
    let head = catalog.branch("main").await.expect("main").commit;
    let state = catalog.state(head).await.expect("a state");
    let namespaces = state.namespaces().await.expect("namespaces").into_iter();
    let names: Vec<String> = namespaces.map(|namespace| namespace.name).collect();
    assert_eq!(names, ["public", "shop", "shop.my-eu", "shop.my-eu.2024"]);
    let own = state.tables(Some("shop")).await.expect("tables");
    assert_eq!(own.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["shop.t"]);
    let found = state.find("SHOP.My-EU.2024", "A B").await.expect("a search").expect("a table");
    assert_eq!(found.0, TableName::new("shop.my-eu.2024", "a b").expect("a name"));
    set(&catalog, "main", &[("shop.t", 0)]).await.expect("dropped");
    let error = change(vec![remove("shop")]).await.expect_err("it holds namespaces");
    assert_eq!(error.code(), ErrorCode::NotEmpty);
    assert_eq!(error.hint().as_deref(), Some("Drop the namespaces in it first."));
    assert!(matches!(change(vec![make("system.x")]).await, Err(Error::ReservedNamespace { .. })));
    set(&catalog, "main", &[("shop.my-eu.2024.a b", 0)]).await.expect("dropped");
    let all = ["shop", "shop.my-eu", "shop.my-eu.2024"].map(remove);
    change(all.into()).await.expect("together, in any order");
}

#[tokio::test]
async fn tables_are_found_by_exact_name_or_case_insensitively() {
    let catalog = catalog().await;
    set(&catalog, "main", &[("Flights", 1), ("trips", 2), ("Trips", 3)]).await.expect("a commit");
    let head = catalog.branch("main").await.expect("main").commit;
    let state = catalog.state(head).await.expect("a state");
    let find = async |namespace: &str, name: &str| {
        let found = state.find_table(namespace, name).await?;
        Ok::<_, Error>(found.map(|(table, _)| table.to_string()))
    };
    for (given, found) in
        [("Flights", "Flights"), ("FLIGHTS", "Flights"), ("trips", "trips"), ("Trips", "Trips")]
    {
        assert_eq!(find("public", given).await.expect("found").as_deref(), Some(found));
        assert_eq!(find("PUBLIC", "flights").await.expect("found").as_deref(), Some("Flights"));
    }
    assert_eq!(find("public", "flight").await.expect("looked"), None);
    assert_eq!(find("public", "no such-name").await.expect("looked"), None);
    let error = find("public", "TRIPS").await.expect_err("it could be two");
    assert_eq!(error.to_string(), "table name `TRIPS` is ambiguous: it matches `Trips`, `trips`");
}

#[tokio::test]
async fn quarantine_survives_deletion_of_the_failed_runs_branch() {
    let catalog = catalog().await;
    let accepted = set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    let options = NewBranch { quarantine: Some("job".into()), ..NewBranch::default() };
    catalog.create_branch_with("run", &RefSpec::main(), options).await.expect("a branch");
    let failed = set(&catalog, "run", &[("a", 2)]).await.expect("a commit");
    catalog.tags().create(create("failed", "run")).await.expect("a tag");
    catalog.delete_branch("run").await.expect("deleted");
    let made = async |name: &str, from: &str| {
        catalog.create_branch(create(name, from)).await.expect("a branch").quarantine
    };
    assert_eq!(made("one", "failed").await.as_deref(), Some("job"));
    assert_eq!(made("two", &format!("@{}", failed.id)).await.as_deref(), Some("job"));
    assert_eq!(made("three", &format!("@{}", accepted.id)).await, None);
    catalog.delete_branch("one").await.expect("deleted");
    catalog.delete_branch("two").await.expect("deleted");
    assert_eq!(made("four", "failed").await.as_deref(), Some("job"));
}

#[tokio::test]
async fn quarantine_applies_to_tags_and_hashes_but_not_to_earlier_commits() {
    let catalog = catalog().await;
    let accepted = set(&catalog, "main", &[("a", 1)]).await.expect("a commit");
    let options = NewBranch { quarantine: Some("job".into()), ..NewBranch::default() };
    catalog.create_branch_with("run", &RefSpec::main(), options).await.expect("a branch");
    let failed = set(&catalog, "run", &[("a", 2)]).await.expect("a commit");
    catalog.tags().create(create("failed", "run")).await.expect("a tag");
    let made = async |name: &str, from: &str| {
        catalog.create_branch(create(name, from)).await.expect("a branch").quarantine
    };
    assert_eq!(made("one", "failed").await.as_deref(), Some("job"));
    assert_eq!(made("two", &format!("run@{}", failed.id)).await.as_deref(), Some("job"));
    assert_eq!(made("three", &format!("run@{}", accepted.id)).await, None);
    assert_eq!(made("four", &format!("@{}", accepted.id)).await, None);
    assert_eq!(made("five", "main").await, None);
    assert_eq!(catalog.quarantine_branch("run", None).await.expect("lifted").quarantine, None);
    merge(&catalog, "run", "main").await.expect("a merge");
}
