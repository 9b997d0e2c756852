//! `headwater demo`, as a person types it first, and again.

mod support;

use support::Workspace;

#[test]
fn the_demo_ends_well_twice() {
    let workspace = Workspace::empty();
    let first = workspace.run(&["demo"]);
    assert_eq!(first.code, 0, "{}\n{}", first.stdout, first.stderr);
    for part in ["airline_scorecard", "COST", "total", "(demo, main)"] {
        assert!(first.stdout.contains(part), "no {part} in:\n{}", first.stdout);
    }
    let second = workspace.run(&["demo"]);
    assert_eq!(second.code, 0, "{}\n{}", second.stdout, second.stderr);
    assert!(second.stdout.contains("unchanged"), "{}", second.stdout);
    let lake = ["--lake", "headwater-demo"];
    let rows =
        workspace.json(&[&["query", "SELECT count(*) AS n FROM flights"], &lake[..]].concat());
    assert_eq!(rows[0]["n"], 336_776);
    workspace.ok(&[&["stop"], &lake[..]].concat());
}
