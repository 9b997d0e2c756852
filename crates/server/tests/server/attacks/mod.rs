//! Attacks on a server with users. Each test is named after the expected behaviour of the server.
//!
//! The attackers know the addresses of the API, and have a user with few grants or none. They send
//! requests that no regular client sends. Attacks on the isolation of functions are in
//! `crates/functions`.

mod credentials;
mod escalation;
mod files;
mod functions;
mod merges;
mod names;
mod others;
mod outputs;
mod owner_grants;
mod owners;
mod reads;
mod refs;
mod requests;
mod triggers;

use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, StatusCode};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::Users;
use crate::support::{self, PATIENCE, TestServer, request};
use crate::trial;

pub fn trials() -> Vec<Trial> {
    let mut all = of_credentials();
    all.extend(of_requests());
    all.extend(of_reads());
    all.extend(of_rights());
    all.extend(of_outputs());
    all.extend(of_files());
    all.extend(of_triggers());
    all.extend(of_refs());
    all.extend(of_owners());
    all.extend(of_owner_grants());
    all
}

/// Attacks with forged, stolen, expired or guessed credentials.
fn of_credentials() -> Vec<Trial> {
    vec![
        trial("attacks::01_a_forged_token_with_a_valid_checksum_is_rejected", credentials::forged),
        trial("attacks::02_a_token_with_a_changed_character_is_rejected", credentials::changed),
        trial("attacks::03_an_expired_token_is_rejected", credentials::expired),
        trial(
            "attacks::04_a_revoked_token_is_rejected_on_an_open_connection",
            credentials::revoked,
        ),
        trial("attacks::05_a_jwt_without_a_signature_is_rejected", credentials::unsigned),
        trial("attacks::06_a_token_in_a_url_is_ignored", credentials::in_url),
        trial("attacks::07_an_unknown_user_takes_as_long_as_a_wrong_password", credentials::timing),
        trial("attacks::08_every_invalid_credential_has_the_same_answer", credentials::same_answer),
        trial("attacks::09_a_session_cannot_be_fixed_by_a_cookie", credentials::fixation),
        trial("attacks::10_a_login_code_cannot_be_replayed", credentials::replayed_code),
        trial("attacks::11_the_session_of_a_disabled_user_has_no_rights", credentials::old_session),
        trial("attacks::12_guesses_lock_the_address", credentials::guesses),
        trial("attacks::13_a_client_cannot_choose_its_address", credentials::address),
        trial("attacks::14_headers_of_a_proxy_authenticate_no_client", credentials::proxy_headers),
        trial("attacks::15_two_credentials_in_one_request_are_rejected", credentials::two),
        trial("attacks::107_concurrent_guesses_lock_out_the_user", credentials::concurrent_guesses),
        trial("attacks::108_a_token_is_not_hashed_as_a_password", credentials::hashed_tokens),
    ]
}

/// Attacks by requests of malicious pages, and by malformed requests.
fn of_requests() -> Vec<Trial> {
    vec![
        trial("attacks::16_a_page_cannot_use_the_cookie_without_the_key", requests::forgery),
        trial("attacks::17_a_form_of_another_page_is_rejected", requests::forms),
        trial("attacks::18_a_rebound_name_is_rejected", requests::rebinding),
        trial("attacks::19_pages_of_other_origins_are_rejected", requests::origins),
        trial("attacks::20_a_smuggled_request_has_no_identity", requests::smuggled),
        trial("attacks::21_ambiguous_headers_are_rejected", requests::ambiguous),
        trial("attacks::22_oversize_headers_are_rejected", requests::long_headers),
        trial("attacks::23_oversize_and_deep_bodies_are_rejected", requests::long_bodies),
        trial("attacks::24_no_path_parameter_leaves_the_lake", requests::traversal),
    ]
}

/// Attacks that try to read a table without `select`.
fn of_reads() -> Vec<Trial> {
    vec![
        trial("attacks::25_a_view_does_not_open_its_table", reads::view),
        trial("attacks::26_a_users_own_view_does_not_open_a_table", reads::own_view),
        trial("attacks::27_a_model_does_not_open_a_table", reads::model),
        trial("attacks::28_a_function_reads_no_file_of_the_lake", reads::function),
        trial("attacks::29_a_comparison_shows_no_hidden_table", reads::comparison),
        trial("attacks::30_every_system_table_is_forbidden", reads::system),
        trial("attacks::31_earlier_states_are_forbidden", reads::time_travel),
        trial("attacks::32_a_users_own_branch_opens_no_table", reads::own_branch),
        trial("attacks::33_a_renamed_table_keeps_its_rights", reads::renamed),
        trial("attacks::34_catalogs_of_postgresql_list_no_hidden_table", reads::catalogs),
        trial("attacks::35_rows_cannot_be_copied_from_a_hidden_table", reads::copied),
        trial("attacks::36_sql_reads_and_writes_no_file", reads::files),
        trial("attacks::37_iceberg_shows_no_hidden_table", reads::iceberg),
        trial("attacks::38_a_repeated_creation_shows_no_table", reads::repeated_creation),
        trial("attacks::39_a_merge_report_shows_no_hidden_table", reads::merge),
        trial("attacks::40_an_error_does_not_tell_whether_a_table_exists", names::errors),
        trial("attacks::41_a_suggestion_names_no_hidden_table", names::suggestions),
        trial("attacks::42_lists_and_counts_leave_out_hidden_tables", names::lists),
        trial("attacks::109_a_spelling_does_not_tell_whether_a_table_exists", names::spellings),
    ]
}

