//! Settings in transactions. `ROLLBACK` undoes the `SET` statements of its transaction, and `SET
//! LOCAL` applies until the end of the transaction.

use crate::backend_message::{ReplyWriter, TransactionStatus};
use crate::session::Session;
use crate::settings::{APPLICATION_NAME, Settings};

/// The settings that are restored when a transaction ends.
#[derive(Debug)]
pub struct TransactionSettings {
    /// The settings at the beginning of the transaction, which `ROLLBACK` restores.
    before: Settings,
    /// The settings without the changes of `SET LOCAL`, which apply after `COMMIT`.
    lasting: Settings,
    /// The settings at each savepoint.
    savepoints: Vec<SavepointSettings>,
}

/// The settings at a savepoint: `lasting` is without the changes of `SET LOCAL`.
#[derive(Debug)]
struct SavepointSettings {
    name: String,
    current: Settings,
    lasting: Settings,
}

impl TransactionSettings {
    /// Creates the value at the beginning of a transaction, with the current settings.
    pub fn new(current: &Settings) -> Self {
        TransactionSettings {
            before: current.clone(),
            lasting: current.clone(),
            savepoints: Vec::new(),
        }
    }

    /// Returns the settings that apply after `COMMIT`. `SET` must change them in addition to the
    /// current settings.
    pub fn lasting_mut(&mut self) -> &mut Settings {
        &mut self.lasting
    }

    /// Adds a savepoint.
    pub fn add_savepoint(&mut self, name: &str, current: &Settings) {
        let (current, lasting) = (current.clone(), self.lasting.clone());
        self.savepoints.push(SavepointSettings { name: name.to_owned(), current, lasting });
    }

    /// Removes a savepoint and all later savepoints.
    pub fn release(&mut self, name: &str) {
        if let Some(index) = self.find(name) {
            self.savepoints.truncate(index);
        }
    }

    /// Returns the settings that were current at a savepoint, and removes all later savepoints.
    pub fn roll_back_to(&mut self, name: &str) -> Option<Settings> {
        let index = self.find(name)?;
        self.savepoints.truncate(index + 1);
        let SavepointSettings { current, lasting, .. } = &self.savepoints[index];
        self.lasting = lasting.clone();
        Some(current.clone())
    }

    /// Returns the settings that apply after the end of the transaction.
    pub fn end(self, is_committed: bool) -> Settings {
        if is_committed { self.lasting } else { self.before }
    }

    /// Returns the index of the latest savepoint with this name.
    fn find(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name)
    }
}

impl Session {
    /// Restores settings at the end of a transaction.
    pub(crate) fn end_transaction_settings(&mut self, is_committed: bool) {
        if let Some(settings) = self.transaction_settings.take() {
            self.replace_settings(settings.end(is_committed));
        }
    }

    /// Replaces the settings, and reports the changed values to the client.
    pub(crate) fn replace_settings(&mut self, settings: Settings) {
        let previous = std::mem::replace(&mut self.settings, settings);
        for (current, previous) in self.settings.all().zip(previous.all()) {
            let (name, value, is_reported) = current;
            if value == previous.1 {
                continue;
            }
            if name == APPLICATION_NAME {
                self.connection.set_application_name(value);
            }
            if is_reported {
                self.wire.output.setting(name, value);
            }
        }
    }

    /// Returns true if a transaction is open.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.status != TransactionStatus::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "search_path";

    fn at(value: &str) -> Settings {
        let mut settings = Settings::default();
        settings.set(NAME, value).expect("a setting");
        settings
    }

    fn check(settings: &Settings, expected: &str) {
        assert_eq!(settings.get(NAME), Ok(expected));
    }

    #[test]
    fn the_end_of_a_transaction_restores_settings() {
        check(&TransactionSettings::new(&at("a")).end(true), "a");
        let changed = || {
            let mut settings = TransactionSettings::new(&at("a"));
            settings.lasting_mut().set(NAME, "b").expect("a setting");
            settings
        };
        check(&changed().end(true), "b");
        check(&changed().end(false), "a");
    }

    #[test]
    fn a_savepoint_restores_settings() {
        let mut settings = TransactionSettings::new(&at("a"));
        settings.add_savepoint("s", &at("b"));
        settings.lasting_mut().set(NAME, "c").expect("a setting");
        settings.add_savepoint("s", &at("c"));
        settings.add_savepoint("later", &at("d"));
        check(&settings.roll_back_to("s").expect("a savepoint"), "c");
        assert!(settings.roll_back_to("later").is_none());
        settings.release("s");
        check(&settings.roll_back_to("s").expect("a savepoint"), "b");
        check(&settings.end(true), "a");
    }
}
