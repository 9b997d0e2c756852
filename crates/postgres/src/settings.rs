//! Settings of a session, which clients set when they connect or with `SET`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{DEFAULT_NAMESPACE, ErrorCode, Problem};

use crate::text_format::IntervalStyle;

/// The version of PostgreSQL that is reported to clients, which derive from it the catalogs and the
/// dialect.
pub const SERVER_VERSION: &str = "15.0";

/// The setting with the name of the client program.
pub const APPLICATION_NAME: &str = "application_name";

/// The setting that makes later transactions read-only.
pub const DEFAULT_READ_ONLY: &str = "default_transaction_read_only";

/// The setting that shows if the current transaction is read-only.
pub const READ_ONLY: &str = "transaction_read_only";

/// The setting with the form of intervals in text.
const INTERVAL_STYLE: &str = "IntervalStyle";

/// Maximum number of settings that a client defines itself, such as `app.user`.
const CUSTOM_MAX: usize = 100;

/// The values to which a client can set a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcceptedValues {
    /// All values.
    Any,
    /// Only these spellings of the default value.
    Only(&'static [&'static str]),
    /// One of these values.
    OneOf(&'static [&'static str]),
    /// A Boolean value, in the spellings of [`parse_switch`].
    Switch,
    /// No value: clients cannot change the setting.
    Nothing,
}

/// A setting.
#[derive(Debug, Clone, Copy)]
struct Setting {
    name: &'static str,
    default: &'static str,
    accepts: AcceptedValues,
    /// True if each change of the setting is reported to the client.
    is_reported: bool,
}

impl Setting {
    const fn new(name: &'static str, default: &'static str, accepts: AcceptedValues) -> Self {
        Setting { name, default, accepts, is_reported: false }
    }

    const fn reported(self) -> Self {
        Setting { is_reported: true, ..self }
    }
}

const ON: AcceptedValues = AcceptedValues::Only(&["on", "true", "yes", "1"]);
const ANY: AcceptedValues = AcceptedValues::Any;
/// The isolation levels that clients may request, without spaces. Snapshot isolation is at least as
/// strong.
const LEVELS: AcceptedValues =
    AcceptedValues::Only(&["repeatableread", "readcommitted", "readuncommitted"]);
const SHOWN: AcceptedValues = AcceptedValues::Nothing;

