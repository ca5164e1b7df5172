//! Lines along which a map has one value.

use std::collections::BTreeMap;

use super::Heat;
use crate::data::image::Window;

/// The values that lines are drawn at, as fractions of a map's greatest.
pub const LEVELS: [f32; 3] = [0.25, 0.5, 0.75];
/// Steps across each pixel of the map: the map is bilinear between centres, so that lines bend inside.
const STEPS: usize = 4;

/// A side of a cell of the grid: its upper or left point, and whether it goes down.
type Side = (usize, usize, bool);

/// The lines along which `heat` has `level` times its greatest value, as points from 0 to 1 across and down the image
/// (marching squares). A line that does not end at the map's edge ends where it begins. Where the map reaches over the
/// image, so do points.
pub fn contours(heat: &Heat, level: f32) -> Vec<Vec<(f32, f32)>> {
    let (rows, columns) = (heat.height * STEPS, heat.width * STEPS);
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    let place = |i: usize, n: usize| i as f32 / n as f32;
    let most = heat.most();
    let at = |y: usize, x: usize| heat.part_of(most, place(x, columns), place(y, rows));
    let points = (0..=rows).flat_map(|y| (0..=columns).map(move |x| (y, x)));
    let grid: Vec<f32> = points.map(|(y, x)| at(y, x)).collect();
    let value = |(y, x): (usize, usize)| grid[y * (columns + 1) + x];
    // Where a line crosses a side.
    let point = |(y, x, down): Side| {
        let (a, b) = (value((y, x)), value(if down { (y + 1, x) } else { (y, x + 1) }));
        let along = if a == b { 0.5 } else { ((level - a) / (b - a)).clamp(0.0, 1.0) };
        let (fx, fy) = if down { (0.0, along) } else { (along, 0.0) };
        let (x, y) = ((x as f32 + fx) / columns as f32, (y as f32 + fy) / rows as f32);
        let Window { left, top, width, height } = heat.window;
        (left + x * width, top + y * height)
    };
    let mut links: BTreeMap<Side, Vec<Side>> = BTreeMap::new();
    for y in 0..rows {
        for x in 0..columns {
            let corners = [(y, x), (y, x + 1), (y + 1, x + 1), (y + 1, x)].map(value);
            for (a, b) in crossings(corners, level, (y, x)) {
                links.entry(a).or_default().push(b);
                links.entry(b).or_default().push(a);
            }
        }
    }
    lines(links).into_iter().map(|line| line.into_iter().map(point).collect()).collect()
}

/// The pairs of sides of a cell that a line joins; corners go clockwise from the upper left.
fn crossings(corners: [f32; 4], level: f32, (y, x): (usize, usize)) -> Vec<(Side, Side)> {
    let (top, right) = ((y, x, false), (y, x + 1, true));
    let (bottom, left) = ((y + 1, x, false), (y, x, true));
    let above = corners.map(|value| value > level);
    let middle = corners.iter().sum::<f32>() / 4.0 > level;
    match above {
        [a, b, c, d] if a == b && b == c && c == d => vec![],
        [a, b, c, d] if a == b && c == d => vec![(left, right)],
        [a, b, c, d] if a == d && b == c => vec![(top, bottom)],
        // Two opposite corners above: the middle says whether they hang together.
        [a, b, c, d] if a == c && b == d => match a == middle {
            true => vec![(top, right), (bottom, left)],
            false => vec![(top, left), (bottom, right)],
        },
        [a, b, c, d] => match (a, b, c, d) {
            _ if b == c && c == d => vec![(top, left)],
            _ if a == c && c == d => vec![(top, right)],
            _ if a == b && b == d => vec![(right, bottom)],
            _ => vec![(bottom, left)],
        },
    }
}

/// Sides in the order in which lines pass them. Each side is passed by one line and joins at most two cells.
fn lines(mut links: BTreeMap<Side, Vec<Side>>) -> Vec<Vec<Side>> {
    let mut found = Vec::new();
    // Lines that end at the edge begin there; the others anywhere.
    let ends = links.iter().filter(|l| l.1.len() == 1).map(|l| *l.0);
    let starts: Vec<Side> = ends.chain(links.keys().copied()).collect();
    for start in starts {
        if links.get(&start).is_none_or(Vec::is_empty) {
            continue;
        }
        let (mut line, mut at) = (vec![start], start);
        while let Some(next) = links.get_mut(&at).and_then(Vec::pop) {
            if let Some(back) = links.get_mut(&next) {
                let own = back.iter().position(|side| *side == at);
                own.map(|own| back.swap_remove(own));
            }
            line.push(next);
            at = next;
        }
        found.push(line);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heat(height: usize, width: usize, values: Vec<f32>) -> Heat {
        let (probabilities, window) = (vec![1.0], Window::WHOLE);
        Heat { height, width, values, class: 0, probabilities, window }
    }

    #[test]
    fn a_peak_has_a_closed_line_around_it_at_the_level() {
        let mut values = vec![0.0; 25];
        values[12] = 8.0;
        let map = heat(5, 5, values);
        for level in LEVELS {
            let found = contours(&map, level);
            assert_eq!(found.len(), 1, "{level}");
            let line = &found[0];
            assert_eq!(line.first(), line.last());
            for &(x, y) in line {
                assert!((map.at(x, y) - level).abs() <= 0.07, "{level} {}", map.at(x, y));
                let far = ((x - 0.5).powi(2) + (y - 0.5).powi(2)).sqrt();
                assert!(far < 0.2, "{far}");
            }
        }
    }

    #[test]
    fn a_slope_is_crossed_from_edge_to_edge() {
        let map = heat(2, 2, vec![0.0, 1.0, 0.0, 1.0]);
        let found = contours(&map, 0.5);
        assert_eq!(found.len(), 1);
        let ends = [found[0][0], *found[0].last().unwrap()];
        assert!(ends.iter().all(|p| (p.0 - 0.5).abs() < 1e-6), "{ends:?}");
        assert_eq!((ends[0].1 - ends[1].1).abs(), 1.0);
    }

    #[test]
    fn every_cell_has_its_lines() {
        // Two peaks on a diagonal, near each other: a saddle between them.
        let map = heat(2, 2, vec![1.0, 0.0, 0.0, 1.0]);
        assert_eq!(contours(&map, 0.75).len(), 2);
        assert_eq!(contours(&map, 0.25).len(), 2);
        for corners in 0..16u8 {
            let corner = |i: u8| f32::from(corners >> i & 1);
            let found = crossings([0, 1, 2, 3].map(corner), 0.5, (0, 0));
            let changes = (0..4).filter(|&i| corner(i) != corner((i + 1) % 4)).count();
            assert_eq!(found.len() * 2, changes, "{corners:04b}");
        }
        assert!(contours(&heat(3, 3, vec![0.0; 9]), 0.5).is_empty());
        assert!(contours(&heat(3, 3, vec![2.0; 9]), 0.5).is_empty());
        assert!(contours(&heat(0, 0, vec![]), 0.5).is_empty());
    }
}
