//! The places in the source code that create a principal. A place that is not listed fails the
//! test.

use libtest_mimic::Trial;
use syn::{ImplItem, Item, Macro};

use crate::declared_operations::parsed;
use crate::methods::{self_type, sources};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("principals::only_known_places_create_a_principal", places),
        trial("principals::a_principal_is_created_only_by_its_constructors", constructors),
    ]
}

/// The places: a file below `crates`, the expression that creates a principal there, and the
/// reason.
///
/// [`CREDENTIAL`] stands for a verified identity. `.principal()` returns the principal of stored
/// work, such as a job or a trigger.
const PLACES: &[(&str, &str, &str)] = &[
    ("access/src/audit.rs", "Principal::anonymous", "a failed login in the audit log"),
    ("access/src/authentication.rs", "Principal::user", "a verified token or password"),
    ("access/src/authentication.rs", CREDENTIAL, "a verified token"),
    ("access/src/authentication.rs", CREDENTIAL, "a verified password"),
    ("access/src/external_login.rs", "Principal::user", "a login verified by an OpenID provider"),
    ("access/src/external_login.rs", CREDENTIAL, "a login verified by an OpenID provider"),
    ("access/src/access_key.rs", "Principal::owner", "a signature with an access key of the owner"),
    ("access/src/access_key.rs", "Principal::user", "a signature with an access key of a user"),
    ("access/src/access_key.rs", CREDENTIAL, "a signature with an access key of a user"),
    ("deployments/src/deployment_store.rs", "Actor::Owner", "a validation that stores nothing"),
    ("executors/src/backfill.rs", ".principal()", "the user that started the backfill"),
    ("executors/src/call_rights.rs", ".principal()", "the user that deployed the function"),
    ("executors/src/standalone_trigger.rs", ".principal()", "the user whose rights a trigger has"),
    ("executors/src/deployer.rs", ".principal()", "the user that deployed the version"),
    (
        "executors/src/destination_delivery.rs",
        "Actor::Owner",
        "a comparison with the user that deployed",
    ),
    ("executors/src/destination_delivery.rs", ".principal()", "the user that set the destination"),
    ("executors/src/destination_delivery.rs", ".principal()", "the user that set the destination"),
    ("executors/src/destination_delivery.rs", ".principal()", "the user that set the destination"),
    ("executors/src/destination_delivery.rs", ".principal()", "the user that set the destination"),
    ("executors/src/function_owner.rs", ".principal()", "the user that deployed the function"),
    ("executors/src/import.rs", ".principal()", "the user that started the import"),
    ("executors/src/occurrence_rights.rs", ".principal()", "the user that deployed the trigger"),
    ("executors/src/occurrence_rights.rs", ".principal()", "the user that deployed the trigger"),
    ("executors/src/run.rs", ".principal()", "the user that started the run"),
    ("executors/src/run.rs", ".principal()", "the owner of a branch that a run creates"),
    ("executors/src/run.rs", ".principal()", "the user that started the run"),
    ("executors/src/run_output.rs", ".principal()", "the user that started the run"),
    ("executors/src/trigger_delivery.rs", ".principal()", "the user that called the function"),
    (
        "executors/src/trigger_delivery.rs",
        ".principal()",
        "the user whose limits a trigger's jobs have",
    ),
    ("executors/src/trigger_delivery.rs", ".principal()", "the user that deployed the trigger"),
    ("executors/src/trigger_delivery.rs", ".principal()", "the user that deployed the trigger"),
    (
        "executors/src/trigger_delivery.rs",
        ".principal()",
        "the user that deployed or called the function",
    ),
    ("executors/src/trigger_rights.rs", ".principal()", "the user that deployed the trigger"),
    ("lambda/src/url_call.rs", ".principal()", "the user that made the URL public"),
    ("model/src/principal.rs", "Actor::Owner", "the identity of work, from a principal"),
    ("model/src/principal.rs", "Actor::Owner", "the principal of stored work"),
    ("model/src/principal.rs", "Principal::anonymous", "the principal of stored work"),
    ("model/src/principal.rs", "Principal::owner", "the principal of stored work"),
    ("model/src/principal.rs", "Principal::user", "the principal of stored work"),
    ("query-results/src/results.rs", "Actor::Owner", "a comparison with the user of a query"),
    ("query-results/src/results.rs", "Actor::Owner", "a comparison with the user of a query"),
    ("s3/src/authentication.rs", "Principal::anonymous", "a request without a signature"),
    ("server/src/auth.rs", "Principal::anonymous", "a public path without a credential"),
    ("server/src/auth.rs", "Principal::owner", "the Unix socket"),
    ("server/src/auth.rs", "Principal::owner", "a server without authentication and users"),
    ("server/src/server_handle.rs", "Principal::owner", "the process that runs the server"),
    ("server/src/http/session.rs", "Principal::owner", "the Unix socket"),
    ("server/src/http/session.rs", "Principal::owner", "a server without authentication and users"),
    (
        "server/src/postgres/startup.rs",
        "Principal::owner",
        "a server without authentication and users",
    ),
    ("service/src/auth.rs", "Principal::owner", "the verified token of the server"),
    ("service/src/queue_worker.rs", ".principal()", "the user that last changed the mapping"),
    ("service/src/queue_worker.rs", ".principal()", "the user that last changed the mapping"),
    ("service/src/queue_worker.rs", ".principal()", "the user that last changed the mapping"),
    ("triggers/src/call_destination.rs", ".principal()", "the user that set the destination"),
];