/// All settings. Most have no effect, and are accepted because clients set them.
const TABLE: [Setting; 94] = [
    Setting::new(APPLICATION_NAME, "", ANY).reported(),
    Setting::new("array_nulls", "on", ANY),
    Setting::new("backslash_quote", "safe_encoding", ANY),
    Setting::new("block_size", "8192", SHOWN),
    Setting::new("bytea_output", "hex", AcceptedValues::Only(&["hex"])),
    Setting::new("check_function_bodies", "on", ANY),
    Setting::new("client_encoding", "UTF8", AcceptedValues::Only(&["utf8", "utf-8", "unicode"]))
        .reported(),
    Setting::new("client_min_messages", "notice", ANY),
    Setting::new("constraint_exclusion", "partition", ANY),
    Setting::new("cpu_tuple_cost", "0.01", ANY),
    Setting::new("cursor_tuple_fraction", "0.1", ANY),
    Setting::new(
        "DateStyle",
        "ISO, MDY",
        AcceptedValues::Only(&["iso", "iso,mdy", "iso,dmy", "iso,ymd"]),
    )
    .reported(),
    Setting::new("default_statistics_target", "100", ANY),
    Setting::new("default_table_access_method", "heap", ANY),
    Setting::new("default_tablespace", "", ANY),
    Setting::new("default_text_search_config", "pg_catalog.english", ANY),
    Setting::new("default_transaction_deferrable", "off", AcceptedValues::Switch),
    Setting::new("default_transaction_isolation", "repeatable read", LEVELS),
    Setting::new(DEFAULT_READ_ONLY, "off", AcceptedValues::Switch).reported(),
    Setting::new("effective_cache_size", "4GB", ANY),
    Setting::new("effective_io_concurrency", "1", ANY),
    Setting::new("enable_bitmapscan", "on", ANY),
    Setting::new("enable_hashagg", "on", ANY),
    Setting::new("enable_hashjoin", "on", ANY),
    Setting::new("enable_indexonlyscan", "on", ANY),
    Setting::new("enable_indexscan", "on", ANY),
    Setting::new("enable_material", "on", ANY),
    Setting::new("enable_memoize", "on", ANY),
    Setting::new("enable_mergejoin", "on", ANY),
    Setting::new("enable_nestloop", "on", ANY),
    Setting::new("enable_partitionwise_aggregate", "off", ANY),
    Setting::new("enable_partitionwise_join", "off", ANY),
    Setting::new("enable_seqscan", "on", ANY),
    Setting::new("enable_sort", "on", ANY),
    Setting::new("enable_tidscan", "on", ANY),
    Setting::new("escape_string_warning", "on", ANY),
    Setting::new("extra_float_digits", "1", ANY),
    Setting::new("from_collapse_limit", "8", ANY),
    Setting::new("geqo", "on", ANY),
    Setting::new("geqo_threshold", "12", ANY),
    Setting::new("hash_mem_multiplier", "2", ANY),
    Setting::new("idle_in_transaction_session_timeout", "0", ANY),
    Setting::new("idle_session_timeout", "0", ANY),
    Setting::new("in_hot_standby", "off", SHOWN).reported(),
    Setting::new("integer_datetimes", "on", SHOWN).reported(),
    Setting::new(INTERVAL_STYLE, "postgres", AcceptedValues::OneOf(&["postgres", "iso_8601"]))
        .reported(),
    Setting::new("is_superuser", "off", SHOWN).reported(),
    Setting::new("jit", "off", ANY),
    Setting::new("join_collapse_limit", "8", ANY),
    Setting::new("lc_collate", "C.UTF-8", SHOWN),
    Setting::new("lc_ctype", "C.UTF-8", SHOWN),
    Setting::new("lc_messages", "C.UTF-8", ANY),
    Setting::new("lc_monetary", "C.UTF-8", ANY),
    Setting::new("lc_numeric", "C.UTF-8", ANY),
    Setting::new("lc_time", "C.UTF-8", ANY),
    Setting::new("lock_timeout", "0", ANY),
    Setting::new("log_duration", "off", ANY),
    Setting::new("log_min_duration_statement", "-1", ANY),
    Setting::new("log_min_messages", "warning", ANY),
    Setting::new("log_statement", "none", ANY),
    Setting::new("maintenance_work_mem", "64MB", ANY),
    Setting::new("max_connections", "100", SHOWN),
    Setting::new("max_identifier_length", "255", SHOWN),
    Setting::new("max_index_keys", "32", SHOWN),
    Setting::new("max_parallel_workers", "8", ANY),
    Setting::new("max_parallel_workers_per_gather", "2", ANY),
    Setting::new("parallel_setup_cost", "1000", ANY),
    Setting::new("parallel_tuple_cost", "0.1", ANY),
    Setting::new("plan_cache_mode", "auto", ANY),
    Setting::new("quote_all_identifiers", "off", ANY),
    Setting::new("random_page_cost", "4", ANY),
    Setting::new("role", "none", AcceptedValues::Only(&["none"])),
    Setting::new("row_security", "on", ON),
    Setting::new("search_path", DEFAULT_NAMESPACE, ANY),
    Setting::new("seq_page_cost", "1", ANY),
    Setting::new("server_encoding", "UTF8", SHOWN).reported(),
    Setting::new("server_version", SERVER_VERSION, SHOWN).reported(),
    Setting::new("server_version_num", "150000", SHOWN),
    Setting::new("session_authorization", "", SHOWN).reported(),
    Setting::new("session_replication_role", "origin", ANY),
    Setting::new("standard_conforming_strings", "on", ON).reported(),
    Setting::new("statement_timeout", "0", ANY),
    Setting::new("synchronize_seqscans", "on", ANY),
    Setting::new("synchronous_commit", "on", ON),
    Setting::new("temp_buffers", "8MB", ANY),
    Setting::new("temp_tablespaces", "", ANY),
    Setting::new("TimeZone", "UTC", ANY).reported(),
    Setting::new("transaction_deferrable", "off", AcceptedValues::Switch),
    Setting::new("transaction_isolation", "repeatable read", LEVELS),
    Setting::new(READ_ONLY, "off", AcceptedValues::Only(&["off", "false"])),
    Setting::new("transaction_timeout", "0", ANY),
    Setting::new("vacuum_cost_delay", "0", ANY),
    Setting::new("work_mem", "4MB", ANY),
    Setting::new("xmloption", "content", ANY),
];

