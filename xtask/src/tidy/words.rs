//! Words that the house style bans from comments, docs, messages and names.

/// Words and phrases, in lower case, matched as whole words; a final `*` also matches the plural.
const BANNED: [&str; 22] = [
    "anew",
    "as little",
    "beside",
    "came of it",
    "door*",
    "every so",
    "is told",
    "may well",
    "nobody",
    "of late",
    "put right",
    "room*",
    "says that",
    "shelf",
    "so many",
    "somebody",
    "strike*",
    "what is",
    "what was",
    "who",
    "whoever",
    "workshop",
];

/// Counts the banned words of a text; returns each with its 1-based line.
pub fn find(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // The words of a name such as `the_door` count, too.
        let line = line.to_lowercase().replace('_', " ");
        for word in BANNED {
            let stem = word.trim_end_matches('*');
            let count = line.match_indices(stem).filter(|(at, _)| is_whole(&line, *at, word));
            found.extend(count.map(|_| (index + 1, stem)));
        }
    }
    found
}

fn is_whole(line: &str, at: usize, word: &str) -> bool {
    let stem = word.trim_end_matches('*');
    let is_word = |c: char| c.is_alphanumeric();
    let mut after = &line[at + stem.len()..];
    if word.ends_with('*') {
        after = after.strip_prefix('s').unwrap_or(after);
    }
    !line[..at].ends_with(is_word) && !after.starts_with(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_count() {
        let words = |text| find(text).into_iter().map(|(_, word)| word).collect::<Vec<_>>();
        assert_eq!(words("Doors of a room"), ["door", "room"]);
        assert_eq!(words("besides, outdoors, mushroom, whole"), [""; 0]);
        assert_eq!(words("what is so many"), ["so many", "what is"]);
        assert_eq!(words("fn who_enters_the_room()"), ["room", "who"]);
    }
}
