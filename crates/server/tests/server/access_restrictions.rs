//! Tests of row filters and column masks: all ways in which a restricted user can read, and
//! attacks.
//!
//! Hidden rows and values contain the word `secret` or the salary 100; no response to the user may
//! contain either.

use headwater_model::{CredentialSettings, Principal};
use hyper::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::access::{Users, permission};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("access_restrictions::queries_show_visible_rows_and_masked_values", queries),
        trial("access_restrictions::errors_and_plans_reveal_no_hidden_value", errors),
        trial("access_restrictions::they_follow_branches_snapshots_and_renames", follow),
        trial("access_restrictions::a_restricted_user_only_adds_rows", writes),
        trial("access_restrictions::diffs_and_conflicts_show_no_hidden_row", diffs),
        trial("access_restrictions::descriptions_show_no_numbers_of_hidden_rows", descriptions),
        trial("access_restrictions::iceberg_clients_get_no_restricted_table", iceberg),
        trial("access_restrictions::models_compute_what_their_user_sees", models),
        trial("access_restrictions::several_filters_and_roles_are_combined_by_and", combined),
        trial("access_restrictions::definitions_are_checked_and_audited", definitions),
        trial("access_restrictions::a_filter_that_cannot_be_applied_denies_the_read", fails_closed),
        trial("access_restrictions::a_column_that_was_added_again_is_masked", added_again),
        trial("access_restrictions::a_table_of_the_same_name_keeps_its_name", renamed_again),
    ]
}

/// All possible grants on tables, views and branches, without administration.
const GRANTS: [&str; 5] = [
    "select,insert,update,delete,create,alter,drop on namespace:*",
    "select,create,alter,drop on view:*",
    "read,write,merge,create,alter,drop on branch:*",
    "run on project:*",
    "create on namespace:*",
];

/// A lake with `hr.staff`. The user `ana` sees two of its six rows, with masked salaries.
struct Staff {
    users: Users,
    ana: String,
    root: String,
}

impl Staff {
    async fn start() -> Self {
        let users = Users::start().await;
        let ana = users.user("ana", &GRANTS).await;
        let root = users.user("root", &["administer on lake"]).await;
        let staff = Staff { users, ana, root };
        for sql in [
            "CREATE SCHEMA hr",
            "CREATE TABLE hr.staff AS SELECT * FROM (VALUES \
             (1, 'EU', 'ada', 100), (2, 'EU', 'bob', 200), (3, 'US', 'secret1', 300), \
             (4, 'US', 'secret2', 100), (5, 'AP', 'secret3', 0), (6, NULL, 'secret4', 50)) \
             AS t (id, region, name, salary)",
            "CREATE VIEW hr.everyone AS SELECT * FROM hr.staff",
            "CREATE ROW FILTER eu ON hr.staff USING (region = 'EU')",
            "CREATE COLUMN MASK pay ON hr.staff (salary) USING (CASE WHEN is_member('hr') \
             THEN salary END)",
        ] {
            staff.owner(sql).await;
        }
        staff
    }

    async fn owner(&self, sql: &str) -> Value {
        let (status, answer) = self.users.sql_at(&self.root, "main", sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        answer
    }

    /// Runs a statement as the restricted user.
    async fn at(&self, reference: &str, sql: &str) -> (u16, Value) {
        let (status, answer) = self.users.sql_at(&self.ana, reference, sql).await;
        assert!(!answer.to_string().contains("secret"), "{sql}: {answer}");
        (status.as_u16(), answer)
    }

    async fn check(&self, sql: &str, expected: Value) {
        let (status, answer) = self.at("main", sql).await;
        assert_eq!((status, &answer), (200, &expected), "{sql}");
    }

    async fn refused(&self, reference: &str, sql: &str) -> Value {
        let (status, answer) = self.at(reference, sql).await;
        assert_eq!(status, 403, "{sql}: {answer}");
        answer
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, answer) = self.users.get(&self.ana, path).await;
        assert!(!answer.to_string().contains("secret"), "{path}: {answer}");
        (status, answer)
    }
}

