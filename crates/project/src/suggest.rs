//! Hints for unknown names.

use headwater_model::nearest;

/// Returns a hint with the most similar candidate. If no candidate is similar, the hint lists all
/// candidates, described as `what`.
pub fn hint<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    if let Some(near) = nearest(name, candidates.clone()) {
        return format!("Did you mean `{near}`?");
    }
    let listed: Vec<String> =
        candidates.into_iter().take(16).map(|name| format!("`{name}`")).collect();
    if listed.is_empty() {
        return format!("There are no {what}.");
    }
    format!("The {what} are {}.", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        assert_eq!(hint("flihgts", ["flights", "weather"], "tables"), "Did you mean `flights`?");
        assert_eq!(hint("zzz", ["a", "b"], "keys"), "The keys are `a`, `b`.");
        assert_eq!(hint("zzz", [], "keys"), "There are no keys.");
    }
}
