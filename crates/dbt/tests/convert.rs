//! Conversion of dbt projects.

use std::collections::BTreeMap;
use std::path::Path;

use headwater_dbt::{ConvertedProject, Seed, convert};

fn read(folder: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, root, files);
        } else {
            let name =
                path.strip_prefix(root).ok().and_then(Path::to_str).expect("a path").to_owned();
            files.insert(name, std::fs::read_to_string(&path).expect("a file"));
        }
    }
}

fn converted(files: &[(&str, &str)]) -> ConvertedProject {
    let project = [("dbt_project.yml", "name: shop\nvars: {least: 3}\n")];
    let files = project.iter().chain(files);
    convert(&files.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
        .expect("a project")
}

fn notes(conversion: &ConvertedProject) -> Vec<String> {
    conversion.notes.iter().map(|note| format!("{}: {}", note.at, note.message)).collect()
}

#[test]
fn a_project_with_seeds_models_and_tests_is_converted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/dbt_shop");
    let mut files = BTreeMap::new();
    read(&root, &root, &mut files);
    let conversion = convert(&files).unwrap();
    assert_eq!((conversion.name.as_str(), conversion.models), ("shop", 6));
    insta::assert_snapshot!(conversion.files["models/staged_orders.sql"], @r"
    -- Orders with products in lower case.
    -- headwater: materialization = view
    -- A view over a seed.
    select id, customer, lower(product) as product, price, day
    from orders
    ");
    insta::assert_snapshot!(conversion.files["models/daily.sql"], @r"
    -- headwater: materialization = merge
    -- headwater: keys = day
    select day, count(*) as orders, sum(price) as total
    from staged_orders

    group by day
    ");
    let seeds: Vec<&str> = conversion.seeds.iter().map(|seed| seed.table.as_str()).collect();
    assert_eq!(seeds, ["customers", "orders"]);
    let types = [("id", "long"), ("customer", "long"), ("price", "decimal(10,2)")];
    let types = types.map(|(column, kind)| (column.to_owned(), kind.to_owned())).to_vec();
    let path = "seeds/orders.csv".to_owned();
    assert_eq!(conversion.seeds[1], Seed { table: "orders".to_owned(), path, types });
    let code = &conversion.files["expectations/expectations.py"];
    for part in [
        "def unique_staged_orders_id(",
        "def not_null_staged_orders_id(",
        "expectations.expect_column_accepted_values(rows, \"product\", [\"tea\", \"cup\", \"pot\"])",
        "def relationships_staged_orders_customer(",
        "others=headwater.Model(\"customers\", columns=[\"id\"])",
        "def no_free_orders_is_empty(",
    ] {
        assert!(code.contains(part), "{part}\n{code}");
    }
    let notes = notes(&conversion);
    assert!(notes.iter().any(|note| note.starts_with("snapshots/customers.yml: ")), "{notes:?}");
}

#[test]
fn templates_are_rendered_as_in_a_first_run() {
    let sources =
        "sources: [{name: raw, schema: landing, tables: [{name: events, identifier: ev}]}]";
    let conversion = converted(&[
        ("models/sources.yml", sources),
        ("macros/cents.sql", "{% macro cents(c) %}\n  {{ c }} / 100\n{% endmacro %}\n"),
        (
            "models/staging/a.sql",
            "{{ config(materialized='table', tags=['x', 'y']) }}\n{# comment #}\n\
             {%- set columns = ['a', 'b'] -%}\nselect\n{%- for c in columns %}\n  {{ c }},\n\
             {%- endfor %}\n  {{ cents('price') }} as euros\nfrom {{ source('raw', 'events') }}\n\
             where n > {{ var('least') }} and m > {{ var('most', 7) }};\n",
        ),
    ]);
    assert_eq!(notes(&conversion), [""; 0]);
    let text = conversion.files["models/staging/a.sql"].split_whitespace().collect::<Vec<_>>();
    let expected = "-- headwater: materialization = replace -- headwater: tags = x, y select a, b, \
                    price / 100 as euros from landing.ev where n > 3 and m > 7";
    assert_eq!(text.join(" "), expected);
}

#[test]
fn incremental_models_keep_their_meaning() {
    let incremental = |settings: &str, from: &str| {
        format!("{{{{ config(materialized='incremental'{settings}) }}}}\nselect * from {from}")
    };
    let source = "{{ source('raw', 'events') }}";
    for (settings, from, expected) in [
        (", unique_key=['a', 'b']", source, "materialization = merge\n-- headwater: keys = a, b"),
        ("", source, "materialization = append\n-- headwater: incremental = raw.events"),
        ("", "{{ ref('other') }}", "materialization = replace"),
        (
            ", incremental_strategy='insert_overwrite', partition_by={'field': 'day'}",
            source,
            "materialization = overwrite_partitions\n-- headwater: partition_by = day",
        ),
    ] {
        let sources = "sources: [{name: raw, tables: [{name: events}]}]";
        let model = incremental(settings, from);
        let conversion = converted(&[("models/s.yml", sources), ("models/m.sql", &model)]);
        let text = &conversion.files["models/m.sql"];
        assert!(text.starts_with(&format!("-- headwater: {expected}\nselect")), "{text}");
    }
}

#[test]
fn references_to_a_model_with_an_alias_use_the_alias() {
    let properties = "
models:
  - {name: a, columns: [{name: x, tests: [unique]}]}
  - {name: b, columns: [{name: x, tests: [{relationships: {to: \"ref('a')\", field: x}}]}]}
";
    let seeds =
        "seeds: [{name: raw, config: {alias: imported}, columns: [{name: x, tests: [unique]}]}]";
    let table = "{{ config(materialized='table') }}\n";
    let conversion = converted(&[
        ("seeds/raw.csv", "x\n1\n"),
        ("seeds/schema.yml", seeds),
        ("models/schema.yml", properties),
        ("models/b.sql", &format!("{table}select x from {{{{ ref('shop', 'a') }}}}")),
        ("models/c.sql", &format!("{table}select x from {{{{ ref('raw') }}}}")),
        ("models/a.sql", "{{ config(materialized='table', alias='sales') }}\nselect 1 as x"),
        ("models/d.sql", "{{ config(materialized='ephemeral', alias='parts') }}\nselect 1 as x"),
        ("models/e.sql", "select x from {{ ref('d') }}"),
        ("tests/none.sql", "select x from {{ ref('a') }} where x > 1"),
    ]);
    let text = |path: &str| conversion.files[path].as_str();
    let kind = "-- headwater: materialization = replace\n";
    let named = format!("-- headwater: name = sales\n{kind}select 1 as x\n");
    assert_eq!(text("models/a.sql"), named);
    assert_eq!(text("models/b.sql"), format!("{kind}select x from sales\n"));
    assert_eq!(text("models/c.sql"), format!("{kind}select x from imported\n"));
    assert_eq!(text("models/e.sql"), format!("{kind}select x from parts\n"));
    assert!(text("expectations/none.sql").ends_with("select x from sales where x > 1\n"));
    assert_eq!(conversion.seeds[0].table, "imported");
    let code = text("expectations/expectations.py");
    for part in [
        "rows=headwater.Model(\"sales\", columns=[\"x\"]",
        "others=headwater.Model(\"sales\", columns=[\"x\"])",
        "rows=headwater.Model(\"imported\", columns=[\"x\"]",
    ] {
        assert!(code.contains(part), "{part}\n{code}");
    }
    let note = "models/e.sql: a view that reads the ephemeral model `parts` becomes a table";
    assert_eq!(notes(&conversion), [note]);
}

#[test]
fn an_incremental_model_that_reads_an_append_model_is_also_an_append_model() {
    let sources = "sources: [{name: raw, tables: [{name: events}]}]";
    let model = |settings: &str, from: &str| {
        format!("{{{{ config(materialized='incremental'{settings}) }}}}\nselect * from {from}")
    };
    let conversion = converted(&[
        ("models/s.yml", sources),
        ("models/a.sql", &model("", "{{ ref('b') }}")),
        ("models/b.sql", &model("", "{{ ref('c') }}")),
        ("models/c.sql", &model(", alias='first'", "{{ source('raw', 'events') }}")),
        ("models/d.sql", &model(", unique_key='x'", "{{ ref('b') }}")),
        ("models/e.sql", &model("", "{{ ref('d') }}")),
        ("models/f.sql", &model("", "{{ ref('g') }}")),
        ("models/g.sql", &model("", "{{ ref('f') }}")),
    ]);
    for (model, expected) in [
        ("a", "append\n-- headwater: incremental = b\n"),
        ("b", "append\n-- headwater: incremental = first\n"),
        ("c", "append\n-- headwater: incremental = raw.events\n"),
        ("d", "merge\n-- headwater: keys = x\n"),
        ("e", "replace\n"),
        ("f", "replace\n"),
        ("g", "replace\n"),
    ] {
        let text = &conversion.files[&format!("models/{model}.sql")];
        assert!(text.contains(&format!("-- headwater: materialization = {expected}")), "{text}");
    }
}

#[test]
fn a_view_stays_a_view_unless_it_reads_a_model_that_is_not_stored() {
    let conversion = converted(&[
        ("models/base.sql", "{{ config(materialized='ephemeral') }}\nselect 1 as x"),
        ("models/first.sql", "select x from {{ ref('stored') }}"),
        ("models/second.sql", "{{ config(materialized='view') }}\nselect x from {{ ref('base') }}"),
        ("models/stored.sql", "{{ config(materialized='table') }}\nselect 1 as x"),
    ]);
    for (model, kind) in [("first", "view"), ("second", "replace"), ("base", "none")] {
        let text = &conversion.files[&format!("models/{model}.sql")];
        assert!(text.starts_with(&format!("-- headwater: materialization = {kind}\n")), "{text}");
    }
    let note = "models/second.sql: a view that reads the ephemeral model `base` becomes a table";
    assert_eq!(notes(&conversion), [note]);
}

#[test]
fn parts_that_cannot_be_converted_are_named() {
    let conversion = converted(&[
        ("models/a.sql", "select 1 as x\nfrom {{ dbt_utils.star('b') }}"),
        ("models/b.sql", "select '{{ env_var(\"X\") }}'"),
        ("models/c.sql", "select * from {{ this }}"),
        ("models/d.sql", "{{ config(enabled=false) }} select 1"),
        ("models/e.sql", "select {{ var('nothing') }}"),
        ("models/f.py", "def model(dbt, session): pass"),
        ("models/g.sql", "{% for i in range(10000000) %}x{% endfor %}"),
        (
            "models/t.yml",
            "models: [{name: c, columns: [{name: x, tests: [dbt_utils.not_empty, {unique: {where: a}}]}]}]",
        ),
        ("packages.yml", "packages: []"),
    ]);
    let notes = notes(&conversion);
    for part in [
        "models/a.sql:2: not converted",
        "models/b.sql:1: not converted",
        "models/c.sql: the model reads its own table",
        "models/d.sql: the model is disabled",
        "models/e.sql:1: not converted: the variable `nothing` has no value",
        "models/f.py: Python models of dbt are not converted",
        "models/g.sql",
        "models/t.yml: `c`: the test `dbt_utils.not_empty` has no equivalent in Headwater",
        "models/t.yml: `c`: the test `unique` uses `where`",
        "packages.yml: packages are not converted",
    ] {
        assert!(notes.iter().any(|note| note.starts_with(part)), "{part}\n{notes:#?}");
    }
    let missing = convert(&BTreeMap::new()).unwrap_err();
    assert_eq!(missing.to_string(), "the folder has no `dbt_project.yml`");
}
