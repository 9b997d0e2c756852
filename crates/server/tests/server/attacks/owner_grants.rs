//! Grants by owners: what the owner of an object may grant, and what it may not.

use headwater_model::{AccessObject, CredentialSettings, Principal};
use headwater_server::Credential;
use serde_json::{Value, json};

use crate::access::{Users, permission};

const CREATOR: [&str; 4] = [
    "create on table:shop.*",
    "create on view:shop.*",
    "create on namespace:ana",
    "read,write on branch:*",
];

/// Starts a server on which `ana` owns the table `shop.made`, and `bob` has no right to it. Returns
/// their tokens.
async fn start() -> (Users, String, String) {
    let users = Users::start().await;
    let ana = users.user("ana", &CREATOR).await;
    let bob = users.user("bob", &["read,write on branch:*"]).await;
    users.all(&ana, 200, &["CREATE TABLE shop.made AS SELECT 1 AS id"]).await;
    users.all(&bob, 403, &["SELECT id FROM shop.made"]).await;
    (users, ana, bob)
}

impl Users {
    /// Sends a request to grant an action to `bob`. Returns the status.
    async fn grant_to_bob(&self, token: &str, action: &str, object: &str) -> u16 {
        let body = json!({"grantee": "bob", "actions": [action], "object": object});
        self.post(token, "/v1/grants", body).await.0
    }

    /// Returns true if `bob` may perform an action on an object whose owner is recorded by name.
    fn bob_may(&self, action: &str, object: &str) -> bool {
        let (action, object) = (action.parse().expect(action), object.parse().expect(object));
        self.access.explain("bob", action, &object).expect("a user").is_allowed()
    }

    /// Executes a statement of the owner of the lake on a branch.
    async fn owner_sql_at(&self, reference: &str, sql: &str) {
        let answer = self.server.post("/v1/query", json!({"sql": sql, "ref": reference})).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
    }
}

pub async fn granted() {
    let (users, ana, bob) = start().await;
    users.all(&ana, 200, &["GRANT SELECT, INSERT ON shop.made TO bob"]).await;
    let allowed = ["SELECT id FROM shop.made", "INSERT INTO shop.made VALUES (2)"];
    users.all(&bob, 200, &allowed).await;
    users.all(&bob, 403, &["DELETE FROM shop.made", "DROP TABLE shop.made"]).await;
    let path = "/v1/access/explain?user=bob&action=select&object=table:shop.made";
    let reason = "grant of select, insert on table:shop.made to bob by the owner ana";
    assert_eq!(users.server.get(path).await["reason"], reason);
    let (_, made) = users.sql(&ana, "SHOW GRANTS").await;
    let made = made.as_array().expect("rows").iter();
    let made: Vec<&Value> = made.filter(|grant| grant["grantee"] == "bob").collect();
    assert_eq!((made.len(), &made[0]["by"]), (1, &json!("ana")), "{made:?}");
    // `ALL` contains `create`, which the owner of a table does not have.
    users.all(&ana, 200, &["GRANT ALL ON shop.made TO bob"]).await;
    let deleted = ["DELETE FROM shop.made WHERE id = 2"];
    users.all(&bob, 200, &deleted).await;
    users.all(&bob, 403, &["CREATE OR REPLACE TABLE shop.made AS SELECT 1 AS id"]).await;
    users.all(&ana, 200, &["REVOKE ALL ON shop.made FROM bob"]).await;
    users.all(&bob, 403, &allowed).await;
    // The owner does not revoke the grant of an administrator, but an administrator revokes both.
    users.grant("bob", &["select on table:shop.made"]).await;
    users.all(&ana, 400, &["REVOKE SELECT ON shop.made FROM bob"]).await;
    users.all(&bob, 200, &["SELECT id FROM shop.made"]).await;
    users.all(&ana, 200, &["GRANT SELECT, INSERT ON shop.made TO bob"]).await;
    users.owner_sql("REVOKE SELECT, INSERT ON shop.made FROM bob").await;
    users.all(&bob, 403, &allowed).await;
    let events = users.access.audit().list(1_000).await.expect("events");
    let event = events.iter().find(|event| event.action == "grant" && event.principal == "ana");
    let event = event.expect("an event of the owner");
    assert_eq!(event.object, "table:shop.made");
    assert!(event.reason.ends_with("to bob, as the owner of the object"), "{}", event.reason);
}

