//! "Did you mean": the names most similar to a misspelt one.
//!
//! ```
//! use headstart::nearest::did_you_mean;
//!
//! assert_eq!(did_you_mean("resnet5O", ["resnet18", "resnet50"]), "did you mean resnet50, resnet18?");
//! ```

/// At most `count` of `names`, the most similar to `name` first: by normalised Damerau-Levenshtein
/// similarity, of which 0.6 is needed, plus 0.4 for a name that contains `name`.
pub fn nearest<'a>(
    name: &str,
    names: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            let bonus = if !wanted.is_empty() && lower.contains(&wanted) { 0.4 } else { 0.0 };
            (strsim::normalized_damerau_levenshtein(&wanted, &lower) + bonus, candidate)
        })
        .filter(|(score, _)| *score >= 0.6)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(count).map(|(_, n)| n).collect()
}

/// A hint that offers the nearest names, or empty where none is near.
pub fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, names, 3);
    if near.is_empty() { String::new() } else { format!("did you mean {}?", near.join(", ")) }
}

/// Most names that a hint lists.
const LISTED: usize = 20;

/// A hint that offers the nearest names, or where none is near, lists them all: `what` they are, such as "the classes",
/// comes first.
pub fn one_of(what: &str, name: &str, names: &[String]) -> String {
    let near = did_you_mean(name, names.iter().map(String::as_str));
    if near.is_empty() { listed(what, names) } else { near }
}

/// The names, of which a hint lists so many: `what` they are comes first.
pub fn listed(what: &str, names: &[String]) -> String {
    match names.len() {
        0..=LISTED => format!("{what} are {}", names.join(", ")),
        n => format!("{what} are {}, ... ({n} in all)", names[..LISTED].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_name_comes_first_and_strangers_are_left_out() {
        let names = ["conv4_block2_3_bn", "conv1_pad", "avg_pool"];
        assert_eq!(nearest("conv4_blok2_3_bn", names, 1), ["conv4_block2_3_bn"]);
        assert!(nearest("zzz", names, 3).is_empty());
        assert_eq!(did_you_mean("zzz", names), "");
        let names = names.map(String::from);
        assert_eq!(one_of("the layers", "avgpool", &names), "did you mean avg_pool?");
        let all = "the layers are conv4_block2_3_bn, conv1_pad, avg_pool";
        assert_eq!(one_of("the layers", "zzz", &names), all);
        let many: Vec<String> = (0..300).map(|i| i.to_string()).collect();
        assert!(one_of("the classes", "x", &many).ends_with("18, 19, ... (300 in all)"));
    }
}
