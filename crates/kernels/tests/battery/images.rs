//! Resizing and colours of images, in whole numbers: exact on every instruction set.

use headstart_kernels::element::Element;
use headstart_kernels::resample::{self, PLACES, Span};
use headstart_kernels::table::Compute;
use headstart_kernels::ycbcr;
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

/// `ycbcr::to_rgb`: rounded sums, and nothing of what is left of a last pixel.
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
        let mut pixels: Vec<u8> = (first..first + count).flat_map(colour).collect();
        pixels.extend([7, 128]);
        ycbcr::to_rgb(c.isa(), &mut pixels);
        assert_eq!(pixels[3 * count..], [7, 128], "what is left of a pixel");
        pixels.truncate(3 * count);
        vec![numbers(pixels)]
    }

    fn want<E: Element>(&(first, count): &(usize, usize)) -> Vec<Want> {
        let sums = (first..first + count).flat_map(|i| {
            let [y, cb, cr] = colour(i).map(f64::from);
            let (cb, cr) = (cb - 128.0, cr - 128.0);
            [y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb]
        });
        let values: Vec<f64> = sums.map(|sum| sum.clamp(0.0, 255.0)).collect();
        // Rounded, with factors of 20 bits.
        let bounds = vec![0.501; values.len()];
        vec![Want { what: "colours", values, bounds }]
    }
}

fn colour(i: usize) -> [u8; 3] {
    [(i >> 16) as u8, (i >> 8) as u8, i as u8]
}