async fn queries() {
    let staff = Staff::start().await;
    let both = json!([{"id": 1, "name": "ada"}, {"id": 2, "name": "bob"}]);
    for sql in [
        "SELECT id, name FROM hr.staff ORDER BY id",
        "SELECT id, name FROM hr.everyone ORDER BY id",
        "SELECT id, name FROM hr.STAFF WHERE id > 0 OR region IS NULL ORDER BY id",
        "WITH s AS (SELECT * FROM hr.staff) SELECT id, name FROM s ORDER BY id",
        "SELECT a.id, b.name FROM hr.staff a JOIN hr.staff b ON a.id = b.id ORDER BY 1",
        "SELECT id, name FROM hr.staff UNION SELECT id, name FROM hr.everyone ORDER BY id",
        "SELECT id, name FROM hr.staff ORDER BY salary DESC NULLS LAST, id LIMIT 5",
    ] {
        staff.check(sql, both.clone()).await;
    }
    staff.check("SELECT count(*) AS n FROM hr.staff", json!([{"n": 2}])).await;
    staff
        .check("SELECT count(*) AS n, max(id) AS m FROM hr.staff", json!([{"n": 2, "m": 2}]))
        .await;
    staff.check("SELECT min(id) AS a, max(id) AS b FROM hr.staff", json!([{"a": 1, "b": 2}])).await;
    staff.check("SELECT max(salary) AS m FROM hr.staff", json!([{"m": null}])).await;
    staff.check("SELECT id FROM hr.staff WHERE salary = 100", json!([])).await;
    staff.check("SELECT count(*) AS n FROM hr.staff WHERE region <> 'EU'", json!([{"n": 0}])).await;
    let exists = "SELECT 1 AS x WHERE EXISTS (SELECT 1 FROM hr.staff WHERE region = 'US')";
    staff.check(exists, json!([])).await;
    let (_, summary) = staff.at("main", "SUMMARIZE hr.staff").await;
    assert!(!summary.to_string().contains("US"), "{summary}");
    // A copy contains the rows and values that the user could see.
    staff.at("main", "CREATE TABLE shop.copy AS SELECT * FROM hr.staff").await;
    let copied = "SELECT count(*) AS n, count(salary) AS s FROM shop.copy";
    assert_eq!(staff.owner(copied).await, json!([{"n": 2, "s": 0}]));
    staff.at("main", "INSERT INTO shop.items SELECT salary FROM hr.staff").await;
    let items = "SELECT count(*) AS n, count(id) AS s FROM shop.items";
    assert_eq!(staff.owner(items).await, json!([{"n": 3, "s": 1}]));
    // Administrators see all rows and values. The mask uses `is_member` to show values to members
    // of a role.
    let all = "SELECT count(*) AS n, sum(salary) AS s FROM hr.staff";
    assert_eq!(staff.owner(all).await, json!([{"n": 6, "s": 750}]));
    staff.owner("CREATE ROLE hr").await;
    staff.owner("GRANT hr TO ana").await;
    staff.check(all, json!([{"n": 2, "s": 300}])).await;
}

