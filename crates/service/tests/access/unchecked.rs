//! The public methods of the service that take no principal, each with the reason.

/// The method returns a handle to the operations on one kind of object. Each of these operations
/// checks the principal.
const NOUN: &str = "operations of one noun";

/// A part of a value that a checked operation returned.
const RESULT: &str = "result of a checked operation";

/// The method sets or releases a savepoint, or rolls back, in a transaction that the same client
/// got from `Transactions::begin`. `begin`, the statements and the commit check the principal.
const TRANSACTION: &str = "own transaction";

/// Methods that start, observe or stop the server. No request calls these methods.
const PROCESS: &str = "life cycle of the process";

/// Methods that are part of the authentication.
const LOGIN: &str = "authentication";

/// A conversion of the arguments, which reads nothing.
const PURE: &str = "reads only its arguments";

/// Each method with its reason.
pub const UNCHECKED: &[(&str, &str)] = &[
    ("AccessControl::access_keys", NOUN),
    ("AccessControl::grants", NOUN),
    ("AccessControl::limits", NOUN),
    ("AccessControl::restrictions", NOUN),
    ("AccessControl::roles", NOUN),
    ("AccessControl::tokens", NOUN),
    ("AccessControl::users", NOUN),
    ("Invocations::standalone", NOUN),
    ("Invocations::layers", NOUN),
    ("EventSourceMappings::of", NOUN),
    ("Queues::of", NOUN),
    ("S3Operations::buckets", NOUN),
    ("S3Operations::objects", NOUN),
    ("S3Operations::of", NOUN),
    ("S3Operations::signatures", NOUN),
    ("Service::access_control", NOUN),
    ("Service::branches", NOUN),
    ("Service::connections", NOUN),
    ("Service::deployments", NOUN),
    ("Service::environments", NOUN),
    ("Service::iceberg", NOUN),
    ("Service::imports", NOUN),
    ("Service::invocations", NOUN),
    ("Service::jobs", NOUN),
    ("Service::maintenance", NOUN),
    ("Service::namespaces", NOUN),
    ("Service::refs", NOUN),
    ("Service::runs", NOUN),
    ("Service::secrets", NOUN),
    ("Service::statements", NOUN),
    ("Service::tables", NOUN),
    ("Service::tags", NOUN),
    ("Service::triggers", NOUN),
    ("Service::uploads", NOUN),
    ("Service::views", NOUN),
    ("Statements::async_queries", NOUN),
    ("Statements::transactions", NOUN),
    ("Statements::with_rows", NOUN),
    ("Statements::within", NOUN),
    ("AuditExport::next", RESULT),
    ("AuditExport::schema", RESULT),
    ("ChangeError::problem", RESULT),
    ("LoadedTable::last_column_id", RESULT),
    ("LoadedTable::metadata_json", RESULT),
    ("LoadedTable::metadata_location", RESULT),
    ("LoadedView::metadata_json", RESULT),
    ("LoadedView::metadata_location", RESULT),
    ("OpenTransaction::reference", RESULT),
    ("ResolvedFunction::check_arguments", RESULT),
    ("ResolvedFunction::event_argument", RESULT),
    ("ResolvedFunction::memory_bytes", RESULT),
    ("ResolvedFunction::table_argument", RESULT),
    ("ResolvedFunction::version", RESULT),
    ("Transactions::add_savepoint", TRANSACTION),
    ("Transactions::release_savepoint", TRANSACTION),
    ("Transactions::roll_back", TRANSACTION),
    ("Transactions::roll_back_to", TRANSACTION),
    ("Service::accept_owner_token", PROCESS),
    ("Service::close", PROCESS),
    ("Service::drain", PROCESS),
    ("Service::is_busy", PROCESS),
    ("Jobs::running", PROCESS),
    ("Service::refresh", PROCESS),
    ("Service::start", PROCESS),
    ("Service::stop_background", PROCESS),
    ("ServiceConfig::new", PROCESS),
    // The key is the credential: only the client of the connection knows the key.
    ("ClientConnections::cancel_by_key", LOGIN),
    ("AccessControl::finish_login", LOGIN),
    ("AccessControl::login_methods", LOGIN),
    ("AccessControl::start_login", LOGIN),
    ("Service::authenticate", LOGIN),
    ("Service::has_users", LOGIN),
    ("Signatures::record_failure", LOGIN),
    ("Signatures::secret", LOGIN),
    ("Signatures::signer", LOGIN),
    // The settings of a URL decide which requests are accepted, some of them without a signature.
    ("StandaloneFunctions::url", LOGIN),
    ("StandaloneFunctions::read_archive", PURE),
    ("StandaloneFunctions::read_files", PURE),
];