/// The values of all settings, in the order of the table.
type SettingValues = [String; TABLE.len()];

/// The settings of a session. A clone shares the values until one of them changes.
#[derive(Debug, Clone)]
pub struct Settings {
    values: Arc<SettingValues>,
    /// The values that `RESET` restores.
    defaults: Arc<SettingValues>,
    /// Settings that the client defined itself, such as `app.user`, by their names in lower case.
    custom: Arc<BTreeMap<String, String>>,
}

impl Default for Settings {
    fn default() -> Self {
        let values = Arc::new(TABLE.map(|setting| setting.default.to_owned()));
        Settings { defaults: values.clone(), values, custom: Arc::default() }
    }
}

impl Settings {
    /// Sets a value. Returns the name and the value if the setting is one whose changes are
    /// reported to the client.
    ///
    /// Errors: `invalid_argument` for an unknown setting, and for a value that the setting does not
    /// accept. A name with a dot is a setting that the client defines itself.
    pub fn set(
        &mut self,
        name: &str,
        value: &str,
    ) -> Result<Option<(&'static str, &str)>, Problem> {
        // Drivers quote values even in the startup message.
        let value = value.strip_prefix('\'').and_then(|it| it.strip_suffix('\'')).unwrap_or(value);
        if name.contains('.') {
            return self.set_custom(name, value).map(|()| None);
        }
        let index = index_of(name)?;
        let Setting { name: known, accepts, is_reported, .. } = TABLE[index];
        let compact: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        match accepts {
            AcceptedValues::Any if known == "TimeZone" => {}
            AcceptedValues::Any if known == "statement_timeout" => {
                parse_timeout(value)?;
                self.put(index, value);
            }
            AcceptedValues::Any => self.put(index, value),
            AcceptedValues::Only(values) if values.contains(&&*compact.to_ascii_lowercase()) => {}
            AcceptedValues::OneOf(values) if values.contains(&&*compact.to_ascii_lowercase()) => {
                self.put(index, &compact.to_ascii_lowercase());
            }
            AcceptedValues::Switch if parse_switch(&compact).is_some() => {
                let is_on = parse_switch(&compact) == Some(true);
                self.put(index, switch_text(is_on));
            }
            _ => return Err(unsupported_value(TABLE[index], value)),
        }
        Ok(is_reported.then_some((known, &self.values[index])))
    }

    /// Sets a value on behalf of the server, for a setting that clients cannot change.
    pub fn set_by_server(&mut self, name: &str, value: &str) {
        if let Ok(index) = index_of(name) {
            self.put(index, value);
        }
    }

    /// Makes the current values the defaults that `RESET` restores. Called after the client has
    /// connected and sent its settings, so that a connection pool can reset a connection to them.
    pub fn keep_as_defaults(&mut self) {
        self.defaults = self.values.clone();
    }

    fn set_custom(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let name = name.to_ascii_lowercase();
        if self.custom.len() >= CUSTOM_MAX && !self.custom.contains_key(&name) {
            let message =
                format!("the session has reached the limit of {CUSTOM_MAX} custom settings");
            return Err(Problem::new(ErrorCode::TooBusy, message)
                .with_hint("Reset settings that are not used."));
        }
        Arc::make_mut(&mut self.custom).insert(name, value.to_owned());
        Ok(())
    }

    fn put(&mut self, index: usize, value: &str) {
        if self.values[index] != value {
            value.clone_into(&mut Arc::make_mut(&mut self.values)[index]);
        }
    }

    /// Returns the value of a setting.
    pub fn get(&self, name: &str) -> Result<&str, Problem> {
        match self.custom.get(&name.to_ascii_lowercase()) {
            Some(value) => Ok(value),
            None => Ok(&self.values[index_of(name)?]),
        }
    }

    /// Restores the default of a setting.
    pub fn reset(&mut self, name: &str) -> Result<(), Problem> {
        if name.contains('.') {
            Arc::make_mut(&mut self.custom).remove(&name.to_ascii_lowercase());
            return Ok(());
        }
        let index = index_of(name)?;
        if TABLE[index].accepts != AcceptedValues::Nothing {
            let defaults = self.defaults.clone();
            self.put(index, &defaults[index]);
        }
        Ok(())
    }

