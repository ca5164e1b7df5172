//! Names of classes in pictures: their length, their width, and what a PNG can show of them.

/// Pixels that a letter takes on average, by its size.
const LETTER: f64 = 0.6;

/// `text` in at most `most` letters: the middle of a longer one is left out, as names with the same start often differ
/// at their end. Control characters become spaces.
pub(super) fn shorten(text: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let letters: Vec<char> = text.chars().map(clean).collect();
    if letters.len() <= most {
        return letters.into_iter().collect();
    }
    let kept = most.saturating_sub(1);
    let (head, tail) = (&letters[..kept.div_ceil(2)], &letters[letters.len() - kept / 2..]);
    head.iter().chain(&['…']).chain(tail).collect()
}

/// About how wide `text` is in letters of `size`.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| if is_drawn(c) { LETTER } else { 1.1 } * size).sum()
}

/// `name`, or the number of the class where the font inside the program lacks a letter. An SVG has the name itself, as its
/// viewer has fonts.
pub(super) fn in_png(name: &str, number: usize) -> String {
    match name.chars().all(is_drawn) {
        true => name.to_string(),
        false => format!("class {number}"),
    }
}

/// Whether DejaVu Sans has `c` and it stands for itself: Arabic and Hebrew would need shaping and another direction.
fn is_drawn(c: char) -> bool {
    matches!(c, '\u{20}'..='\u{58f}' | '\u{10d0}'..='\u{10fc}' | '\u{1e00}'..='\u{27bf}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abc…fg");
        assert_eq!(shorten("ab\ncdefg", 5), "ab…fg");
        assert_eq!(shorten("a\tb", 5), "a b");
        assert_eq!((shorten("ab", 1), shorten("ab", 0)), ("…".into(), "…".into()));
    }

    #[test]
    fn names_that_the_font_lacks_become_numbers() {
        for name in ["rose", "Ærøskøbing", "вишня", "τριαντάφυλλο", "ვარდი", "a…b"]
        {
            assert_eq!(in_png(name, 3), name);
        }
        for name in ["玫瑰", "زهرة", "a ורד", "गुलाब", "😀"] {
            assert_eq!(in_png(name, 3), "class 3");
        }
        assert!(width("玫瑰", 10.0) > width("ab", 10.0));
    }
}
