//! `headwater.toml`: settings, and errors with their line.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{ToProblem, Usage};
use serde_json::json;

use crate::support::{self, files, refusal, shown};

fn refused(manifest: &str) -> String {
    refusal(&files(manifest, &[]))
}

#[test]
fn a_project_without_its_file_or_name_is_none() {
    assert_eq!(
        refusal(&BTreeMap::new()),
        "invalid_project: the project has no `headwater.toml`\n  \
         hint: Run `headwater init` to create one."
    );
    let nameless = BTreeMap::from([("headwater.toml".to_owned(), "[project]\n".into())]);
    insta::assert_snapshot!(refusal(&nameless), @r#"
    invalid_project: the key `name` is missing (headwater.toml:1)
      hint: Add `name = "…"`.
    "#);
    let empty = BTreeMap::from([("headwater.toml".to_owned(), "# later\n".into())]);
    insta::assert_snapshot!(refusal(&empty), @r#"
    invalid_project: the table `[project]` is missing (headwater.toml:1)
      hint: Add `[project]`, and `name = "NAME"` below it.
    "#);
}

#[test]
fn a_number_instead_of_text_is_rejected_with_its_spelling() {
    insta::assert_snapshot!(refused("[defaults]\npython = 3.10\n"), @r#"
    invalid_project: the value `3.10` is not text (headwater.toml:4)
      hint: Write `"3.10"`.
    "#);
}

#[test]
fn every_manifest_setting_is_read() {
    let project = support::parse(&files(
        r#"
[defaults]
python = "3.11"
packages = { polars = "1.38.1" }
namespace = "shop"
memory = "512MiB"
timeout = "30s"

[parameters.limit]
type = "int"
default = 3
description = "how many"

[parameters.share]
type = "float"
default = 1

[rates]
currency = "EUR"
cpu_second = 1.5

[[trigger]]
name = "landing"
files = { folder = "in" }
import = { table = "rows" }

[[trigger]]
name = "nightly"
schedule = { cron = "0 3 * * *", timezone = "Europe/Paris" }
run = true
parameters = { limit = "5" }
"#,
        &[],
    ))
    .unwrap();
    assert_eq!(project.name, "test");
    assert_eq!(project.defaults.python.as_deref(), Some("3.11"));
    assert_eq!(project.defaults.packages["polars"], "1.38.1");
    assert_eq!(project.defaults.namespace, "shop");
    assert_eq!(project.defaults.memory_bytes, Some(512 << 20));
    assert_eq!(project.defaults.timeout, Some(Duration::from_secs(30)));
    assert_eq!(project.parameters["limit"].default, Some(json!(3)));
    assert_eq!(project.parameters["share"].default, Some(json!(1.0)));
    assert_eq!(project.parameters["limit"].at.to_string(), "headwater.toml:11");
    assert_eq!((project.rates.currency.as_str(), project.rates.cpu_second), ("EUR", 1.5));
    let names: Vec<_> = project.triggers.iter().map(|trigger| trigger.name.as_str()).collect();
    assert_eq!(names, ["landing", "nightly"]);
}

#[test]
fn invalid_manifest_settings_are_rejected_with_their_line() {
    insta::assert_snapshot!(refused("[defalts]\n"), @r"
    invalid_project: unknown key `defalts` (headwater.toml:3)
      hint: Did you mean `defaults`?
    ");
    insta::assert_snapshot!(refused("[defaults]\nmemry = \"1GiB\"\n"), @r"
    invalid_project: unknown key `memry` (headwater.toml:4)
      hint: Did you mean `memory`?
    ");
    insta::assert_snapshot!(refused("[defaults]\nmemory = \"lots\"\n"), @r"
    invalid_project: `lots` is not a size (headwater.toml:4)
      hint: Write a number with a unit, such as `512MiB`.
    ");
    insta::assert_snapshot!(refused("[defaults]\ntimeout = \"soon\"\n"), @r"
    invalid_project: `soon` is not a duration (headwater.toml:4)
      hint: Write a number with a unit, such as `30s` or `10min`.
    ");
    insta::assert_snapshot!(refused("[defaults]\nnamespace = \"a..b\"\n"), @r"
    invalid_project: `a..b` is not a usable namespace name: the namespace has an empty level (headwater.toml:4)
      hint: Choose a valid name, as in `orders`, `my-orders` or `sales.orders`.
    ");
    insta::assert_snapshot!(refused("[parameters.p]\ntype = \"integer\"\n"), @r"
    invalid_project: the value of a key is invalid: `integer` is not one of `str`, `int`, `float`, `bool` (headwater.toml:4)
      hint: Did you mean `int`?
    ");
    insta::assert_snapshot!(refused("[parameters.p]\ntype = \"int\"\ndefault = \"x\"\n"), @r#"
    invalid_project: parameter `p` must be a whole number, not `"x"` (headwater.toml:3)
      hint: Change the default or the type.
    "#);
    insta::assert_snapshot!(refused("[rates]\ncpu_secnd = 1.0\n"), @r"
    invalid_project: unknown key `cpu_secnd` (headwater.toml:4)
      hint: Did you mean `cpu_second`?
    ");
    insta::assert_snapshot!(refused("[rates]\n\ncpu_second = -1\n"), @r"
    invalid_project: `cpu_second` in `[rates]` is `-1`, which is not a price (headwater.toml:5)
      hint: Write a number of at least 0, such as `0.00002`.
    ");
    insta::assert_snapshot!(refused("[rates]\ngib_read = \"cheap\"\n"), @r#"
    invalid_project: `gib_read` in `[rates]` is `"cheap"`, which is not a price (headwater.toml:4)
      hint: Write a number of at least 0, such as `0.00002`.
    "#);
    insta::assert_snapshot!(refused("[rates]\ncurrency = 7\n"), @r#"
    invalid_project: `currency` in `[rates]` is `7`, which is not text (headwater.toml:4)
      hint: Write a currency code such as `"EUR"`.
    "#);
    insta::assert_snapshot!(refused("name = \"twice\"\n"), @r"
    invalid_project: duplicate key (headwater.toml:3)
      hint: Correct the file; docs/projects.md shows its keys.
    ");
    insta::assert_snapshot!(refused("[[trigger]]\nname = \"t\"\nrun = true\n"), @r"
    invalid_project: trigger `t` cannot be used: it needs exactly one of `files`, `bucket`, `schedule`, `tables`, `merges`, `jobs`, `queue`, `postgres`, `nats` and `kafka` (headwater.toml:3)
      hint: Give the trigger one source, such as `files` or `schedule`.
    ");
    insta::assert_snapshot!(refused("[[trigger]]\nname = \"t\"\nfiles = { foldr = \"in\" }\nrun = true\n"), @r"
    invalid_project: unknown key `foldr` (headwater.toml:5)
      hint: Did you mean `folder`?
    ");
    insta::assert_snapshot!(refused("[[trigger]]\nname = \"t\"\nfiles = { folder = \"in\" }\nrun = true\n\
         parameters = { file = \"{file}\" }\n"), @r"
    invalid_project: trigger `t` sets parameter `file`, which the project does not declare (headwater.toml:3)
      hint: There are no parameters.
    ");
}

const QUERY: (&str, &str) = ("m.sql", "SELECT $limit AS a, $name AS b, $on AS c");
const PARAMETERS: &str = "[parameters]\n\
    limit = { type = \"int\" }\n\
    name = { default = \"x\" }\n\
    on = { type = \"bool\", required = false }\n\
    share = { type = \"float\", default = 0.5 }\n";

fn values(given: &[(&str, &str)]) -> String {
    let project = support::parse(&files(PARAMETERS, &[QUERY])).unwrap();
    let given = given.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    match project.parameter_values(&given) {
        Ok(values) => json!(values).to_string(),
        Err(error) => shown(&error.to_problem()),
    }
}

#[test]
fn parameters_are_read_as_their_types() {
    assert_eq!(values(&[("limit", "7")]), r#"{"limit":7,"name":"x","on":null,"share":0.5}"#);
    assert_eq!(
        values(&[("limit", "-7"), ("name", "y"), ("on", "true")]),
        r#"{"limit":-7,"name":"y","on":true,"share":0.5}"#
    );
    insta::assert_snapshot!(values(&[]), @r"
    invalid_argument: parameter `limit` has no value, and `m` uses it (m.sql:1)
      hint: Set the value with `--param limit=VALUE`.
    ");
    insta::assert_snapshot!(values(&[("limit", "7.5")]), @r"
    invalid_argument: parameter `limit` must be a whole number, not `7.5`
      hint: Set a value of this type, or change the type in headwater.toml.
    ");
    insta::assert_snapshot!(values(&[("limit", "7"), ("on", "perhaps")]), @r"
    invalid_argument: parameter `on` must be `true` or `false`, not `perhaps`
      hint: Set a value of this type, or change the type in headwater.toml.
    ");
    insta::assert_snapshot!(values(&[("limit", "7"), ("nam", "y")]), @r"
    invalid_argument: the project does not declare a parameter `nam`
      hint: Did you mean `name`?
    ");
    insta::assert_snapshot!(values(&[("limit", "7"), ("day", "y")]), @r"
    invalid_argument: the project does not declare a parameter `day`
      hint: Declare the parameter as `[parameters.day]` in headwater.toml.
    ");
    insta::assert_snapshot!(values(&[("limit", "7"), ("share", "1")]), @r"
    invalid_argument: parameter `share` is given, but no model and no expectation uses it
      hint: Remove `--param share=…`, or use the parameter in a model.
    ");
}

#[test]
fn the_example_rate_card_charges_like_aws_lambda() {
    let card = include_str!("../../../../examples/rates/aws-lambda.toml");
    let rates = support::parse(&files(card, &[])).expect("a project").rates;
    // A million calls of 100 ms with 512 MiB are 50,000 GB-seconds.
    let call = Usage {
        wall_ms: 100,
        memory_bytes_peak: 512 << 20,
        cpu_us: 70_000,
        bytes_read: 1 << 30,
        calls: 1,
        ..Usage::default()
    };
    let million = 1e6 * rates.cost(&call);
    assert!((million - (0.20 + 50_000.0 * 0.000_016_666_7)).abs() < 1e-6, "{million}");
}
