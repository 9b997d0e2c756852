//! Unit tests of models on given rows, which read and write no table of the lake.

use std::sync::Arc;

use headwater_jobs::NewJob;
use headwater_model::{
    AccessObject, ErrorCode, JobKind, Limits, ProjectFiles, RunReport, RunRequest, StepStatus,
    ToProblem,
};

use crate::reuse::User;
use crate::support::{World, files, shown};

const DAILY: &str = "-- headwater: materialization = replace\n\
    SELECT day, sum(amount) AS amount, count(*) AS n FROM orders WHERE amount >= $least GROUP BY day";

const PYTHON: &str = "import headwater\n\n\n@headwater.model()\n\
    def large(orders=headwater.Model(\"orders\", columns=[\"id\"], filter=\"amount > $least\"),\n          \
    least=headwater.Parameter(\"least\")):\n    \
    assert orders.column_names == [\"id\"] and least == 10\n    return orders\n\n\n\
    @headwater.expectation()\ndef some(large=headwater.Model(\"large\")):\n    \
    return large.num_rows > 0\n";

fn project(tests: &str) -> ProjectFiles {
    let manifest = "[parameters.least]\ntype = \"int\"\ndefault = 1\n";
    let sql = ("models/daily.sql", DAILY);
    files(manifest, &[sql, ("models/large.py", PYTHON), ("tests/all.yaml", tests)])
}

async fn test(world: &World, tests: &str, select: &[&str]) -> Result<RunReport, String> {
    let select = select.iter().map(|one| (*one).to_owned()).collect();
    let request = RunRequest { files: project(tests), select, test: true, ..RunRequest::default() };
    let (context, guard) =
        world.jobs.record(NewJob::new(JobKind::Run, "test", "tester")).await.unwrap();
    let outcome = world.runner.test(request, context).await;
    guard.finish(Ok(serde_json::Value::Null));
    outcome.map_err(|error| shown(&error.to_problem()))
}

const GOOD: &str = r"
- name: amounts are summed for each day
  model: daily
  given:
    orders:
      - {day: 2026-01-01, amount: 1.1}
      - {day: 2026-01-01, amount: 2.2}
      - {day: 2026-01-02, amount: 0.5}
      - {day: 2026-01-03, amount: 4}
  expect:
    - {day: 2026-01-03, amount: 4, n: 1}
    - {day: 2026-01-01, amount: 3.3}
- name: types can be declared
  model: daily
  given:
    orders:
      types: {day: timestamp, amount: 'decimal(10,2)'}
      rows: []
  expect: []
- name: functions are tested, too
  model: large
  parameters: {least: 10}
  given:
    orders: [{id: 1, amount: 10}, {id: 2, amount: 11}]
  expect: [{id: 2}]
- name: an expectation passes
  model: some
  given: {large: [{id: 1}]}
  expect: true
";

#[tokio::test]
async fn tests_of_sql_and_python_pass_without_a_table() {
    let world = World::new().await;
    let head = world.lake.catalog().branch("main").await.unwrap().commit;
    let report = test(&world, &GOOD.replace("amount: 4, n: 1", "amount: 4"), &[]).await.unwrap();
    assert!(report.steps.iter().all(|step| step.status == StepStatus::Succeeded));
    assert_eq!(report.steps.len(), 4);
    assert_eq!(world.lake.catalog().branch("main").await.unwrap().commit, head);
    assert_eq!(world.branches().await, []);
    let report = test(&world, &GOOD.replace("amount: 4, n: 1", "amount: 4"), &["daily"]).await;
    assert_eq!(report.unwrap().steps.len(), 2);
}

