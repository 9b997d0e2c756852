//! The first run of a shop of 12 SQL models, compared with dbt-duckdb and SQLMesh.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::edit::RunTimes;
use crate::Outcome;
use crate::commands::{TimedCommand, headwater, run};
use crate::python_engine::environment_with;
use crate::report::{Report, duration};
use crate::sample::median;

const SAMPLES: usize = 5;

/// Tables of the source.
const SOURCES: [(&str, &str); 4] = [
    (
        "raw_customers",
        "SELECT value AS id, 'customer ' || value AS name, value % 20 AS city \
         FROM generate_series(1, 2000) AS t(value)",
    ),
    (
        "raw_products",
        "SELECT value AS id, 'product ' || value AS name, value % 50 + 1 AS price \
         FROM generate_series(1, 200) AS t(value)",
    ),
    (
        "raw_orders",
        "SELECT value AS id, value % 2000 + 1 AS customer, value % 365 AS day \
         FROM generate_series(1, 20000) AS t(value)",
    ),
    (
        "raw_items",
        "SELECT value AS id, value % 20000 + 1 AS order_id, value % 200 + 1 AS product, \
         value % 3 + 1 AS count FROM generate_series(1, 60000) AS t(value)",
    ),
];

/// The models: name and query. `{name}` in a query refers to another model.
const MODELS: [(&str, &str); 12] = [
    ("customers", "SELECT id, upper(name) AS name, city FROM raw_customers"),
    ("products", "SELECT id, upper(name) AS name, price FROM raw_products"),
    ("orders", "SELECT id, customer, day, day / 30 AS month FROM raw_orders WHERE id > 10"),
    ("items", "SELECT id, order_id, product, count FROM raw_items WHERE count > 0"),
    (
        "priced_items",
        "SELECT i.id, i.order_id, i.product, i.count, i.count * p.price AS amount \
         FROM {items} i JOIN {products} p ON p.id = i.product",
    ),
    (
        "order_totals",
        "SELECT o.id, o.customer, o.day, o.month, sum(i.amount) AS amount, count(*) AS items \
         FROM {orders} o JOIN {priced_items} i ON i.order_id = o.id \
         GROUP BY o.id, o.customer, o.day, o.month",
    ),
    (
        "customer_totals",
        "SELECT customer, sum(amount) AS amount, count(*) AS orders, min(day) AS first_day \
         FROM {order_totals} GROUP BY customer",
    ),
    (
        "customer_value",
        "SELECT c.id, c.name, c.city, t.amount, t.orders \
         FROM {customers} c LEFT JOIN {customer_totals} t ON t.customer = c.id",
    ),
    (
        "daily",
        "SELECT day, sum(amount) AS amount, count(*) AS orders FROM {order_totals} GROUP BY day",
    ),
    ("monthly", "SELECT month, sum(amount) AS amount FROM {order_totals} GROUP BY month"),
    (
        "product_sales",
        "SELECT p.name, sum(i.amount) AS amount, rank() OVER (ORDER BY sum(i.amount) DESC) AS place \
         FROM {priced_items} i JOIN {products} p ON p.id = i.product GROUP BY p.name",
    ),
    ("cities", "SELECT city, sum(amount) AS amount FROM {customer_value} GROUP BY city"),
];

/// Returns a model's query, with references to other models in the syntax of a tool.
fn query(sql: &str, form: impl Fn(&str) -> String) -> String {
    MODELS
        .iter()
        .fold(sql.to_owned(), |sql, (name, _)| sql.replace(&format!("{{{name}}}"), &form(name)))
}