    /// Restores the defaults of all settings.
    pub fn reset_all(&mut self) {
        for setting in TABLE {
            // All names are from the table of settings, so the reset cannot fail.
            let _ = self.reset(setting.name);
        }
        self.custom = Arc::default();
    }

    /// Returns the name and the value of each setting, and true if its changes are reported to the
    /// client.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        let all = TABLE.iter().zip(self.values.iter());
        all.map(|(setting, value)| (setting.name, value.as_str(), setting.is_reported))
    }

    /// Returns the name and the value of each setting that the client defined itself.
    pub fn custom(&self) -> impl Iterator<Item = (&str, &str)> {
        self.custom.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the namespace for unqualified names: the first entry of `search_path`.
    pub fn namespace(&self) -> Option<String> {
        let path = self.get("search_path").ok()?;
        let names = path.split(',').map(|name| name.trim().trim_matches(['"', '\'']));
        let namespace = names.into_iter().find(|name| {
            !name.is_empty() && *name != "$user" && *name != "pg_catalog" && *name != "pg_temp"
        });
        namespace.map(str::to_owned)
    }

    /// Returns true if transactions are read-only unless their modes contain `READ WRITE`.
    pub fn default_read_only(&self) -> bool {
        self.get(DEFAULT_READ_ONLY).is_ok_and(|value| value == switch_text(true))
    }

    /// Returns the form of intervals in text.
    pub fn interval_style(&self) -> IntervalStyle {
        match self.get(INTERVAL_STYLE) {
            Ok("iso_8601") => IntervalStyle::Iso8601,
            _ => IntervalStyle::Postgres,
        }
    }

    /// Returns the time limit of a statement.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let timeout = self.get("statement_timeout").and_then(parse_timeout).ok()?;
        (!timeout.is_zero()).then_some(timeout)
    }
}

fn index_of(name: &str) -> Result<usize, Problem> {
    TABLE.iter().position(|setting| setting.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let message = format!("there is no setting `{name}`");
        Problem::new(ErrorCode::InvalidArgument, message)
            .with_hint("List the settings with `SHOW ALL`.")
    })
}

/// Returns the name of a setting in the spelling of the table of settings; an unknown name is
/// returned unchanged.
pub fn known_name(name: &str) -> &str {
    index_of(name).map_or(name, |index| TABLE[index].name)
}

fn unsupported_value(setting: Setting, value: &str) -> Problem {
    let Setting { name, default, accepts, .. } = setting;
    let message = format!("the setting `{name}` does not support the value `{value}`");
    let hint = match accepts {
        LEVELS => "Use `read uncommitted`, `read committed` or `repeatable read`.".to_owned(),
        AcceptedValues::Switch => "Use `on` or `off`.".to_owned(),
        AcceptedValues::OneOf(values) => format!("Use `{}`.", values.join("` or `")),
        _ => format!("The only supported value is `{default}`."),
    };
    Problem::new(ErrorCode::InvalidArgument, message).with_hint(hint)
}

/// Parses a Boolean value of a setting; `None` for other texts.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "t" | "yes" | "y" | "1" => Some(true),
        "off" | "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// Returns the text of a Boolean setting.