async fn errors() {
    let staff = Staff::start().await;
    // These expressions would fail only for hidden rows.
    staff.check("SELECT 1 / (id - 3) AS x FROM hr.staff WHERE id = 1", json!([{"x": 0}])).await;
    staff.check("SELECT id FROM hr.staff WHERE 1 / (id - 5) > 9", json!([])).await;
    let cast = "SELECT id FROM hr.staff WHERE CASE WHEN name LIKE 'secret%' \
                THEN CAST(name AS INT) > 0 ELSE id = 2 END";
    staff.check(cast, json!([{"id": 2}])).await;
    staff
        .check("SELECT 1 / (salary - 100) AS x FROM hr.staff WHERE id = 1", json!([{"x": null}]))
        .await;
    for sql in [
        "EXPLAIN SELECT * FROM hr.staff WHERE id = 3",
        "EXPLAIN VERBOSE SELECT * FROM hr.staff WHERE id = 3",
        "EXPLAIN ANALYZE SELECT * FROM hr.staff WHERE id = 3",
    ] {
        let (status, plan) = staff.at("main", sql).await;
        let text = plan.to_string();
        assert_eq!(status, 200, "{plan}");
        assert!(text.contains("RestrictedScanExec") || text.contains("TableScan"), "{plan}");
        for leak in ["'EU'", "EU", ".parquet", "Rows=Exact", "file_groups", "is_member"] {
            assert!(!text.contains(leak), "{leak} in {sql}: {text}");
        }
    }
    // Hidden rows have row ids in format version 3, which would reveal their number.
    let (status, answer) = staff.at("main", "SELECT _row_id FROM hr.staff").await;
    assert_eq!(status, 400, "{answer}");
    // If the expression of a row filter fails, the error does not show the value of the hidden row.
    staff.owner("CREATE ROW FILTER digits ON hr.staff USING (CAST(name AS INT) > 0)").await;
    let answer = staff.refused("main", "SELECT id FROM hr.staff").await;
    assert!(!answer.to_string().contains("ada"), "{answer}");
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("a row filter or column mask failed"), "{answer}");
}

async fn follow() {
    let staff = Staff::start().await;
    let count = "SELECT count(*) AS n FROM hr.staff";
    let two = (200, json!([{"n": 2}]));
    let body = Some(json!({ "name": "dev/ana" }));
    let (status, _) = staff.users.send(&staff.ana, Method::POST, "/v1/branches", body).await;
    assert_eq!(status, 201);
    assert_eq!(staff.at("dev/ana", count).await, two);
    let commits = staff.users.get(&staff.ana, "/v1/refs/main/commits?limit=1").await.1;
    let commit = commits[0]["id"].as_str().expect("a commit");
    assert_eq!(staff.at(&format!("@{commit}"), count).await, two);
    for sql in [
        "SELECT count(*) AS n FROM hr.\"staff@main\"",
        "SELECT count(*) AS n FROM hr.staff AT BRANCH main",
    ] {
        assert_eq!(staff.at("dev/ana", sql).await, two, "{sql}");
    }
    // The user cannot rename the table or its columns. An administrator can rename them, and the
    // restrictions still apply.
    for sql in [
        "ALTER TABLE hr.staff RENAME TO people",
        "ALTER TABLE hr.staff RENAME COLUMN region TO land",
        "ALTER TABLE hr.staff DROP COLUMN region",
        "ALTER TABLE hr.staff ADD COLUMN more INT",
    ] {
        staff.refused("dev/ana", sql).await;
    }
    staff.owner("ALTER TABLE hr.staff RENAME COLUMN region TO land").await;
    staff.owner("ALTER TABLE hr.staff RENAME COLUMN name TO region").await;
    staff.owner("ALTER TABLE hr.staff RENAME COLUMN salary TO pay").await;
    staff
        .check("SELECT count(*) AS n, count(pay) AS p FROM hr.staff", json!([{"n": 2, "p": 0}]))
        .await;
    staff.owner("ALTER TABLE hr.staff RENAME TO people").await;
    staff
        .check("SELECT count(*) AS n, count(pay) AS p FROM hr.people", json!([{"n": 2, "p": 0}]))
        .await;
    staff.refused("main", "DELETE FROM hr.people WHERE id = 3").await;
    staff.refused("main", "DROP TABLE hr.people").await;
    // Restrictions also apply to another table with the same name.
    staff.owner("CREATE TABLE hr.staff AS SELECT 7 AS id, 'US' AS region, 'secret' AS name, 1 AS salary").await;
    staff.check("SELECT * FROM hr.staff", json!([])).await;
}