pub async fn of_others() {
    let (users, ana, bob) = start().await;
    let refused = [
        "GRANT SELECT ON sales.orders TO ana",
        "GRANT SELECT ON shop.items TO bob",
        "GRANT SELECT ON shop.missing TO bob",
        "GRANT SELECT ON VIEW shop.best TO bob",
        "GRANT SELECT ON VIEW shop.made TO bob",
        "REVOKE SELECT ON shop.items FROM bob",
        // One object of another user prevents the whole statement.
        "GRANT SELECT ON shop.made, shop.items TO bob",
    ];
    users.all(&ana, 403, &refused).await;
    users.all(&bob, 403, &["SELECT id FROM shop.made"]).await;
    let (_, existing) = users.sql(&ana, "GRANT SELECT ON sales.orders TO unknown").await;
    let (_, missing) = users.sql(&ana, "GRANT SELECT ON sales.orderz TO unknown").await;
    assert_eq!(existing.to_string(), missing.to_string().replace("orderz", "orders"));
    let events = users.access.audit().list(1_000).await.expect("events");
    let is_denied = |object: &str| {
        let mut denied = events.iter().filter(|it| it.action == "grant" && it.object == object);
        denied.any(|it| it.principal == "ana" && it.outcome.as_str() == "denied")
    };
    assert!(is_denied("table:sales.orders") && is_denied("view:shop.best"));
}

pub async fn on_more() {
    let (users, ana, _) = start().await;
    let refused = [
        "GRANT SELECT ON NAMESPACE shop TO bob",
        "GRANT CREATE ON NAMESPACE shop TO ana",
        "GRANT SELECT ON shop.* TO bob",
        "GRANT SELECT ON TABLE 'shop.mad*' TO bob",
        "GRANT SELECT ON TABLE '*' TO bob",
        "GRANT WRITE ON BRANCH 'dev/*' TO bob",
        "GRANT READ ON BRANCH main TO bob",
        "GRANT READ ON LOCATION '/' TO bob",
        "GRANT RUN ON PROJECT shop TO bob",
        "GRANT READ ON USAGE ana TO bob",
        "REVOKE SELECT ON shop.* FROM bob",
    ];
    users.all(&ana, 403, &refused).await;
    // An action that the object does not have is invalid.
    users.all(&ana, 400, &["GRANT MERGE ON shop.made TO bob"]).await;
}

pub async fn administration() {
    let (users, ana, _) = start().await;
    users.access.create_role(&Principal::owner(), "analyst").await.expect("a role");
    let refused = [
        "GRANT ADMINISTER ON LAKE TO ana",
        "GRANT AUDIT ON LAKE TO bob",
        "GRANT analyst TO ana",
        "GRANT ana TO bob",
        "REVOKE analyst FROM bob",
        "CREATE ROLE mine",
        "DROP ROLE analyst",
        "CREATE ROW FILTER own ON shop.made USING (id > 1) TO bob",
        "SHOW GRANTS FOR bob",
    ];
    users.all(&ana, 403, &refused).await;
    // A role can receive a grant.
    users.all(&ana, 200, &["GRANT SELECT ON shop.made TO analyst"]).await;
}

pub async fn lost_ownership() {
    let (users, ana, bob) = start().await;
    users.all(&ana, 200, &["GRANT SELECT ON shop.made TO bob, ana"]).await;
    users.all(&bob, 200, &["SELECT id FROM shop.made"]).await;
    // A table with this name on another branch belongs to another user.
    users.server.post("/v1/branches", json!({"name": "dev"})).await;
    let replace = ["DROP TABLE shop.made", "CREATE TABLE shop.made AS SELECT 'secret' AS customer"];
    for sql in replace {
        users.owner_sql_at("dev", sql).await;
    }
    for token in [&ana, &bob] {
        let (status, answer) = users.sql_at(token, "dev", "SELECT * FROM shop.made").await;
        assert_eq!(status, 403, "{answer}");
    }
    users.all(&bob, 200, &["SELECT id FROM shop.made"]).await;
    // A later table with this name belongs to another user, too.
    for sql in replace {
        users.owner_sql_at("main", sql).await;
    }
    for token in [&ana, &bob] {
        users.all(token, 403, &["SELECT * FROM shop.made"]).await;
    }
    let (_, rows) = users.sql(&bob, "SELECT id FROM shop.\"made@main~2\"").await;
    assert_eq!(rows, json!([{"id": 1}]), "the earlier table of ana");
    users.all(&ana, 403, &["GRANT SELECT ON shop.made TO bob"]).await;
    // A user can always revoke its grants. They also end with its account.
    users.all(&ana, 200, &["REVOKE SELECT ON shop.made FROM bob"]).await;
    users.all(&ana, 403, &["REVOKE SELECT ON shop.made FROM bob"]).await;
    let free = ["CREATE TABLE shop.free AS SELECT 1 AS id", "GRANT SELECT ON shop.free TO bob"];
    users.all(&ana, 200, &free).await;
    users.access.drop_user(&Principal::owner(), "ana").await.expect("dropped");
    let grants = users.access.grants(Some("bob"));
    assert!(grants.iter().all(|grant| grant.owner.is_none()), "{grants:?}");
    users.all(&bob, 403, &["SELECT id FROM shop.free"]).await;
}