/// Attacks on the work of other users, and attempts to get more rights.
fn of_rights() -> Vec<Trial> {
    vec![
        trial("attacks::43_the_job_of_another_user_does_not_exist", others::jobs),
        trial("attacks::44_the_upload_of_another_user_is_not_imported", others::uploads),
        trial("attacks::45_the_token_of_another_user_does_not_exist", others::tokens),
        trial("attacks::46_a_key_of_another_user_blocks_no_call", others::call_keys),
        trial("attacks::47_a_key_of_another_user_shows_no_table", others::iceberg_keys),
        trial("attacks::48_the_event_of_another_user_does_not_exist", others::events),
        trial("attacks::49_a_client_cannot_name_its_author", others::author),
        trial("attacks::50_a_user_grants_nothing", escalation::grants),
        trial("attacks::51_roles_have_no_cycle", escalation::cycles),
        trial("attacks::52_a_new_user_has_nothing_of_a_dropped_one", escalation::same_name),
        trial("attacks::53_a_limited_token_creates_no_wider_one", escalation::scopes),
        trial("attacks::54_a_brief_token_creates_no_longer_one", escalation::expiry),
        trial("attacks::55_a_token_changes_no_password", escalation::passwords),
        trial("attacks::56_a_trigger_has_the_rights_of_its_deployer", escalation::trigger),
        trial("attacks::57_a_version_of_another_user_is_not_activated", escalation::activation),
        trial("attacks::58_no_user_is_named_like_the_owner", escalation::reserved),
    ]
}

/// Attacks on secrets that a function prints.
fn of_outputs() -> Vec<Trial> {
    vec![
        trial("attacks::59_a_printed_secret_is_redacted", outputs::plain),
        trial("attacks::60_a_secret_in_base64_is_redacted", outputs::base64),
        trial("attacks::61_a_split_secret_is_shown_as_documented", outputs::split),
        trial("attacks::62_a_secret_in_a_traceback_is_redacted", outputs::traceback),
        trial("attacks::63_a_secret_in_a_result_is_redacted", outputs::result),
        trial("attacks::64_a_secret_in_a_listed_environment_is_redacted", outputs::environment),
        trial("attacks::65_a_model_keeps_no_secret_in_its_job", outputs::model),
        trial("attacks::66_messages_of_commits_name_no_hidden_table", names::messages),
    ]
}

/// Attacks by imports and queries of files on the server, with a grant to read their folder.
fn of_files() -> Vec<Trial> {
    vec![
        trial("attacks::67_files_of_the_lake_are_not_imported", files::of_the_lake),
        trial("attacks::68_files_with_credentials_are_not_imported", files::of_credentials),
        trial("attacks::69_files_of_the_warehouse_are_not_imported", files::of_the_warehouse),
        trial("attacks::70_a_linked_warehouse_is_not_imported", files::of_a_linked_warehouse),
        trial(
            "attacks::71_objects_of_the_warehouse_are_not_imported",
            files::of_a_warehouse_in_a_bucket,
        ),
        trial("attacks::72_the_audit_log_shows_refused_files", files::audited),
        trial("attacks::73_the_owner_does_not_read_credentials", files::not_read_by_the_owner),
    ]
}

/// Attacks by triggers that watch objects which their user may not read.
fn of_triggers() -> Vec<Trial> {
    vec![
        trial("attacks::74_a_trigger_on_a_folder_needs_its_location", triggers::folders),
        trial("attacks::75_a_trigger_on_tables_needs_its_branch_and_tables", triggers::tables),
        trial("attacks::76_a_trigger_on_a_bucket_or_queue_needs_its_right", triggers::lake),
        trial("attacks::77_a_pattern_shows_no_hidden_table", triggers::patterns),
        trial("attacks::78_a_revoked_location_shows_no_file", triggers::revoked_location),
        trial("attacks::79_a_revoked_table_shows_no_change", triggers::revoked_table),
        trial("attacks::80_a_recorded_event_fails_after_a_revoke", triggers::revoked_event),
        trial("attacks::81_a_trigger_shows_no_private_file", triggers::private_files),
        trial("attacks::82_an_import_needs_the_right_to_write_its_table", triggers::imports),
    ]
}