async fn writes() {
    let staff = Staff::start().await;
    for sql in [
        "UPDATE hr.staff SET name = 'x' WHERE id = 1",
        "DELETE FROM hr.staff WHERE id = 3",
        "DELETE FROM hr.staff",
        "TRUNCATE TABLE hr.staff",
        "MERGE INTO hr.staff t USING (SELECT 3 AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
        "MERGE INTO hr.staff t USING (SELECT 3 AS id) s ON t.id = s.id \
         WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)",
        "INSERT OVERWRITE hr.staff VALUES (1, 'EU', 'x', 1)",
        "CREATE OR REPLACE TABLE hr.staff (id INT)",
        "DROP TABLE hr.staff",
        "ALTER TABLE hr.staff SET TBLPROPERTIES ('a' = 'b')",
    ] {
        let answer = staff.refused("main", sql).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains("row filter `eu`"), "{sql}: {answer}");
    }
    let path = "/v1/branches/main/tables/hr.staff";
    let (status, answer) = staff.users.send(&staff.ana, Method::DELETE, path, None).await;
    assert_eq!(status, 403, "{answer}");
    let (status, _) = staff.at("main", "INSERT INTO hr.staff VALUES (8, 'EU', 'new', 9)").await;
    assert_eq!(status, 200);
    staff.check("SELECT count(*) AS n FROM hr.staff", json!([{"n": 3}])).await;
    assert_eq!(staff.owner("SELECT count(*) AS n FROM hr.staff").await, json!([{"n": 7}]));
}

async fn diffs() {
    let staff = Staff::start().await;
    let body = Some(json!({ "name": "dev" }));
    staff.users.send(&staff.root, Method::POST, "/v1/branches", body).await;
    let on_dev = "UPDATE hr.staff SET name = 'secret9', salary = 1 WHERE id = 3";
    staff.users.sql_at(&staff.root, "dev", on_dev).await;
    staff.users.sql_at(&staff.root, "dev", "INSERT INTO shop.items VALUES (5)").await;
    let path = "/v1/refs/main/diff/dev?rows=10&stats=true";
    let (status, diff) = staff.get(path).await;
    assert_eq!(status, 200, "{diff}");
    let tables = diff["tables"].as_array().expect("tables");
    let hidden = tables.iter().find(|it| it["table"] == "hr.staff").expect("the table");
    assert_eq!((&hidden["rows_after"], &hidden["statistics"]), (&Value::Null, &json!([])));
    assert_eq!((&hidden["files_added"], &hidden["rows"]["rows"]), (&json!(0), &json!([])));
    let shown = tables.iter().find(|it| it["table"] == "shop.items").expect("the table");
    assert_eq!(shown["rows_after"], 2, "{diff}");
    for path in [
        "/v1/refs/main/diff/dev/tables/hr.staff?limit=10",
        "/v1/refs/main/diff/dev/tables/HR.Staff?limit=10",
        "/v1/refs/main/diff/dev/tables/shop.items?to_table=hr.staff",
    ] {
        let (status, answer) = staff.get(path).await;
        assert_eq!(status, 403, "{path}: {answer}");
    }
    staff.owner("UPDATE hr.staff SET name = 'secret8', salary = 2 WHERE id = 3").await;
    let merge = Some(json!({ "source": "dev" }));
    let path = "/v1/branches/main/merge";
    let (status, conflict) = staff.users.send(&staff.ana, Method::POST, path, merge.clone()).await;
    assert_eq!(status, 409, "{conflict}");
    let text = conflict.to_string();
    assert!(!text.contains("secret") && !text.contains("hr.staff"), "{text}");
    let (_, conflict) = staff.users.send(&staff.root, Method::POST, path, merge).await;
    assert!(conflict.to_string().contains("secret8"), "an administrator sees it: {conflict}");
}