pub async fn of_readers() {
    let (users, ana, bob) = start().await;
    let eve = users.user("eve", &["read on branch:main", "select on table:shop.made"]).await;
    users.all(&ana, 200, &["GRANT SELECT, ALTER, DROP ON shop.made TO bob"]).await;
    for token in [&bob, &eve] {
        let refused = [
            "GRANT SELECT ON shop.made TO eve",
            "GRANT SELECT ON shop.made TO bob",
            "REVOKE SELECT ON shop.made FROM bob",
        ];
        users.all(token, 403, &refused).await;
    }
}

pub async fn restricted() {
    let (users, ana, bob) = start().await;
    let own = [
        "CREATE SCHEMA ana",
        "CREATE TABLE ana.made AS SELECT 1 AS id",
        "CREATE TABLE ana.other AS SELECT 1 AS id",
    ];
    users.all(&ana, 200, &own).await;
    users.owner_sql("CREATE ROW FILTER few ON ana.made USING (id < 1) TO ana").await;
    users.owner_sql("ALTER TABLE ana.made RENAME TO renamed").await;
    let refused = [
        "GRANT SELECT ON ana.renamed TO bob",
        "GRANT SELECT ON NAMESPACE ana TO bob",
        "DROP ROW FILTER few",
    ];
    users.all(&ana, 403, &refused).await;
    users.all(&bob, 403, &["SELECT id FROM ana.renamed"]).await;
    users.all(&ana, 200, &["GRANT SELECT ON ana.other, shop.made TO bob"]).await;
}

pub async fn of_namespaces() {
    let (users, ana, bob) = start().await;
    users.all(&ana, 200, &["CREATE SCHEMA ana", "CREATE TABLE ana.made (id INT)"]).await;
    users.owner_sql("CREATE TABLE ana.hidden AS SELECT 'secret' AS customer").await;
    users.all(&ana, 200, &["GRANT SELECT, CREATE, INSERT ON NAMESPACE ana TO bob"]).await;
    let allowed = [
        "SELECT id FROM ana.made",
        "CREATE TABLE ana.of_bob AS SELECT 1 AS id",
        "INSERT INTO ana.made VALUES (1)",
    ];
    users.all(&bob, 200, &allowed).await;
    let refused = [
        "SELECT * FROM ana.hidden",
        "INSERT INTO ana.hidden VALUES ('x')",
        "CREATE OR REPLACE TABLE ana.hidden AS SELECT 1 AS id",
        "DROP TABLE ana.made",
        "DROP SCHEMA ana",
    ];
    users.all(&bob, 403, &refused).await;
    // The table of bob does not belong to the owner of the namespace.
    users.all(&ana, 403, &["SELECT id FROM ana.of_bob", "GRANT SELECT ON ana.of_bob TO ana"]).await;
}

pub async fn scopes() {
    let (users, ana, _) = start().await;
    let scopes = Some(vec![permission("select,alter on table:shop.made")]);
    let narrow =
        users.token("ana", CredentialSettings { scopes, ..CredentialSettings::default() }).await;
    assert_eq!(users.grant_to_bob(&narrow, "select", "table:shop.made").await, 403);
    assert_eq!(users.grant_to_bob(&ana, "select", "table:shop.made").await, 201);
    let path = "/v1/grants?grantee=bob&actions=select&object=table:shop.made";
    assert_eq!(users.send(&narrow, hyper::Method::DELETE, path, None).await.0, 403);
    assert_eq!(users.send(&ana, hyper::Method::DELETE, path, None).await.0, 204);
}