/// Attacks by branches and merges on rows that the user may not read or delete.
fn of_refs() -> Vec<Trial> {
    vec![
        trial("attacks::83_a_branch_is_not_read_without_its_right", refs::unreadable),
        trial("attacks::84_a_commit_is_read_only_below_a_readable_branch", refs::commits),
        trial("attacks::85_a_user_that_writes_a_branch_reads_it", refs::writers),
        trial("attacks::86_a_side_of_a_conflict_needs_the_right_to_delete", merges::sides),
        trial("attacks::87_keeping_the_target_needs_no_right_to_delete", merges::kept),
        trial("attacks::88_taking_another_table_needs_the_right_to_drop", merges::replaced),
        trial("attacks::89_a_revert_changes_no_hidden_row", merges::reverted),
        trial("attacks::90_a_cherry_pick_changes_no_hidden_row", merges::picked),
        trial("attacks::91_a_partial_revert_names_no_hidden_table", merges::unnamed),
        trial("attacks::92_a_revert_needs_the_rights_of_its_change", merges::unchangeable),
    ]
}

/// Attacks by users that own tables and views.
fn of_owners() -> Vec<Trial> {
    vec![
        trial("attacks::93_a_user_owns_the_tables_and_views_it_creates", owners::own_objects),
        trial("attacks::94_an_iceberg_client_owns_the_tables_it_creates", owners::iceberg),
        trial("attacks::95_a_new_table_does_not_belong_to_an_earlier_owner", owners::same_name),
        trial("attacks::96_a_rename_or_view_gives_no_further_right", owners::renamed),
        trial("attacks::97_the_owner_of_a_table_writes_only_on_its_branches", owners::branches),
        trial("attacks::98_row_filters_apply_to_the_owner_of_a_table", owners::restricted),
        trial("attacks::99_ownership_ends_with_the_account_and_has_scopes", owners::same_user),
        trial("attacks::100_a_user_owns_the_table_that_its_import_creates", owners::imports),
        trial("attacks::101_the_owner_of_a_namespace_creates_tables_in_it", owners::namespaces),
        trial("attacks::102_a_table_with_the_id_of_another_gives_no_right_to_it", owners::same_id),
        trial("attacks::103_a_new_version_of_another_user_ends_ownership", owners::functions),
        trial("attacks::104_a_dry_run_of_a_merge_names_new_own_tables", owners::dry_runs),
        trial("attacks::105_a_layer_belongs_to_the_user_that_published_it", functions::layers),
        trial(
            "attacks::106_a_function_of_a_project_belongs_to_its_deployer",
            functions::of_project,
        ),
    ]
}

/// Attacks by users that grant rights on the objects that they own.
fn of_owner_grants() -> Vec<Trial> {
    vec![
        trial("attacks::110_the_owner_of_a_table_grants_rights_on_it", owner_grants::granted),
        trial("attacks::111_an_owner_grants_nothing_on_objects_of_others", owner_grants::of_others),
        trial("attacks::112_an_owner_grants_no_right_by_a_pattern", owner_grants::on_more),
        trial("attacks::113_an_owner_grants_no_role", owner_grants::administration),
        trial("attacks::114_the_grant_of_an_owner_ends_with_it", owner_grants::lost_ownership),
        trial("attacks::115_a_reader_grants_nothing", owner_grants::of_readers),
        trial("attacks::116_a_restricted_owner_grants_nothing", owner_grants::restricted),
        trial("attacks::117_a_namespace_opens_no_table_of_others", owner_grants::of_namespaces),
        trial("attacks::118_a_token_with_scopes_grants_nothing", owner_grants::scopes),
        trial("attacks::119_owners_of_other_objects_grant_rights_on_them", owner_grants::of_kinds),
        trial("attacks::120_grants_on_functions_end_with_a_version", functions::granted),
        trial("attacks::121_a_statement_with_many_grants_is_rejected", owner_grants::many),
        trial(
            "attacks::122_a_restricted_namespace_names_no_hidden_table",
            owner_grants::in_restricted_namespaces,
        ),
        trial("attacks::123_an_owner_allows_itself_no_uploads", owner_grants::uploads),
    ]
}

/// Sends a request without the server's token, with these headers.
async fn anonymous(
    server: &TestServer,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (StatusCode, Value) {
    let mut request = request(Method::GET, path, None);
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("none"));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    let response = server.send(request).await;
    let status = response.status();
    let bytes = support::body(response).await.expect("a whole body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Sends bytes over a separate connection. Returns the server's output until the server closes the
/// connection.
async fn raw(server: &TestServer, bytes: &[u8]) -> String {
    let address = server.running.http_addr().expect("an address");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A server that rejects the head of a request may close the connection before it has read all
    // bytes.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

impl Users {
    /// Returns the status and the response of a statement on `main`.
    async fn sql(&self, token: &str, sql: &str) -> (u16, Value) {
        let (status, answer) = self.sql_at(token, "main", sql).await;
        (status.as_u16(), answer)
    }

    /// Executes a statement as the owner.
    async fn owner_sql(&self, sql: &str) -> Value {
        let answer = self.server.rows(sql).await;
        assert!(answer.get("code").is_none(), "{sql}: {answer}");
        answer
    }
}