async fn descriptions() {
    let staff = Staff::start().await;
    for path in ["/v1/refs/main/tables/hr.staff", "/v1/refs/main/tables?namespace=hr"] {
        let (status, answer) = staff.get(path).await;
        assert_eq!(status, 200, "{answer}");
        let table = answer.get(0).unwrap_or(&answer);
        assert_eq!((&table["rows"], &table["bytes"]), (&json!(0), &json!(0)), "{answer}");
        assert_eq!((&table["restricted"], &table["metadata_location"]), (&json!(true), &json!("")));
        let (_, answer) = staff.users.get(&staff.root, path).await;
        assert_eq!(answer.get(0).unwrap_or(&answer)["rows"], 6, "{answer}");
    }
    let estimate = "SELECT reltuples FROM pg_catalog.pg_class WHERE relname = 'staff'";
    let (_, answer) = staff.at("main", estimate).await;
    assert!(!answer.to_string().contains('6'), "{answer}");
    for sql in ["SELECT * FROM system.files", "SELECT * FROM system.tables", "SHOW ROW FILTERS"] {
        staff.refused("main", sql).await;
    }
    let (_, columns) = staff.at("main", "DESCRIBE hr.staff").await;
    assert_eq!(columns.as_array().map(Vec::len), Some(4), "{columns}");
    let path = "/v1/access/explain?user=ana&action=select&object=table:hr.staff";
    let (_, answer) = staff.get(path).await;
    let expected = json!(["row filter `eu`", "column mask `pay` of column `salary`"]);
    assert_eq!((&answer["allowed"], &answer["restrictions"]), (&json!(true), &expected));
    // The user has the grant `delete`, but a restricted user can only add rows.
    let (_, answer) = staff.get(&path.replace("action=select", "action=delete")).await;
    assert_eq!((&answer["allowed"], &answer["restrictions"]), (&json!(false), &expected));
}

async fn iceberg() {
    let staff = Staff::start().await;
    let path = "/iceberg/v1/main/namespaces/hr/tables/staff";
    assert_eq!(staff.users.get(&staff.root, path).await.0, 200);
    for (method, path, body) in [
        (Method::GET, path.to_owned(), None),
        (Method::GET, format!("{path}/credentials"), None),
        (Method::POST, format!("{path}/plan"), Some(json!({}))),
        (Method::POST, format!("{path}/tasks"), Some(json!({"plan-task": "x.0"}))),
        (Method::POST, path.to_owned(), Some(json!({"requirements": [], "updates": []}))),
        (Method::DELETE, path.to_owned(), None),
        (
            Method::POST,
            "/iceberg/v1/main/tables/rename".to_owned(),
            Some(json!({
                "source": {"namespace": ["hr"], "name": "staff"},
                "destination": {"namespace": ["hr"], "name": "x"},
            })),
        ),
    ] {
        let (status, answer) = staff.users.send(&staff.ana, method.clone(), &path, body).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
        let text = answer.to_string();
        assert!(!text.contains("metadata-location") && !text.contains(".parquet"), "{text}");
    }
}

fn project(sql: &str) -> Value {
    json!({"files": {
        "headwater.toml": "[project]\nname = \"shop\"\n[defaults]\nnamespace = \"shop\"\n",
        "models/copy.sql": format!("-- headwater: materialization = replace\n{sql}\n"),
    }})
}

async fn models() {
    let staff = Staff::start().await;
    let body = project("SELECT id, name, salary FROM hr.staff");
    let run = async |token: &str| staff.users.job(token, "/v1/runs", body.clone()).await;
    let count = "SELECT count(*) AS n, count(salary) AS s FROM shop.copy";
    // A run of the same project with the same inputs by another user does not reuse the result.
    for _ in 0..2 {
        assert_eq!(run(&staff.root).await, "succeeded");
        assert_eq!(staff.owner(count).await, json!([{"n": 6, "s": 6}]));
        assert_eq!(run(&staff.ana).await, "succeeded");
        assert_eq!(staff.owner(count).await, json!([{"n": 2, "s": 0}]));
    }
    // A model cannot replace a restricted table.
    staff.owner("CREATE ROW FILTER no_one ON shop.copy USING (false)").await;
    let body = project("SELECT 1 AS id, 'x' AS name, 2 AS salary");
    assert_eq!(staff.users.job(&staff.ana, "/v1/runs", body).await, "forbidden");
}

