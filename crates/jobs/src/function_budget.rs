//! Daily budgets of functions: calls, billed time and money, in UTC.
//!
//! Before a call starts, it reserves its maximum usage: one call, its time limit, and the cost of
//! that time. The call is rejected if the sum of the day's usage, the reservations of running calls
//! and its own reservation exceeds the budget. At the end of the call, its usage replaces the
//! reservation.
//!
//! The journal of the users' daily usage also contains the daily usage of functions, with
//! `/functions/NAME` as the user. Names of users contain no `/`. The usage of a call is stored with
//! the next write after the end of the call. If the process ends during a call, the call is counted
//! at the next start.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_model::{BudgetUsage, DailyBudget, RateCard, Timestamp, Usage};
use headwater_store::Store;
use parking_lot::Mutex;

use crate::user_quota::{DailyUsage, Quotas, end_of_day};
use crate::{Error, Jobs, Result};

/// Prefix of the keys of functions in the journal of daily usage.
const FUNCTIONS: &str = "/functions/";

/// The budget for a call of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct CallBudget {
    /// Name of the function.
    pub function: String,
    /// The budget of the function.
    pub budget: DailyBudget,
    /// Maximum time, processor time and memory of the call.
    pub usage_max: Usage,
}

/// Sums of the reservations of running calls, by key.
pub(crate) type Reservations = Arc<Mutex<HashMap<String, DailyUsage>>>;

/// The reservation of a running call; released when dropped.
pub(crate) struct BudgetPermit {
    reservations: Reservations,
    key: String,
    own: DailyUsage,
}

impl Drop for BudgetPermit {
    fn drop(&mut self) {
        let mut reservations = self.reservations.lock();
        if let Some(sum) = reservations.get_mut(&self.key) {
            sum.subtract(self.own);
            if sum.calls == 0 {
                reservations.remove(&self.key);
            }
        }
    }
}

/// Returns the key of a function in the journal of daily usage.
pub(crate) fn budget_key(function: &str) -> String {
    format!("{FUNCTIONS}{function}")
}

/// Returns true if a key of the journal of daily usage belongs to a function.
pub(crate) fn is_budget_key(key: &str) -> bool {
    key.starts_with(FUNCTIONS)
}

impl Quotas {
    /// Reserves the budget for a call; `None` for a job without a budget.
    ///
    /// Errors: `quota_exceeded`.
    pub(crate) async fn reserve(
        &self,
        store: &dyn Store,
        call: Option<&CallBudget>,
        card: &RateCard,
        now: Timestamp,
    ) -> Result<Option<BudgetPermit>> {
        let Some(call) = call else { return Ok(None) };
        let key = budget_key(&call.function);
        self.of_day(store, &key, now.date_naive()).await?;
        let own = call.reservation(card);
        // A call adds its usage before it releases its reservation. So read the usage while the
        // reservations are locked; otherwise, a call that ends in between would be counted neither
        // as usage nor as a reservation.
        let mut reservations = self.reservations.lock();
        let used = self.known(&key, now.date_naive());
        let reserved = reservations.get(&key).copied().unwrap_or_default();
        call.check(used, reserved, own, now)?;
        reservations.entry(key.clone()).or_default().add(own);
        Ok(Some(BudgetPermit { reservations: self.reservations.clone(), key, own }))
    }
}

impl CallBudget {
    /// Returns the budget of the function, and the usage of the function today.
    pub async fn usage_today(&self, jobs: &Jobs) -> Result<BudgetUsage> {
        let shared = &jobs.inner.shared;
        let now = shared.clock.now();
        let key = budget_key(&self.function);
        let used = shared.quotas.of_day(&*shared.store, &key, now.date_naive()).await?;
        let running = shared.quotas.reservations.lock().get(&key).copied().unwrap_or_default();
        let card = shared.rate_card.read().clone();
        let own = self.reservation(&card);
        // A running call reserves its maximum time and cost, and usually uses less, so its
        // reservation does not exhaust the budget. Count only the number of running calls.
        let counted = DailyUsage { calls: running.calls, ..DailyUsage::default() };
        Ok(BudgetUsage {
            budget: self.budget,
            calls: used.calls.saturating_add(running.calls),
            billed_ms: used.billed_ms,
            money: used.money,
            currency: card.currency,
            is_exhausted: self.check(used, counted, own, now).is_err(),
            day_ends: end_of_day(now),
        })
    }

    /// Returns the maximum usage of one call.
    fn reservation(&self, card: &RateCard) -> DailyUsage {
        DailyUsage {
            bytes: 0,
            money: card.cost(&self.usage_max),
            calls: 1,
            billed_ms: self.usage_max.wall_ms,
        }
    }

    fn check(
        &self,
        used: DailyUsage,
        reserved: DailyUsage,
        own: DailyUsage,
        now: Timestamp,
    ) -> Result<()> {
        let DailyBudget { calls_per_day, billed_ms_per_day, money_per_day } = self.budget;
        let exhausted = |setting: &'static str, used: String, limit: String, permits_call: bool| {
            Err(Error::FunctionBudget {
                function: self.function.clone(),
                setting,
                used,
                limit,
                permits_call,
                day_ends: end_of_day(now),
            })
        };
        let mut sum = used;
        sum.add(reserved);
        if let Some(limit) = calls_per_day.filter(|limit| sum.calls >= *limit) {
            let text = format!("{} calls", sum.calls);
            return exhausted("calls_per_day", text, limit.to_string(), limit > 0);
        }
        let needed_ms = sum.billed_ms.saturating_add(own.billed_ms);
        if let Some(limit) = billed_ms_per_day.filter(|limit| needed_ms > *limit) {
            let text = format!(
                "{} ms billed, {} ms reserved by running calls, {} ms needed",
                used.billed_ms, reserved.billed_ms, own.billed_ms
            );
            return exhausted("time_per_day", text, format!("{limit} ms"), own.billed_ms <= limit);
        }
        let needed = sum.money + own.money;
        if let Some(limit) = money_per_day.filter(|limit| needed > *limit) {
            let text = format!(
                "a cost of {:.6}, {:.6} reserved by running calls, {:.6} needed",
                used.money, reserved.money, own.money
            );
            return exhausted("money_per_day", text, limit.to_string(), own.money <= limit);
        }
        Ok(())
    }
}