const CREDENTIAL: &str = "AuthenticatedUser { .. }";

async fn places() {
    let mut found = Vec::new();
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for entry in std::fs::read_dir(crates).expect("a folder") {
        let krate = entry.expect("an entry").file_name().into_string().expect("text");
        for file in sources(&krate) {
            let created = created(&text(&file));
            found.extend(created.into_iter().map(|what| format!("{file}: {what}")));
        }
    }
    let mut listed: Vec<String> =
        PLACES.iter().map(|(file, what, _)| format!("{file}: {what}")).collect();
    found.sort();
    listed.sort();
    assert_eq!(found, listed, "each place that creates a principal is listed");
}

fn text(file: &str) -> String {
    let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a source file")
}

/// Checks that `Principal` and `Actor` have no constructors except the listed constructors.
async fn constructors() {
    let mut found = Vec::new();
    for item in parsed("model/src/principal.rs").items {
        let Item::Impl(block) = item else { continue };
        for item in block.items {
            if let ImplItem::Fn(function) = item
                && function.sig.receiver().is_none()
            {
                found.push(format!("{}::{}", self_type(&block.self_ty), function.sig.ident));
            }
        }
    }
    found.sort();
    assert_eq!(found, ["Actor::of", "Principal::anonymous", "Principal::owner", "Principal::user"]);
}

/// Returns the expressions in a source text that create a principal. Skips unit tests.
fn created(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // Parsing every file would take too long.
    if !["Principal", "principal()", "Actor", "AuthenticatedUser"]
        .iter()
        .any(|it| text.contains(it))
    {
        return found;
    }
    let words = without_tests(&words(text));
    for at in 0..words.len() {
        let [before, one, two, three, four] = [at.wrapping_sub(1), at, at + 1, at + 2, at + 3]
            .map(|at| words.get(at).map_or("", |it| it));
        match (one, two, three) {
            ("Principal", "::", name) => found.push(format!("Principal::{name}")),
            ("Principal", "as", _) => found.push("an alias of Principal".to_owned()),
            ("Actor", "::", "Owner") => found.push("Actor::Owner".to_owned()),
            ("AuthenticatedUser", "{", _) if !matches!(before, "struct" | "impl" | "->") => {
                found.push(CREDENTIAL.to_owned());
            }
            (".", "principal", "(") if four == ")" => found.push(".principal()".to_owned()),
            _ => {}
        }
    }
    found
}

/// Splits a source text into its tokens, without comments.
fn words(text: &str) -> Vec<String> {
    let wrapped: Macro = syn::parse_str(&format!("m! {{\n{text}\n}}")).expect("Rust");
    let mut text = wrapped.tokens.to_string();
    for bracket in ['(', ')', '[', ']', '{', '}', '<', '>', ',', ';'] {
        text = text.replace(bracket, &format!(" {bracket} "));
    }
    // An arrow `->` is one token.
    text.replace("- >", "->").split_whitespace().map(str::to_owned).collect()
}

/// Removes the items with the attribute `#[cfg(test)]`.
fn without_tests(words: &[String]) -> Vec<String> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words[at..].iter().zip(attribute).filter(|(word, it)| *word == it).count()
            < attribute.len()
        {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        // The item ends with its block, or with a semicolon.
        let mut depth = 0;
        for word in &words[at + attribute.len()..] {
            at += 1;
            match word.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(word.as_str(), "}" | ";") {
                break;
            }
        }
        at += attribute.len();
    }
    kept
}