async fn combined() {
    let staff = Staff::start().await;
    staff.owner("CREATE ROLE analyst").await;
    staff.owner("CREATE ROW FILTER own ON hr.staff USING (name = 'a' || 'da') TO analyst").await;
    let count = "SELECT count(*) AS n FROM hr.staff";
    staff.check(count, json!([{"n": 2}])).await;
    staff.owner("GRANT analyst TO ana").await;
    staff.check(count, json!([{"n": 1}])).await;
    // A less strict filter never shows rows that another filter hides.
    staff.owner("CREATE OR REPLACE ROW FILTER own ON hr.staff USING (true) TO analyst").await;
    staff.check(count, json!([{"n": 2}])).await;
    staff.owner("CREATE OR REPLACE ROW FILTER eu ON hr.staff USING (name = current_user)").await;
    staff.check(count, json!([{"n": 0}])).await;
    staff.owner("DROP ROW FILTER eu, own").await;
    staff.owner("DROP COLUMN MASK pay").await;
    let (status, answer) =
        staff.users.sql_at(&staff.ana, "main", "SELECT sum(salary) AS s FROM hr.staff").await;
    assert_eq!((status.as_u16(), answer), (200, json!([{"s": 750}])));
    // Restrictions apply to an administrator's token with read-only scopes.
    let owner = Principal::owner();
    staff.owner("CREATE ROW FILTER eu ON hr.staff USING (region = 'EU')").await;
    let scopes = Some(vec![permission("select on namespace:*"), permission("read on branch:*")]);
    let new = CredentialSettings { scopes, ..CredentialSettings::default() };
    let token = staff.access_token(&owner, new).await;
    let (_, answer) = staff.users.sql_at(&token, "main", count).await;
    assert_eq!(answer, json!([{"n": 2}]));
}

impl Staff {
    async fn access_token(&self, by: &Principal, new: CredentialSettings) -> String {
        self.users.access.create_token(by, "root", new).await.expect("a token").secret
    }
}

async fn definitions() {
    let staff = Staff::start().await;
    for (sql, expected) in [
        ("CREATE ROW FILTER x ON hr.staff USING (country = 'EU')", "no column `country`"),
        ("CREATE ROW FILTER x ON hr.staff USING (id)", ""),
        ("CREATE ROW FILTER x ON hr.staff USING (id IN (SELECT 1))", "a subquery"),
        ("CREATE ROW FILTER x ON hr.staff USING (count(*) > 1)", ""),
        ("CREATE ROW FILTER x ON hr.staff USING (id > 1) TO eve", "no user or role `eve`"),
        ("CREATE ROW FILTER x ON hr.missing USING (true)", "missing"),
        ("CREATE ROW FILTER x ON hr.everyone USING (true)", "view"),
        ("CREATE ROW FILTER eu ON hr.staff USING (true)", "already exists"),
        ("CREATE COLUMN MASK x ON hr.staff (pay) USING (NULL)", "no column `pay`"),
        ("CREATE COLUMN MASK x ON hr.staff (id) USING (name)", "cannot be the mask"),
        ("CREATE COLUMN MASK x ON hr.staff (id) USING (max(id))", ""),
        (
            "CREATE COLUMN MASK x ON hr.staff (salary) USING (0)",
            "already has the column mask `pay`",
        ),
        ("DROP ROW FILTER pay", "no row filter `pay`"),
        ("DROP COLUMN MASK unknown", "no column mask `unknown`"),
    ] {
        let (status, answer) = staff.users.sql_at(&staff.root, "main", sql).await;
        assert!((400..500).contains(&status.as_u16()), "{sql}: {answer}");
        assert!(
            answer["message"].as_str().unwrap_or_default().contains(expected),
            "{sql}: {answer}"
        );
    }
    for sql in ["CREATE ROW FILTER x ON hr.staff USING (true)", "DROP ROW FILTER eu"] {
        staff.refused("main", sql).await;
    }
    let shown = staff.owner("SHOW COLUMN MASKS").await;
    assert_eq!((&shown[0]["name"], &shown[0]["column"]), (&json!("pay"), &json!("salary")));
    let shown = staff.owner("SHOW ROW FILTERS").await;
    assert_eq!(
        (&shown[0]["using"], &shown[0]["table"]),
        (&json!("region = 'EU'"), &json!("hr.staff"))
    );
    staff.owner("DROP ROW FILTER IF EXISTS eu, unknown").await;
    let audit = "SELECT action, object FROM system.audit WHERE action LIKE '%row_filter' \
                 OR action LIKE '%column_mask' ORDER BY action";
    let object = json!("table:hr.staff");
    let expected = ["create_column_mask", "create_row_filter", "drop_row_filter"]
        .map(|action| json!({"action": action, "object": object}));
    assert_eq!(staff.owner(audit).await, json!(expected));
}

