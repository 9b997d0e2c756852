//! Statements on roles and grants.

use headwater_sql::PreparedStatement;

fn check(sql: &str, expected: &str) {
    let shown = match PreparedStatement::parse(sql) {
        Ok(prepared) => match prepared.access_statement() {
            Some(statement) => format!("{statement:?}"),
            None => "another statement".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    assert!(shown.contains(expected), "`{sql}`: {shown}");
}

#[test]
fn statements_on_rights_are_parsed() {
    for (sql, expected) in [
        ("CREATE ROLE analyst;", "CreateRole { name: \"analyst\", if_not_exists: false }"),
        ("create role if not exists \"the team\"", "\"the team\", if_not_exists: true"),
        ("DROP ROLE IF EXISTS a, b", "DropRoles { names: [\"a\", \"b\"], if_exists: true }"),
        ("GRANT analyst TO ana, USER bob", "roles: [\"analyst\"], grantees: [\"ana\", \"bob\"]"),
        ("REVOKE analyst FROM ana", "Roles { grants: false"),
        ("GRANT SELECT, INSERT ON t TO ana", "actions: [Select, Insert]"),
        ("GRANT SELECT ON sales.orders TO ana", "pattern: \"sales.orders\""),
        ("GRANT SELECT ON TABLE a, 'sales.*' TO ana", "pattern: \"sales.*\""),
        ("GRANT SELECT ON sales.* TO ana", "pattern: \"sales.*\""),
        ("GRANT SELECT ON NAMESPACE sales TO ROLE r", "kind: Namespace"),
        ("GRANT ALL PRIVILEGES ON SCHEMA sales TO r", "Alter, Drop]"),
        ("GRANT WRITE, MERGE ON BRANCH 'dev/*' TO r", "pattern: \"dev/*\""),
        ("GRANT invoke ON FUNCTION score TO r", "actions: [Invoke]"),
        ("GRANT EXECUTE ON FUNCTION sales.tax TO r", "actions: [Invoke]"),
        ("GRANT audit ON LAKE TO r", "kind: Lake"),
        ("REVOKE select ON t FROM r", "Permissions { grants: false"),
        ("SHOW ROLES", "ShowRoles"),
        ("SHOW GRANTS", "ShowGrants(None)"),
        ("SHOW GRANTS FOR ana", "ShowGrants(Some(\"ana\"))"),
        ("SHOW GRANTS TO ROLE r", "ShowGrants(Some(\"r\"))"),
        ("SHOW TABLES", "another statement"),
    ] {
        check(sql, expected);
    }
}

#[test]
fn other_forms_are_refused_by_name() {
    for (sql, expected) in [
        ("GRANT SELECT ON ALL TABLES IN SCHEMA s TO r", "ON ALL … IN SCHEMA is not supported"),
        ("GRANT SELECT ON t TO PUBLIC", "PUBLIC as a grantee is not supported"),
        ("GRANT SELECT ON t TO r WITH GRANT OPTION", "WITH GRANT OPTION is not supported"),
        ("GRANT merge ON t TO r", "`merge` cannot be granted on a table"),
        ("GRANT fly ON t TO r", "unknown action `fly`"),
        ("GRANT SELECT ON t", "expected TO, found the end"),
        ("GRANT SELECT TO r", "expected ON, found `TO`"),
        ("CREATE USER u PASSWORD 'x'", "CREATE USER is not supported"),
        ("alter role r", "ALTER ROLE is not supported"),
        ("GRANT", "expected an action or a role, found the end"),
        ("CREATE ROLE r LOGIN PASSWORD 'x'", "an option of CREATE ROLE is not supported"),
        ("REVOKE SELECT ON t FROM r CASCADE", "CASCADE in REVOKE is not supported"),
    ] {
        check(sql, expected);
    }
}

#[test]
fn a_statement_has_a_limited_number_of_grants() {
    let list = |name: &str, number: usize| vec![name; number].join(", ");
    let objects = list("t", 100);
    check(&format!("GRANT SELECT ON {objects} TO {}", list("r", 100)), "Permissions");
    let repeated = list("SELECT", 100);
    check(&format!("GRANT {repeated} ON t TO r"), "actions: [Select]");
    let limit = "(limit 10000)";
    for grantees in [list("r", 101), list("r", 10_000)] {
        check(&format!("GRANT SELECT ON {objects} TO {grantees}"), limit);
        check(&format!("GRANT {objects} TO {grantees}"), limit);
    }
    check(&format!("REVOKE ALL ON {objects} FROM {}", list("r", 101)), limit);
}
