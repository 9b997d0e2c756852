//! Hints for unknown names.

use headwater_model::nearest;

/// The maximum number of candidates in a hint.
const LISTED_MAX: usize = 32;

/// Returns a hint with the most similar candidate. If no candidate is similar, the hint lists the
/// candidates, described as `what`.
pub fn hint<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    if let Some(near) = nearest(name, candidates.clone()) {
        return format!("Did you mean `{near}`?");
    }
    let mut listed: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    if listed.is_empty() {
        return format!("There are no {what}.");
    }
    let rest = listed.split_off(listed.len().min(LISTED_MAX));
    let rest = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("The {what} are {}{rest}.", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_listed() {
        assert_eq!(hint("flihgts", ["flights", "weather"], "tables"), "Did you mean `flights`?");
        assert_eq!(hint("zzz", ["a", "b"], "keys"), "The keys are `a`, `b`.");
        assert_eq!(hint("zzz", [], "keys"), "There are no keys.");
        assert!(hint("zzz", ["a"; 40], "keys").ends_with("`a` and 8 more."));
    }
}