async fn fails_closed() {
    let staff = Staff::start().await;
    staff.owner("ALTER TABLE hr.staff DROP COLUMN region").await;
    let answer = staff.refused("main", "SELECT id FROM hr.staff").await;
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("needs the column `region`, which is missing"), "{answer}");
    staff.refused("main", "SELECT id FROM hr.everyone").await;
    staff.refused("main", "SELECT count(*) FROM hr.staff").await;
    // The state before the column was dropped still has the column.
    staff.check("SELECT count(*) AS n FROM hr.\"staff~1\"", json!([{"n": 2}])).await;
    staff.owner("DROP ROW FILTER eu").await;
    let count = "SELECT count(*) AS n, count(salary) AS s FROM hr.staff";
    staff.check(count, json!([{"n": 6, "s": 0}])).await;
}

async fn added_again() {
    let staff = Staff::start().await;
    staff.owner("ALTER TABLE hr.staff DROP COLUMN salary").await;
    staff.check("SELECT count(*) AS n FROM hr.staff", json!([{"n": 2}])).await;
    staff.owner("ALTER TABLE hr.staff ADD COLUMN salary BIGINT").await;
    staff.owner("UPDATE hr.staff SET salary = 100 WHERE id < 3").await;
    let pay = "SELECT max(salary) AS m, count(salary) AS n FROM hr.staff";
    staff.check(pay, json!([{"m": null, "n": 0}])).await;
    assert_eq!(staff.owner(pay).await, json!([{"m": 100, "n": 2}]));
}

/// Restrictions apply to a recreated table only if the new table has the name of the restricted
/// table.
async fn renamed_again() {
    let staff = Staff::start().await;
    staff.owner("CREATE TABLE hr.copy AS SELECT * FROM hr.staff").await;
    staff.owner("DROP TABLE hr.staff").await;
    staff.owner("CREATE TABLE hr.staff AS SELECT * FROM hr.copy").await;
    staff.owner("DROP TABLE hr.copy").await;
    let rename = "ALTER TABLE hr.staff RENAME TO people";
    let (status, answer) = staff.users.sql_at(&staff.root, "main", rename).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains("OR REPLACE")), "{answer}");
    // A mask cannot be applied if the masked column has another name at the ref.
    staff.owner("ALTER TABLE hr.staff RENAME COLUMN salary TO pay").await;
    let answer = staff.refused("main", "SELECT * FROM hr.staff").await;
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("salary")), "{answer}");
    staff.owner("ALTER TABLE hr.staff RENAME COLUMN pay TO salary").await;
    for sql in [
        "CREATE OR REPLACE ROW FILTER eu ON hr.staff USING (region = 'EU')",
        "CREATE OR REPLACE COLUMN MASK pay ON hr.staff (salary) USING (NULL)",
        rename,
    ] {
        staff.owner(sql).await;
    }
    staff.check("SELECT count(*) AS n FROM hr.people", json!([{"n": 2}])).await;
}
