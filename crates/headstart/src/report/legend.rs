//! The legend under a plot: kuva's own does not break lines.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::names::width;

/// Letters' size, and pixels from line to line.
const SIZE: u32 = 12;
const LINE: f64 = 18.0;
/// Where entries begin, pixels of a line before its text, and pixels between entries.
const LEFT: f64 = 24.0;
const MARK: f64 = 28.0;
const GAP: f64 = 20.0;

/// One line of a plot.
pub(super) struct Entry {
    pub text: String,
    pub color: &'static str,
    pub stroke: f64,
    pub dashed: bool,
}

/// Adds the legend below `scene`, which becomes as much higher. Entries stand beside each other where they fit; long ones are
/// broken between words.
pub(super) fn add(scene: &mut Scene, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let (wide, mut x, mut y) = (scene.width - LEFT, LEFT, scene.height + f64::from(SIZE) + 4.0);
    for entry in entries {
        let lines = broken(&entry.text, wide - LEFT - MARK);
        let longest = lines.iter().map(|l| width(l, f64::from(SIZE))).fold(0.0, f64::max);
        if x > LEFT && (lines.len() > 1 || x + MARK + longest > wide) {
            (x, y) = (LEFT, y + LINE);
        }
        scene.add(Primitive::Line {
            x1: x,
            y1: y - 4.0,
            x2: x + MARK - 6.0,
            y2: y - 4.0,
            stroke: Color::from(entry.color),
            stroke_width: entry.stroke,
            stroke_dasharray: entry.dashed.then(|| SHORT.to_string()),
        });
        for (i, line) in lines.iter().enumerate() {
            y += if i > 0 { LINE } else { 0.0 };
            scene.add(Primitive::Text {
                x: x + MARK,
                y,
                content: line.clone(),
                size: SIZE,
                anchor: TextAnchor::Start,
                rotate: None,
                bold: false,
                color: None,
            });
        }
        match lines.len() {
            1 => x += MARK + longest + GAP,
            _ => (x, y) = (LEFT, y + LINE),
        }
    }
    scene.height = if x > LEFT { y + LINE } else { y };
}

/// Two dashes in the legend's line.
const SHORT: &str = "8 6";

/// `text` in lines of at most `most` pixels, as far as its words allow.
fn broken(text: &str, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let Some(last) = lines.last_mut() else { break };
        let longer = if last.is_empty() { word.to_string() } else { format!("{last} {word}") };
        match last.is_empty() || width(&longer, f64::from(SIZE)) <= most {
            true => *last = longer,
            false => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(entries: &[&str]) -> (Vec<(f64, f64, String)>, f64) {
        let mut scene = Scene::new(300.0, 100.0);
        let entry = |text: &&str| Entry {
            text: text.to_string(),
            color: "#000000",
            stroke: 2.0,
            dashed: false,
        };
        add(&mut scene, &entries.iter().map(entry).collect::<Vec<_>>());
        let text = |p: &Primitive| match p {
            Primitive::Text { x, y, content, .. } => Some((*x, *y, content.clone())),
            _ => None,
        };
        (scene.elements.iter().filter_map(text).collect(), scene.height)
    }

    #[test]
    fn entries_share_a_line_where_they_fit_and_long_ones_are_broken() {
        let (short, height) = texts(&["train", "validation"]);
        assert_eq!(short[0].1, short[1].1);
        assert!(short[0].0 < short[1].0 && height < 140.0);
        let long = "train (augmented, mixup 0.2, CutMix 1, dropout 0.2, label smoothing 0.1)";
        let (lines, height) = texts(&[long, "validation"]);
        assert!(lines.len() > 2 && lines.windows(2).all(|l| l[0].1 < l[1].1), "{lines:?}");
        let own: Vec<&str> = lines[..lines.len() - 1].iter().map(|l| l.2.as_str()).collect();
        assert_eq!(own.join(" "), long);
        assert!(lines.iter().all(|l| l.1 < height && l.0 + width(&l.2, 12.0) <= 300.0));
        assert_eq!(texts(&["oneverylongwordthatcannotbebrokenanywhereatall"]).0.len(), 1);
    }
}
