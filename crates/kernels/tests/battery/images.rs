//! Resizing of images and decoding of JPEG, in whole numbers: the same on every instruction set.

use headstart_kernels::element::Element;
use headstart_kernels::jpeg::{self, Blocks, LANES};
use headstart_kernels::resample::{self, PLACES, Span};
use headstart_kernels::table::Compute;
use proptest::prelude::*;

use crate::kernel::{Kernel, Want};

/// `resample::horizontal` and `resample::vertical`.
pub struct Resample;

/// Columns and rows of the image.
type Size = (usize, usize);

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i % 251) as u8).collect()
}

/// Spans of one to all of so many positions, and their weights, which overshoot.
fn taps(positions: usize) -> (Vec<Span>, Vec<i32>) {
    let (mut spans, mut weights) = (Vec::new(), Vec::new());
    for first in [0, positions / 2, positions - 1] {
        for count in [1, (positions - first).min(7), positions - first] {
            let one = (1_i32 << PLACES) / count as i32;
            weights.extend((0..count).map(|i| if i % 3 == 2 { -one } else { one * 5 / 4 }));
            spans.push((first, weights.len()));
        }
    }
    (spans, weights)
}

/// The weighted sum of a span, as a byte.
fn sum(spans: &[Span], weights: &[i32], span: usize, value: impl Fn(usize) -> u8) -> f64 {
    let (first, end) = spans[span];
    let start = if span == 0 { 0 } else { spans[span - 1].1 };
    let products = weights[start..end].iter().enumerate();
    let sum: i64 = products.map(|(i, &w)| i64::from(value(first + i)) * i64::from(w)).sum();
    ((sum + (1 << (PLACES - 1))) >> PLACES).clamp(0, 255) as f64
}

fn numbers(bytes: Vec<u8>) -> Vec<f64> {
    bytes.into_iter().map(f64::from).collect()
}

impl Kernel for Resample {
    type Shape = Size;

    fn edges() -> Vec<Size> {
        // The second has more columns than are turned at a time.
        vec![(23, 37), (150, 155), (1, 1)]
    }

    fn small() -> BoxedStrategy<Size> {
        (1..40usize, 1..40usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &(width, height): &Size) -> Vec<Vec<f64>> {
        let source = bytes(width * height * 3);
        let (spans, weights) = taps(width);
        let mut across = vec![0; height * spans.len() * 3];
        resample::horizontal(c.isa(), &source, width, &spans, &weights, &mut across);
        let (spans, weights) = taps(height);
        let mut down = vec![0; spans.len() * width * 3];
        resample::vertical(c.isa(), &source, width * 3, &spans, &weights, &mut down);
        vec![numbers(across), numbers(down)]
    }

    fn want<E: Element>(&(width, height): &Size) -> Vec<Want> {
        let source = bytes(width * height * 3);
        let (spans, weights) = taps(width);
        let across = (0..height * spans.len() * 3).map(|i| {
            let (y, x, k) = (i / 3 / spans.len(), i / 3 % spans.len(), i % 3);
            sum(&spans, &weights, x, |at| source[(y * width + at) * 3 + k])
        });
        let across = across.collect();
        let (spans, weights) = taps(height);
        let row = width * 3;
        let down = (0..spans.len() * row)
            .map(|i| sum(&spans, &weights, i / row, |at| source[at * row + i % row]))
            .collect();
        vec![Want::exact("resized across", across), Want::exact("resized down", down)]
    }
}

/// `jpeg::ycc_to_rgb`: rounded sums.
pub struct Colours;

impl Kernel for Colours {
    /// The first pixel's number of 2^24 colours, and how many follow.
    type Shape = (usize, usize);

    fn edges() -> Vec<(usize, usize)> {
        // Every colour, and ends of blocks.
        let every = (0..16).map(|part| (part << 20, 1 << 20));
        every.chain([0, 1, 2, 255, 256, 257, 600].map(|count| (77, count))).collect()
    }