pub async fn of_kinds() {
    let (users, ana, bob) = start().await;
    let by = users.access.authenticate(Credential::Token(&ana), None).await.expect("valid");
    let owned = ["queue:jobs", "bucket:landing", "secret:KEY", "trigger:nightly", "function:score"];
    for object in owned.into_iter().chain(["branch:dev/a"]) {
        let object: AccessObject = object.parse().expect(object);
        users.access.set_owner(&by, &object).await.expect("owned");
    }
    let grants = [
        ("read", "queue:jobs", "queue:jobs"),
        ("use", "secret:KEY", "secret:KEY"),
        ("read", "trigger:nightly", "trigger:nightly"),
        ("invoke", "function:score", "function:score"),
        ("read", "bucket:landing/in", "bucket:landing/in/a.csv"),
        ("list", "bucket:landing", "bucket:landing/out/a.csv"),
    ];
    for (action, pattern, object) in grants {
        assert!(!users.bob_may(action, object), "{action} on {object}");
        assert_eq!(users.grant_to_bob(&ana, action, pattern).await, 201, "{pattern}");
        assert!(users.bob_may(action, object), "{action} on {object}");
    }
    assert!(!users.bob_may("write", "bucket:landing/in/a.csv"));
    assert!(!users.bob_may("read", "bucket:landing/out/a.csv"));
    for (action, object) in [
        ("read", "queue:jobs2"),
        ("read", "queue:*"),
        ("read", "bucket:landing2"),
        ("read", "bucket:landing/*"),
        ("set", "secret:OTHER"),
        ("run", "trigger:*"),
        ("deploy", "function:score2"),
        ("read", "branch:dev/a"),
        ("read", "environment:x"),
    ] {
        assert_eq!(users.grant_to_bob(&ana, action, object).await, 403, "{object}");
        assert_eq!(users.grant_to_bob(&bob, action, object).await, 403, "{object}");
    }
    for object in owned {
        let object: AccessObject = object.parse().expect(object);
        users.access.remove_owner(&by, &object).await.expect("not owned");
    }
    for (action, pattern, object) in grants {
        assert!(!users.bob_may(action, object), "{action} on {object}");
        assert_eq!(users.grant_to_bob(&ana, action, pattern).await, 403, "{pattern}");
    }
    // A later object with the same name belongs to another user.
    users
        .access
        .set_owner(&Principal::owner(), &AccessObject::queue("jobs"))
        .await
        .expect("no owner");
    assert!(!users.bob_may("read", "queue:jobs"));
}

pub async fn many() {
    let (users, ana, bob) = start().await;
    let sql = |objects: usize, grantees: usize| {
        let list = |name: &str, number: usize| vec![name; number].join(", ");
        format!("GRANT SELECT ON {} TO {}", list("shop.made", objects), list("bob", grantees))
    };
    let (more, most) = (sql(101, 100), sql(10_000, 10_000));
    for token in [&ana, &bob] {
        users.all(token, 400, &[more.as_str(), most.as_str()]).await;
    }
    let allowed = sql(100, 100);
    users.all(&bob, 403, &["SELECT id FROM shop.made", allowed.as_str()]).await;
    users.all(&ana, 200, &[allowed.as_str()]).await;
    users.all(&bob, 200, &["SELECT id FROM shop.made"]).await;
}

pub async fn in_restricted_namespaces() {
    let (users, ana, _) = start().await;
    users.all(&ana, 200, &["CREATE SCHEMA ana", "CREATE TABLE ana.made (id INT)"]).await;
    let grant = "GRANT SELECT ON NAMESPACE ana TO bob";
    users.all(&ana, 200, &[grant]).await;
    users.owner_sql("CREATE TABLE ana.layoffs AS SELECT 1 AS id").await;
    users.owner_sql("CREATE ROW FILTER confidential ON ana.layoffs USING (id > 1) TO ana").await;
    let (status, answer) = users.sql(&ana, grant).await;
    assert_eq!(status, 403, "{answer}");
    let text = answer.to_string();
    assert!(text.contains("row filter") && !text.contains("confidential"), "{text}");
    assert!(!text.contains("layoffs"), "{text}");
    // The error for a table of the owner names its restrictions.
    users.owner_sql("CREATE ROW FILTER few ON ana.made USING (id < 1) TO ana").await;
    let (_, answer) = users.sql(&ana, "GRANT SELECT ON ana.made TO bob").await;
    assert!(answer.to_string().contains("row filter `few` of table `ana.made`"), "{answer}");
}

pub async fn uploads() {
    let (users, ana, bob) = start().await;
    for grant in ["create on table:shop.*", "create on namespace:ana"] {
        let revoked = users.access.revoke(&Principal::owner(), "ana", permission(grant)).await;
        revoked.expect(grant);
    }
    let upload =
        async |token: &str| users.post(token, "/v1/uploads?name=a.csv", json!("id")).await.0 < 300;
    users.all(&ana, 200, &["GRANT INSERT ON shop.made TO ana"]).await;
    assert!(!upload(&ana).await, "a grant to itself");
    // The owner of a table has no right to create it again.
    users.all(&ana, 200, &["GRANT CREATE, SELECT ON shop.made TO bob"]).await;
    assert!(!upload(&bob).await, "a grant without effect");
    users.all(&ana, 200, &["GRANT INSERT ON shop.made TO bob"]).await;
    assert!(upload(&bob).await);
}