pub fn switch_text(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Parses a duration in PostgreSQL's format: a number without a unit is in milliseconds.
fn parse_timeout(text: &str) -> Result<Duration, Problem> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let millis = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let number = text[..end].parse::<u32>().ok().filter(|_| millis > 0);
    number.map(|number| Duration::from_millis(u64::from(number) * millis)).ok_or_else(|| {
        let message = format!("`{text}` is not a duration");
        Problem::new(ErrorCode::InvalidArgument, message)
            .with_hint("Write milliseconds, or a number with `ms`, `s`, `min`, `h` or `d`.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_accept_what_the_server_does() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("client_encoding", "utf-8"), Ok(Some(("client_encoding", "UTF8"))));
        assert!(settings.set("client_encoding", "'utf-8'").is_ok());
        assert!(settings.set("client_encoding", "LATIN1").is_err());
        assert!(settings.set("datestyle", "ISO, DMY").is_ok());
        let reported = settings.set("intervalstyle", "ISO_8601");
        assert_eq!(reported, Ok(Some(("IntervalStyle", "iso_8601"))));
        assert_eq!(settings.interval_style(), IntervalStyle::Iso8601);
        let error = settings.set("intervalstyle", "sql_standard").expect_err("another style");
        assert_eq!(error.hint.as_deref(), Some("Use `postgres` or `iso_8601`."));
        assert!(settings.set("server_version", "1").is_err());
        assert!(settings.set("default_transaction_isolation", "read committed").is_ok());
        assert!(settings.set("default_transaction_isolation", "serializable").is_err());
        assert!(settings.set("nothing", "1").is_err());
        assert_eq!(settings.set("search_path", "\"$user\", sales, public"), Ok(None));
        assert_eq!(settings.namespace().as_deref(), Some("sales"));
        settings.reset_all();
        assert_eq!(settings.namespace().as_deref(), Some("public"));
    }

    #[test]
    fn settings_without_effect_keep_their_values() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("Work_Mem", "64MB"), Ok(None));
        assert_eq!(settings.get("work_mem"), Ok("64MB"));
        assert_eq!(settings.set("default_transaction_deferrable", "TRUE"), Ok(None));
        assert_eq!(settings.get("default_transaction_deferrable"), Ok("on"));
        assert_eq!(settings.set("app.User", "ann"), Ok(None));
        assert_eq!(settings.get("APP.user"), Ok("ann"));
        assert_eq!(settings.custom().collect::<Vec<_>>(), [("app.user", "ann")]);
        settings.reset("app.user").expect("a setting");
        assert!(settings.get("app.user").is_err());
        for number in 0..CUSTOM_MAX {
            assert_eq!(settings.set(&format!("app.n{number}"), "1"), Ok(None));
        }
        assert!(settings.set("app.more", "1").is_err());
        settings.reset_all();
        assert_eq!((settings.custom().count(), settings.get("work_mem")), (0, Ok("4MB")));
    }

    #[test]
    fn reset_restores_the_values_of_the_startup_message() {
        let mut settings = Settings::default();
        settings.set("search_path", "sales").expect("a setting");
        settings.keep_as_defaults();
        settings.set("search_path", "other").expect("a setting");
        settings.set("statement_timeout", "5s").expect("a setting");
        settings.reset("SEARCH_PATH").expect("a setting");
        assert_eq!(settings.namespace().as_deref(), Some("sales"));
        settings.set("search_path", "other").expect("a setting");
        settings.reset_all();
        assert_eq!(settings.namespace().as_deref(), Some("sales"));
        assert_eq!(settings.statement_timeout(), None);
    }

    #[test]
    fn read_only_is_a_default_of_the_session() {
        let mut settings = Settings::default();
        assert!(!settings.default_read_only());
        assert_eq!(settings.set(DEFAULT_READ_ONLY, "TRUE"), Ok(Some((DEFAULT_READ_ONLY, "on"))));
        assert!(settings.default_read_only());
        assert_eq!(settings.set(DEFAULT_READ_ONLY, "0"), Ok(Some((DEFAULT_READ_ONLY, "off"))));
        assert!(!settings.default_read_only());
        let error = settings.set(DEFAULT_READ_ONLY, "maybe").expect_err("not Boolean");
        assert_eq!(error.hint.as_deref(), Some("Use `on` or `off`."));
    }

    #[test]
    fn the_hint_lists_the_supported_isolation_levels() {
        let mut settings = Settings::default();
        let error = settings.set("default_transaction_isolation", "serializable");
        let hint = error.expect_err("a level that is not supported").hint.expect("a hint");
        for level in ["read uncommitted", "read committed", "repeatable read"] {
            assert!(hint.contains(&format!("`{level}`")), "{hint}");
            assert!(settings.set("default_transaction_isolation", level).is_ok(), "{level}");
        }
        let applies = settings.get("default_transaction_isolation");
        assert_eq!(applies, Ok("repeatable read"));
    }

    #[test]
    fn timeouts_have_units() {
        let mut settings = Settings::default();
        assert_eq!(settings.statement_timeout(), None);
        for (value, millis) in [("250", 250), ("3s", 3_000), ("1 min", 60_000)] {
            settings.set("statement_timeout", value).expect("a duration");
            assert_eq!(settings.statement_timeout(), Some(Duration::from_millis(millis)));
        }
        assert!(settings.set("statement_timeout", "soon").is_err());
        assert!(settings.set("statement_timeout", "99999999999").is_err());
    }
}