    fn small() -> BoxedStrategy<(usize, usize)> {
        (0..1usize << 24, 0..600usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &(first, count): &(usize, usize)) -> Vec<Vec<f64>> {
        let plane = |k: usize| (first..first + count).map(|i| colour(i)[k]).collect::<Vec<u8>>();
        let [y, cb, cr] = [0, 1, 2].map(plane);
        let mut pixels = vec![7; 3 * count];
        jpeg::ycc_to_rgb(c.isa(), [&y, &cb, &cr], &mut pixels);
        vec![numbers(pixels)]
    }

    fn want<E: Element>(&(first, count): &(usize, usize)) -> Vec<Want> {
        let sums = (first..first + count).flat_map(|i| {
            let [y, cb, cr] = colour(i).map(f64::from);
            let (cb, cr) = (cb - 128.0, cr - 128.0);
            [y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb]
        });
        let values: Vec<f64> = sums.map(|sum| sum.clamp(0.0, 255.0)).collect();
        // Rounded, with factors of 16 bits.
        let bounds = vec![0.503; values.len()];
        vec![Want { what: "colours", values, bounds }]
    }
}

fn colour(i: usize) -> [u8; 3] {
    [(i >> 16) as u8, (i >> 8) as u8, i as u8]
}

/// `jpeg::double_across`, `jpeg::double_down` and `jpeg::double_both`: exact.
pub struct Upsample;

/// The sample nearest to a position that may be beyond either end.
fn near(row: &[u8], i: isize) -> f64 {
    f64::from(row[i.clamp(0, row.len() as isize - 1) as usize])
}

impl Kernel for Upsample {
    type Shape = usize;

    fn edges() -> Vec<usize> {
        vec![1, 2, 3, 15, 16, 17, 31, 64, 65, 1000]
    }

    fn small() -> BoxedStrategy<usize> {
        (1..300usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &width: &usize) -> Vec<Vec<f64>> {
        let (isa, row, far) = (c.isa(), bytes(width), bytes(2 * width).split_off(width));
        let mut across = vec![0; 2 * width];
        jpeg::double_across(isa, &row, &mut across);
        let (mut upper, mut lower) = (vec![0; width], vec![0; width]);
        jpeg::double_down(isa, &row, &far, true, &mut upper);
        jpeg::double_down(isa, &row, &far, false, &mut lower);
        let (mut sums, mut both) = (vec![0; width], vec![0; 2 * width]);
        jpeg::double_both(isa, &row, &far, &mut sums, &mut both);
        [across, upper, lower, both].map(numbers).to_vec()
    }

    fn want<E: Element>(&width: &usize) -> Vec<Want> {
        let (row, far) = (bytes(width), bytes(2 * width).split_off(width));
        // The sample at half of `i`, and its neighbour on the side on which the new one lies.
        let pair = |row: &[u8], i: usize| {
            let at = i as isize / 2;
            let beside = if i.is_multiple_of(2) { at - 1 } else { at + 1 };
            3.0 * near(row, at) + near(row, beside)
        };
        let across = |i: usize| {
            let bias = if i.is_multiple_of(2) { 1.0 } else { 2.0 };
            ((pair(&row, i) + bias) / 4.0).floor()
        };
        let down = |bias: f64| {
            let pairs = row.iter().zip(&far).map(|(a, b)| 3.0 * f64::from(*a) + f64::from(*b));
            pairs.map(|sum| ((sum + bias) / 4.0).floor()).collect::<Vec<_>>()
        };
        let both = |i: usize| {
            let bias = if i.is_multiple_of(2) { 8.0 } else { 7.0 };
            ((3.0 * pair(&row, i) + pair(&far, i) + bias) / 16.0).floor()
        };
        vec![
            Want::exact("twice as wide", (0..2 * width).map(across).collect()),
            Want::exact("the row above", down(1.0)),
            Want::exact("the row below", down(2.0)),
            Want::exact("twice as wide between rows", (0..2 * width).map(both).collect()),
        ]
    }
}

/// `jpeg::inverse_dct`: within one of the cosine sums.
/// Samples on a side of reduced blocks.
const SIDES: [usize; 3] = [4, 2, 1];

pub struct InverseDct;

/// Groups of blocks, and how many coefficients of a block are other than zero.
type Groups = (usize, usize);

/// A coefficient of a block and its step; fewer and smaller ones at higher frequencies, as photos have them.
fn coefficient(block: usize, place: usize, filled: usize) -> (i16, u16) {
    let (row, column) = (place / 8, place % 8);
    let step = 2 + 3 * (row + column) as u16;
    if (place * 29 + block) % 64 >= filled && place > 0 {
        return (0, step);
    }
    let size = if place == 0 { 400 } else { 90 / (1 + row + column) };
    let value = (block * 37 + place * 101 + block * place * 13) % (2 * size + 1);
    (value as i16 - size as i16, step)
}

impl Kernel for InverseDct {
    type Shape = Groups;

