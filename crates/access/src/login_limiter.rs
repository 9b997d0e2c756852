//! Limits on failed logins, per address and per user.
//!
//! After [`FAILURES_FREE`] failures, further attempts are rejected for a time that doubles with
//! each failure. During that time, passwords are rejected, but valid tokens are accepted: tokens
//! cannot be guessed, and without this exception one client could lock out other clients with the
//! same address. The number of recorded sources (addresses and users) is limited. Above the limit,
//! the source with the oldest last failure is removed.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use headwater_model::{ErrorCode, Problem};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// Key in a problem's context with the number of seconds until the next attempt.
pub const LOGIN_RETRY_AFTER: &str = "retry_after_s";

/// The number of failures before the first lock-out.
const FAILURES_FREE: u32 = 10;

/// Duration of the first lock-out. Each further lock-out lasts twice as long as the previous one.
const LOCK_MIN: Duration = Duration::from_secs(1);

/// Maximum duration of a lock-out.
const LOCK_MAX: Duration = Duration::from_secs(15 * 60);

/// Time after its last failure for which the failures of a source (an address or a user) are
/// remembered.
const MEMORY: Duration = Duration::from_secs(60 * 60);

/// Maximum number of sources whose failures are recorded.
const SOURCES_MAX: u64 = 20_000;

/// Maximum length of a recorded user name, in bytes.
const USER_BYTES_MAX: usize = 200;

/// The address or the user whose failed logins are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum LoginSource {
    Address(IpAddr),
    User(String),
}

/// The number of failed logins, and the time until which further attempts are rejected.
#[derive(Debug, Clone, Copy)]
struct FailureCount {
    count: u32,
    locked_until: Instant,
}

/// Failed logins of a server, over all protocols.
pub struct LoginLimiter {
    failures: Cache<LoginSource, FailureCount>,
}

/// An attempt to log in over the network.
#[derive(Debug, Clone, Copy)]
pub struct LoginAttempt<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// The user name in the credentials, if any.
    pub user: Option<&'a str>,
}

impl LoginAttempt<'_> {
    fn sources(&self) -> impl Iterator<Item = LoginSource> {
        let user = self.user.map(|user| {
            let end = user.floor_char_boundary(USER_BYTES_MAX);
            LoginSource::User(user[..end].to_owned())
        });
        [LoginSource::Address(network(self.address))].into_iter().chain(user)
    }
}

impl Default for LoginLimiter {
    fn default() -> Self {
        let failures = Cache::builder()
            .max_capacity(SOURCES_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(MEMORY)
            .build();
        LoginLimiter { failures }
    }
}

impl LoginLimiter {
    /// Checks that neither the address nor the user of an attempt is locked out.
    ///
    /// Errors: `too_busy`, with [`LOGIN_RETRY_AFTER`] in its context.
    pub fn check(&self, attempt: LoginAttempt<'_>) -> Result<(), Problem> {
        match self.wait(attempt, Instant::now()) {
            None => Ok(()),
            Some(wait) => Err(refusal(wait)),
        }
    }

    /// Records a failed attempt.
    pub fn record_failure(&self, attempt: LoginAttempt<'_>) {
        self.record_failure_at(attempt, Instant::now());
    }

    fn record_failure_at(&self, attempt: LoginAttempt<'_>, now: Instant) {
        for source in attempt.sources() {
            let entry = self.failures.entry(source).and_upsert_with(|entry| {
                let count = entry.map_or(0, |entry| entry.into_value().count).saturating_add(1);
                FailureCount { count, locked_until: now + lock(count) }
            });
            let failures = entry.into_value();
            if failures.count == FAILURES_FREE {
                // Omit the user: a client may send a password as the name by mistake.
                let address = attempt.address;
                tracing::warn!(%address, "logins are limited after {FAILURES_FREE} failures");
            }
        }
    }

    /// Returns the time until the attempt is allowed; `None` if the attempt is allowed now.
    fn wait(&self, attempt: LoginAttempt<'_>, now: Instant) -> Option<Duration> {
        let locks = attempt.sources().filter_map(|source| self.failures.get(&source));
        let until = locks.map(|failures| failures.locked_until).max()?;
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

fn refusal(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    let mut problem = Problem::new(ErrorCode::TooBusy, "too many failed logins")
        .with_hint(format!("Check the credentials, and try again in {seconds} s."));
    problem.context.insert(LOGIN_RETRY_AFTER.to_owned(), seconds.into());
    problem
}

/// Returns the duration of the lock-out after this number of failures.
fn lock(failures: u32) -> Duration {
    let Some(excess) = failures.checked_sub(FAILURES_FREE) else { return Duration::ZERO };
    LOCK_MIN.saturating_mul(1 << excess.min(20)).min(LOCK_MAX)
}

/// Returns the part of an address by which failures are counted, because a client cannot choose it
/// freely: the first 64 bits of an IPv6 address, or a whole IPv4 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(address: &str, user: Option<&'static str>) -> LoginAttempt<'static> {
        LoginAttempt { address: address.parse().expect("an address"), user }
    }

    #[test]
    fn a_lock_out_doubles_with_each_failure() {
        let (limit, now) = (LoginLimiter::default(), Instant::now());
        let eva = attempt("10.0.0.1", None);
        for _ in 1..FAILURES_FREE {
            limit.record_failure_at(eva, now);
            assert_eq!(limit.wait(eva, now), None);
        }
        for expected in [1, 2, 4, 8] {
            limit.record_failure_at(eva, now);
            assert_eq!(limit.wait(eva, now), Some(Duration::from_secs(expected)));
            assert_eq!(limit.wait(eva, now + Duration::from_secs(expected)), None);
        }
        for _ in 0..100 {
            limit.record_failure_at(eva, now);
        }
        assert_eq!(limit.wait(eva, now), Some(LOCK_MAX));
        assert_eq!(limit.wait(attempt("10.0.0.2", None), now), None);
    }

    #[test]
    fn a_user_is_locked_out_from_every_address_and_an_address_for_every_user() {
        let (limit, now) = (LoginLimiter::default(), Instant::now());
        for host in 0..FAILURES_FREE {
            let address = IpAddr::from([10, 0, 0, host as u8]);
            limit.record_failure_at(LoginAttempt { address, user: Some("eva") }, now);
        }
        assert!(limit.wait(attempt("10.0.1.1", Some("eva")), now).is_some());
        assert_eq!(limit.wait(attempt("10.0.0.1", Some("tom")), now), None);
        for _ in 0..FAILURES_FREE {
            limit.record_failure_at(attempt("2001:db8::1", None), now);
        }
        assert!(limit.wait(attempt("2001:db8::2", Some("tom")), now).is_some());
        assert_eq!(limit.wait(attempt("2001:db8:0:1::1", Some("tom")), now), None);
        let problem = limit.check(attempt("2001:db8::1", None)).expect_err("a lock-out");
        assert_eq!(problem.context[LOGIN_RETRY_AFTER], 1);
    }

    #[test]
    fn the_table_of_failed_logins_is_bounded() {
        let limit = LoginLimiter::default();
        for host in 0..3 * SOURCES_MAX as u32 {
            let address = IpAddr::V4(host.into());
            limit.record_failure(LoginAttempt { address, user: None });
        }
        limit.failures.run_pending_tasks();
        assert!(limit.failures.entry_count() <= SOURCES_MAX);
    }
}
