//! "Did you mean": the name nearest to one that was not found.

/// The candidate nearest to `name`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

/// A hint: the nearest candidate, or else all of them, said to be `what`.
pub(crate) fn hint<'a>(
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
