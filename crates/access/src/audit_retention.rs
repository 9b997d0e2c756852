//! The retention time of events in the audit log, which is a setting of the lake.

use headwater_model::{AuditRetention, Principal};

use crate::access::RightsChange;
use crate::record::{AUDIT_RETENTION, put};
use crate::{Error, Result};

/// Minimum retention, in seconds. So a change of this setting cannot hide itself: its audit event
/// is kept for at least this time.
const KEEP_SECONDS_MIN: u64 = 86_400;

/// The audit retention setting of a lake.
pub struct AuditRetentionSetting<'a>(&'a crate::Access);

impl<'a> AuditRetentionSetting<'a> {
    /// Creates a handle to the setting.
    pub fn of(access: &'a crate::Access) -> Self {
        AuditRetentionSetting(access)
    }

    /// Returns the setting; a year by default.
    pub fn get(&self) -> AuditRetention {
        self.0.directory().audit_retention.unwrap_or_default()
    }

    /// Sets the retention time of events. [`crate::AuditLog::expire`] deletes older events.
    ///
    /// Errors: `invalid_argument` if the time is less than a day.
    pub async fn set(&self, by: &Principal, retention: AuditRetention) -> Result<AuditRetention> {
        if retention.keep_seconds < KEEP_SECONDS_MIN {
            return Err(Error::Retention);
        }
        self.0
            .change(by, |_| {
                Ok(RightsChange {
                    entries: vec![put(AUDIT_RETENTION.to_owned(), &retention)?],
                    action: "set_audit_retention",
                    object: "lake".to_owned(),
                    detail: format!("{} seconds", retention.keep_seconds),
                    result: retention,
                })
            })
            .await
    }
}