    fn edges() -> Vec<Groups> {
        vec![(0, 1), (1, 1), (1, 64), (2, 5), (3, 20)]
    }

    fn small() -> BoxedStrategy<Groups> {
        (1..4usize, 1..65usize).boxed()
    }

    fn run<E: Element>(c: &Compute, &(groups, filled): &Groups) -> Vec<Vec<f64>> {
        let group = |g: usize| {
            let lanes =
                |place| std::array::from_fn(|l| coefficient(g * LANES + l, place, filled).0);
            std::array::from_fn(lanes)
        };
        let blocks: Vec<Blocks> = (0..groups).map(group).collect();
        let steps = std::array::from_fn(|place| coefficient(0, place, filled).1);
        let mut samples = vec![0; groups * LANES * 64];
        jpeg::inverse_dct(c.isa(), &blocks, &steps, &mut samples);
        let mut results = vec![numbers(samples)];
        for side in SIDES {
            let mut samples = vec![0; groups * LANES * side * side];
            jpeg::reduced_dct(c.isa(), side, &blocks, &steps, &mut samples);
            results.push(numbers(samples));
        }
        results
    }

    fn want<E: Element>(&(groups, filled): &Groups) -> Vec<Want> {
        let width = groups * LANES * 8;
        let cosine = |x: usize, u: usize| {
            let scale = if u == 0 { 0.5_f64.sqrt() } else { 1.0 };
            scale * ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos() / 2.0
        };
        let sample = |i: usize| {
            let (x, y) = (i % width, i / width);
            let terms = (0..64).map(|place| {
                let (value, step) = coefficient(x / 8, place, filled);
                let (row, column) = (place / 8, place % 8);
                f64::from(value) * f64::from(step) * cosine(x % 8, column) * cosine(y, row)
            });
            terms.sum::<f64>() + 128.0
        };
        let all: Vec<f64> = (0..width * 8).map(sample).collect();
        let want = |what, side: usize| {
            let times = 8 / side;
            let (across, area) = (width / times, (times * times) as f64);
            let mean = |i: usize| {
                let (x, y) = (i % across * times, i / across * times);
                let rows = (y..y + times).map(|y| &all[y * width + x..][..times]);
                rows.flatten().sum::<f64>() / area
            };
            let values: Vec<f64> = (0..across * side).map(|i| mean(i).clamp(0.0, 255.0)).collect();
            // Rounded, after factors of 13 bits.
            Want { what, bounds: vec![0.6; values.len()], values }
        };
        let names = ["samples at half the size", "at a quarter", "at an eighth"];
        let reduced = names.into_iter().zip(SIDES).map(|(what, side)| want(what, side));
        std::iter::once(want("samples", 8)).chain(reduced).collect()
    }
}