#[tokio::test]
async fn a_failed_test_shows_missing_and_unexpected_rows() {
    let world = World::new().await;
    let tests = "- name: one\n  model: daily\n  given:\n    orders:\n      \
                 - {day: 2026-01-01, amount: 5}\n      - {day: 2026-01-02, amount: 6}\n  expect:\n    \
                 - {day: 2026-01-01, amount: 5}\n    - {day: 2026-01-02, amount: 7}\n";
    insta::assert_snapshot!(test(&world, tests, &[]).await.unwrap_err(), @r"
    expectation_failed: 1 of 1 tests failed
      caused by: test `one` of `daily` failed (tests/all.yaml)
      rows differ: `-` is expected and missing, `+` is returned and not expected
      - day=2026-01-02, amount=7
      + day=2026-01-02, amount=6
    ");
    let tests = "- {name: two, model: some, given: {large: [{id: 1}]}, expect: false}\n";
    let failure = test(&world, tests, &[]).await.unwrap_err();
    assert!(failure.contains("expected false, got true"), "{failure}");
}

#[tokio::test]
async fn unit_tests_that_cannot_run_report_the_reason() {
    let world = World::new().await;
    for (tests, expected) in [
        ("- {name: a, modle: daily, expect: []}", "(tests/all.yaml:1)"),
        ("- {name: a, model: dayly, expect: []}", "no model `dayly`"),
        ("- name: a\n  model: dayly\n  expect: []", "(tests/all.yaml:2)"),
        ("# days\n\n- {name: a, model: daily, expect: []}", "(tests/all.yaml:3)"),
        (
            "- {name: a, model: daily, expect: []}",
            "`daily` reads `orders`, for which the test has no rows",
        ),
        (
            "- {name: a, model: daily, given: {order: []}, expect: []}",
            "`daily` does not read `order`",
        ),
        ("- {name: a, model: daily, given: {orders: []}, expect: []}", "the rows have no columns"),
        (
            "- {name: a, model: daily, given: {orders: [{day: 2026-01-01}]}, expect: []}",
            "column `amount`",
        ),
        (
            "- {name: a, model: some, given: {large: [{id: 1}]}, expect: []}",
            "`expect` must be `true` or `false`, because the test is of an expectation",
        ),
        (
            "- {name: a, model: daily, parameters: {most: 1}, \
             given: {orders: [{day: 2026-01-01, amount: 1}]}, expect: []}",
            "does not declare a parameter `most`",
        ),
        (
            "- {name: a, model: daily, given: {orders: [{day: 2026-01-01, amount: 1}]}, \
             expect: [{sum: 1}]}",
            "column `sum` is missing",
        ),
        (
            "- {name: a, model: daily, given: {orders: [{day: 2026-01-01, amount: 1}]}, \
             expect: [{day: x}]}",
            "a value of column `day` is not a",
        ),
        (
            "- {name: a, model: some, expect: true}\n- {name: a, model: some, expect: true}",
            "another test in tests/all.yaml has the same name",
        ),
    ] {
        let failure = test(&world, tests, &[]).await.unwrap_err();
        assert!(failure.contains(expected), "{tests}\n{failure}");
    }
    let failure =
        test(&world, "- {name: a, model: daily, expect: []}", &["result:error"]).await.unwrap_err();
    assert!(failure.contains("`result:` cannot select unit tests"), "{failure}");
}

const KEYED: &str = "import headwater\n\n\n\
    @headwater.model(secrets=[\"API_KEY\"], memory=\"256MiB\")\n\
    def keyed(orders=headwater.Model(\"orders\")):\n    return orders\n";

const KEYED_TEST: &str = "- name: keyed\n  model: keyed\n  given:\n    orders: [{id: 1}]\n  \
    expect: [{id: 1}]\n";

#[tokio::test]
async fn a_test_needs_the_secrets_and_the_memory_of_its_model() {
    let world = World::new().await;
    world.secrets.set("API_KEY", "hunter2-hunter2", "ada").await.unwrap();
    let no_secret = User { hidden: vec![AccessObject::secret("API_KEY")], ..User::default() };
    let limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let little_memory = User { limits, ..User::default() };
    for (user, code) in
        [(no_secret, ErrorCode::Forbidden), (little_memory, ErrorCode::QuotaExceeded)]
    {
        let runner = world.runner.with_access(Some(Arc::new(user)));
        let files = files("", &[("models/keyed.py", KEYED), ("tests/all.yaml", KEYED_TEST)]);
        let request = RunRequest { files, test: true, ..RunRequest::default() };
        let new = NewJob::new(JobKind::Run, "test", "ana");
        let (context, guard) = world.jobs.record(new).await.unwrap();
        let error = runner.test(request, context).await.unwrap_err();
        guard.finish(Ok(serde_json::Value::Null));
        assert_eq!(error.code(), code, "{error}");
    }
}
