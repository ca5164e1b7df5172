//! The classes of ImageNet-1k, in the order of the published weights.
//!
//! ```
//! assert_eq!(headstart::imagenet::classes()[207], "golden retriever");
//! ```

/// The 1000 class names, as torchvision lists them.
pub fn classes() -> Vec<String> {
    include_str!("imagenet_classes.txt").lines().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_a_thousand_different_names() {
        let mut names = super::classes();
        assert_eq!(
            (names.len(), names[0].as_str(), names[999].as_str()),
            (1000, "tench", "toilet tissue")
        );
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1000);
    }
}
