//! `bauplan_project.yml`: every setting, and errors with their line.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_project::{ParameterKind, Project};
use serde_json::json;

use crate::support::{self, bauplan_files, files, refusal};

fn parse(manifest: &str) -> Project {
    support::parse(&bauplan_files(manifest, &[])).unwrap()
}

#[test]
fn every_setting_is_read() {
    let project = parse(
        "\
parameters:
  city:
    default: Rome
    description: of the trips
  size: {type: int, default: 3}
  share: {type: float, default: 1}
  fast: {type: bool, default: true}
  day: {type: str, required: true}
  size_max:
    type: int
  token:
    type: secret
    default: kUb64CIPHERTEXT=
    key: awskms:///arn:aws:kms:eu-west-1:1:key/1
  vaulted: {type: vault, default: 'awsssm:///arn:aws:ssm:eu-west-1:1:parameter/p'}
defaults:
  python:
    version: 3.10
    packages:
      - {name: polars, version: 1.37}
      - name: pandas
        version: '2'
  namespace: rides
  timeout: 90
",
    );
    assert_eq!(project.name, "taxis");
    let defaults = &project.defaults;
    assert_eq!(defaults.python.as_deref(), Some("3.10"), "as written");
    assert_eq!(defaults.python_at.as_ref().unwrap().to_string(), "bauplan_project.yml:21");
    let packages: Vec<_> = defaults.packages.iter().map(|(a, b)| format!("{a} {b}")).collect();
    assert_eq!(packages, ["pandas 2", "polars 1.37"]);
    assert_eq!(defaults.namespace, "rides");
    assert_eq!(defaults.timeout, Some(Duration::from_secs(90)));
    let parameter = |name: &str| {
        let parameter = &project.parameters[name];
        (parameter.kind, parameter.default.clone(), parameter.required)
    };
    assert_eq!(parameter("city"), (ParameterKind::Str, Some(json!("Rome")), false));
    assert_eq!(parameter("size"), (ParameterKind::Int, Some(json!(3)), false));
    assert_eq!(parameter("share"), (ParameterKind::Float, Some(json!(1.0)), false));
    assert_eq!(parameter("fast"), (ParameterKind::Bool, Some(json!(true)), false));
    assert_eq!(parameter("day"), (ParameterKind::Str, None, true));
    assert_eq!(parameter("size_max"), (ParameterKind::Int, None, false));
    assert_eq!(parameter("token"), (ParameterKind::Secret, None, false));
    assert_eq!(parameter("vaulted"), (ParameterKind::Secret, None, false));
    assert_eq!(project.parameters["size"].at.to_string(), "bauplan_project.yml:8");
}

#[test]
fn defaults_are_those_of_bauplan() {
    let project = parse("");
    assert_eq!(project.defaults.namespace, "bauplan");
    let nameless = "project: {id: 6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11}\nparameters:\ndefaults:\n";
    let files = BTreeMap::from([("bauplan_project.yaml".to_owned(), nameless.into())]);
    let project = support::parse(&files).unwrap();
    assert_eq!(project.name, "6f1f0a52-7c2e-4f0e-9a35-0d5f5f2b7c11");
}

#[test]
fn mistakes_are_refused_with_their_line() {
    let cases = [
        (
            "parametrs: {}",
            "unknown key `parametrs` (bauplan_project.yml:4)\n  hint: Did you mean `parameters`?",
        ),
        (
            "parameters: {p: {type: integer}}",
            "the value of a key is invalid: `integer` is not one of `str`, `int`, `float`, `bool`, \
             `secret`, `vault` (bauplan_project.yml:4)\n  hint: Did you mean `int`?",
        ),
        (
            "parameters:\n  p: {type: int, default: x}",
            "parameter `p` must be a whole number, not `\"x\"` (bauplan_project.yml:5)\n  hint: Change the default or the type.",
        ),
        (
            "parameters:\n  p: {default: 1.10}",
            "parameter `p` must be a text, not `1.1` (bauplan_project.yml:5)\n  hint: Write the \
             value in quotes, or set `type` of `p`.",
        ),
        (
            "parameters: {p: {typ: int}}",
            "unknown key `typ` (bauplan_project.yml:4)\n  hint: Did you mean `type`?",
        ),
        ("parameters: {p: {}, p: {}}", "the key `p` appears twice (bauplan_project.yml:4)"),
        ("defaults: {timeout: soon}", "`soon` is not a duration (bauplan_project.yml:4)"),
        ("defaults: {namespace: a..b}", "`a..b` is not a usable namespace name"),
        (
            "defaults: {python: {packages: [{name: x}]}}",
            "the key `version` is missing (bauplan_project.yml:4)\n  hint: Add `version:`.",
        ),
        (
            "include_paths: [views/a.py]",
            "`include_paths` cannot contain `views/a.py`: the path does not end in `.sql` (bauplan_project.yml:4)",
        ),
        ("include_paths: [/etc/a.sql]", "the path is not relative to the project's folder"),
        (
            "include_paths:\n  - ok.sql\n  - a/../../b.sql",
            "the path leaves the project's folder with `..` (bauplan_project.yml:6)",
        ),
        ("include_paths: ['[.sql']", "`include_paths` cannot contain `[.sql`"),
        (
            "include_paths: [views/*.sql]",
            "the project has no file that matches `views/*.sql` (bauplan_project.yml:4)\n  hint: \
             Correct the path, or remove it from `include_paths`.",
        ),
        ("x: [", "(bauplan_project.yml:"),
        ("a: &a [1,1]\nb: &b [*a,*a,*a]", "unknown key `a`"),
    ];
    for (manifest, expected) in cases {
        let refused = refusal(&bauplan_files(manifest, &[]));
        assert!(refused.contains(expected), "{manifest}\n{refused}");
    }
}

