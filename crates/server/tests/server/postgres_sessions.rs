//! The connections of the PostgreSQL protocol: `pg_stat_activity`, and the functions that cancel a
//! statement and end a connection.

use std::process::Command;

use libtest_mimic::Trial;

use crate::access::Users;
use crate::life_cycle::ENDLESS;
use crate::postgres::{address, python, started, token};
use crate::{clients, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("postgres_sessions::users_see_and_end_their_own_connections", connections)]
}

async fn connections() {
    let users = Users::on(started().await).await;
    let grants = ["read on branch:main", "select on table:shop.items"];
    let (ana, eve) = (users.user("ana", &grants).await, users.user("eve", &grants).await);
    let (address, owner) = (address(&users.server), token(&users.server));
    let work = move || {
        let mut command = Command::new(python());
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(clients::client("postgres_sessions.py"));
        command.args([address.ip().to_string(), address.port().to_string()]);
        clients::run(command.args([owner.as_str(), &ana, &eve, ENDLESS]));
    };
    tokio::task::spawn_blocking(work).await.expect("the script");
}