/// Measures the first run of the shop, and adds the results to the report.
pub fn measure(report: &mut Report) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let (mut totals, mut overheads) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let project = folder.path().join(format!("shop{sample}"));
        run(headwater(folder.path()).arg("init").arg(&project))?;
        let times = first_run(&project);
        run(headwater(&project).arg("stop"))?;
        let times = times?;
        totals.push(times.total);
        overheads.push(times.overhead());
    }
    let total = median(totals);
    let reference = format!("the whole run {}", duration(total));
    let bound = Duration::from_millis(400);
    report.time("a shop of 12 models, beyond its SQL", median(overheads), &reference, bound);
    for (name, took) in [("dbt-duckdb", dbt(folder.path())), ("SQLMesh", sqlmesh(folder.path()))] {
        match took {
            Ok(took) => report.unbounded_ratio("a shop of 12 models", total, (name, took)),
            Err(error) => {
                let text = format!("{name} was not measured: {error}");
                report.plain("a shop of 12 models", &duration(total), &text, "");
            }
        }
    }
    Ok(())
}

fn first_run(project: &Path) -> Outcome<RunTimes> {
    for (name, sql) in SOURCES {
        run(headwater(project).args(["query", &format!("CREATE TABLE {name} AS {sql}")]))?;
    }
    for (name, sql) in MODELS {
        let text =
            format!("-- headwater: materialization = replace\n{}\n", query(sql, str::to_owned));
        std::fs::write(project.join(format!("models/{name}.sql")), text)?;
    }
    RunTimes::of(headwater(project).arg("run"))
}

/// Creates the database file of DuckDB with the source tables.
fn database(python: &Path, file: &Path) -> Outcome<()> {
    let _ = std::fs::remove_file(file);
    let statements = SOURCES.map(|(name, sql)| format!("CREATE TABLE {name} AS {sql};")).concat();
    let code = "import sys, duckdb; duckdb.connect(sys.argv[1]).execute(sys.argv[2])";
    run(Command::new(python).args(["-c", code]).arg(file).arg(statements))
}

fn dbt(folder: &Path) -> Outcome<Duration> {
    let python = environment_with(&folder.join("dbt"), &["dbt-core==1.11.16", "dbt-duckdb"])?;
    let (project, file) = (folder.join("dbt-shop"), folder.join("dbt.duckdb"));
    std::fs::create_dir_all(project.join("models"))?;
    std::fs::write(project.join("dbt_project.yml"), "name: shop\nprofile: shop\nversion: '1.0'\n")?;
    let target = format!("{{type: duckdb, path: '{}', threads: 2}}", file.display());
    let profile = format!("shop: {{target: dev, outputs: {{dev: {target}}}}}\n");
    std::fs::write(project.join("profiles.yml"), profile)?;
    for (name, sql) in MODELS {
        let sql = query(sql, |name| format!("{{{{ ref('{name}') }}}}"));
        let text = format!("{{{{ config(materialized='table') }}}}\n{sql}\n");
        std::fs::write(project.join(format!("models/{name}.sql")), text)?;
    }
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        database(&python, &file)?;
        let mut command = Command::new(python.with_file_name("dbt"));
        command.args(["run", "--quiet"]).current_dir(&project);
        times.push(command.env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false").timed()?);
    }
    Ok(median(times))
}

fn sqlmesh(folder: &Path) -> Outcome<Duration> {
    let python = environment_with(&folder.join("sqlmesh"), &["sqlmesh==0.236.4"])?;
    let (project, file) = (folder.join("sqlmesh-shop"), folder.join("sources.duckdb"));
    std::fs::create_dir_all(project.join("models"))?;
    let config = format!(
        "gateways:\n  local:\n    connection: {{type: duckdb, database: '{}'}}\n\
         default_gateway: local\nmodel_defaults: {{dialect: duckdb}}\n",
        file.display()
    );
    std::fs::write(project.join("config.yaml"), config)?;
    for (name, sql) in MODELS {
        let sql = query(sql, |name| format!("shop.{name}"));
        let text = format!("MODEL (name shop.{name}, kind FULL);\n\n{sql}\n");
        std::fs::write(project.join(format!("models/{name}.sql")), text)?;
    }
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        database(&python, &file)?;
        let mut command = Command::new(python.with_file_name("sqlmesh"));
        command.args(["plan", "--auto-apply", "--no-prompts"]).current_dir(&project);
        times.push(command.env("SQLMESH__DISABLE_ANONYMIZED_ANALYTICS", "true").timed()?);
    }
    Ok(median(times))
}