#[test]
fn hostile_files_are_refused() {
    let bomb = |n: usize| format!("a{n}: &a{n} [*a{m}, *a{m}]\n", m = n - 1);
    let bomb: Vec<String> = (1..40).map(bomb).collect();
    for manifest in [
        format!("x: {}", "[".repeat(200_000)),
        format!("a0: &a0 [x]\n{}", bomb.concat()),
        format!("parameters: {{p: {{default: {}}}}}", "[".repeat(100_000)),
        "parameters: {p: {type: float, default: .nan}}".to_owned(),
        "\u{0}".to_owned(),
        "x: !!binary ////".to_owned(),
        "<<: *nothing".to_owned(),
        "--- a\n--- b\n".to_owned(),
    ] {
        let refused = refusal(&bauplan_files(&manifest, &[]));
        let start: String = manifest.chars().take(40).collect();
        assert!(refused.starts_with("invalid_project: "), "{start}\n{refused}");
        assert!(refused.contains("(bauplan_project.yml:"), "{start}\n{refused}");
        assert!(refused.len() < 1_000, "{start}\n{} bytes", refused.len());
    }
}

#[test]
fn a_project_has_one_file_with_an_id() {
    let mut two = bauplan_files("", &[]);
    two.insert("bauplan_project.yaml".to_owned(), two["bauplan_project.yml"].clone());
    insta::assert_snapshot!(refusal(&two), @r"
    invalid_project: the project has two project files, `bauplan_project.yml` and `bauplan_project.yaml` (bauplan_project.yaml:1)
      hint: Keep one of the files.
    ");
    let mut both = bauplan_files("", &[]);
    both.extend(files("", &[]));
    assert!(refusal(&both).contains("`headwater.toml` and `bauplan_project.yml`"));
    let one = |text: &str| BTreeMap::from([("bauplan_project.yml".to_owned(), text.into())]);
    assert!(refusal(&one("project: {name: x}")).contains("the key `id` is missing"));
    assert!(
        refusal(&one("project: {id: seven}"))
            .contains("the project's `id` must be a UUID, not `seven`")
    );
    assert!(refusal(&one("")).contains("(bauplan_project.yml:1)"));
}

#[test]
fn models_are_the_files_of_the_folder_and_those_included() {
    let others = [
        ("top.sql", "SELECT 1 AS a"),
        ("views/daily.sql", "SELECT 2 AS a"),
        ("views/old/weekly.sql", "SELECT 3 AS a"),
        ("scratch/draft.sql", "SELEC"),
        ("lib/broken.py", "def ("),
    ];
    let project =
        support::parse(&bauplan_files("include_paths: [./views/*.sql]\n", &others)).unwrap();
    let names: Vec<_> = project.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["top", "daily"]);
    assert_eq!(project.steps[0].table.namespace, "bauplan");
}

#[test]
fn parameters_that_are_not_declared_are_refused() {
    let undeclared = [("m.sql", "SELECT $nothing AS n")];
    insta::assert_snapshot!(refusal(&bauplan_files("", &undeclared)), @r"
    invalid_project: `m` uses parameter `nothing`, which the project does not declare (m.sql:1)
      hint: Declare `nothing` below `parameters:` in bauplan_project.yml.
    ");
}
