//! Daily budgets of functions: calls, billed time and money.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

/// The budget of a function for each day (UTC). A missing value means no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DailyBudget {
    /// Maximum number of calls per day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_day: Option<u64>,
    /// Maximum billed time per day, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_ms_per_day: Option<u64>,
    /// Maximum cost per day, in the currency of the rate card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money_per_day: Option<f64>,
}

impl DailyBudget {
    /// Returns true if the budget limits nothing.
    pub fn is_empty(&self) -> bool {
        *self == DailyBudget::default()
    }

    /// Sets the maximum billed time per day; `None` for no limit.
    #[must_use]
    pub fn with_time(self, time: Option<Duration>) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        DailyBudget { billed_ms_per_day: time.map(milliseconds), ..self }
    }
}

/// The budget of a function, and the part of it that is used today.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetUsage {
    /// The budget.
    pub budget: DailyBudget,
    /// Number of calls today, including running calls.
    pub calls: u64,
    /// Billed time of the calls that ended today, in milliseconds.
    pub billed_ms: u64,
    /// Cost of the calls that ended today.
    pub money: f64,
    /// Currency of the cost.
    pub currency: String,
    /// True if the rest of the budget is too small for another call today.
    pub is_exhausted: bool,
    /// End of the current day (UTC), at which the usage is reset to zero.
    #[schema(value_type = String, format = DateTime)]
    pub day_ends: Timestamp,
}
