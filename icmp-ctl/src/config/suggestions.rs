//! The name that was probably meant by an unknown one.

/// Those of the names that a text may be a misspelling of, the most similar first; none where all are other words.
pub fn similar<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let letters = text.chars().count();
    let mut near: Vec<_> = names
        .into_iter()
        .map(|name| (name, name.len().max(text.len()) / 3))
        // The distance is no less than the lengths differ by, and takes long to find for long texts.
        .filter(|(name, most)| name.chars().count().abs_diff(letters) <= *most)
        .map(|(name, most)| (strsim::osa_distance(text, name), name, most))
        .filter(|(distance, _, most)| distance <= most)
        .map(|(distance, name, _)| (distance, name))
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.dedup();
    near.into_iter().map(|(_, name)| name).take(MOST).collect()
}

/// As [`similar`], as the part of a sentence: `; did you mean a or b?`, or nothing.
pub fn did_you_mean<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match &similar(text, names)[..] {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// More are no help.
const MOST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_recognised_and_another_word_is_not() {
        let verbs = ["attach", "detach", "confirm", "status", "show"];
        assert_eq!(similar("atach", verbs), ["attach", "detach"]);
        assert_eq!(similar("stauts", verbs), ["status"]);
        assert!(similar("monitor", verbs).is_empty());
        assert_eq!(did_you_mean("shw", verbs), "; did you mean show?");
        assert_eq!(did_you_mean("monitor", verbs), "");
        assert!(similar(&"9".repeat(1_000_000), verbs).is_empty(), "without comparing each letter with each");
    }
}
