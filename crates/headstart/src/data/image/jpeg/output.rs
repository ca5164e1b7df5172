//! From coefficients and samples of components to pixels.

use headstart_kernels::isa::Isa;
use headstart_kernels::jpeg::{
    Blocks, LANES, double_across, double_both, double_down, inverse_dct, reduced_dct, ycc_to_rgb,
};

use super::Fault;
use super::frame::{BLOCK, Component, Frame};
use super::progressive::Coefficients;
use super::smooth::Smoothed;
use super::tables::Tables;

/// Samples of a component, with those that fill up its last blocks.
pub(super) struct Plane {
    /// Samples in a row.
    pub stride: usize,
    pub samples: Vec<u8>,
}

impl Plane {
    /// Room for the samples of a component, in rows of whole groups of blocks.
    pub fn new(component: &Component) -> Plane {
        let (across, down) = component.padded;
        let stride = across.div_ceil(LANES) * LANES * component.side;
        Plane { stride, samples: vec![0; stride * down * component.side] }
    }

    /// The samples of a component, whose coefficients are smoothed first where they are not all there.
    pub fn of(
        isa: Isa,
        component: &Component,
        coefficients: &Coefficients,
        smoothed: Option<Smoothed>,
    ) -> Plane {
        let mut plane = Plane::new(component);
        // None of a component that no scan had: all its samples are 128.
        let steps = component.steps.unwrap_or([0; 64]);
        let across = coefficients.across;
        let mut groups: Vec<Blocks> = vec![[[0; LANES]; 64]; across.div_ceil(LANES)];
        for (y, to) in plane.samples.chunks_exact_mut(plane.stride * component.side).enumerate() {
            let row = &coefficients.blocks[y * across..][..across];
            for (x, block) in row.iter().enumerate() {
                let better = smoothed.as_ref().map(|s| s.block(coefficients, x, y));
                let block = better.as_ref().unwrap_or(block);
                for (to, &value) in groups[x / LANES].iter_mut().zip(block) {
                    to[x % LANES] = value;
                }
            }
            transform(isa, component.side, &groups, &steps, to);
        }
        plane
    }

    fn row(&self, y: usize, width: usize) -> &[u8] {
        &self.samples[y * self.stride..][..width]
    }
}

/// Makes samples of a row of blocks, `side` across and down for each.
pub(super) fn transform(
    isa: Isa,
    side: usize,
    blocks: &[Blocks],
    steps: &[u16; 64],
    to: &mut [u8],
) {
    match side {
        BLOCK => inverse_dct(isa, blocks, steps, to),
        _ => reduced_dct(isa, side, blocks, steps, to),
    }
}

/// How a component gets as many samples as the image has pixels (libjpeg's `jinit_upsampler`).
#[derive(Clone, Copy)]
enum Upsampling {
    None,
    Across,
    Down,
    Both,
    /// Repeated so many times across and down.
    Repeat(usize, usize),
}

/// Rows of a component at the image's size.
struct Rows<'a> {
    plane: &'a Plane,
    /// Samples across and down.
    size: (usize, usize),
    how: Upsampling,
    row: Vec<u8>,
    sums: Vec<u16>,
}

impl<'a> Rows<'a> {
    fn new(plane: &'a Plane, component: &Component, frame: &Frame) -> Rows<'a> {
        let size = component.size;
        let times = |most: usize, own: usize| most * frame.side / (own * component.side);
        let times = (
            times(frame.sampling.0, component.sampling.0),
            times(frame.sampling.1, component.sampling.1),
        );
        let how = match times {
            (1, 1) => Upsampling::None,
            (across, down) if frame.side == 1 => Upsampling::Repeat(across, down),
            (2, 1) if size.0 > 2 => Upsampling::Across,
            (1, 2) => Upsampling::Down,
            (2, 2) if size.0 > 2 => Upsampling::Both,
            (across, down) => Upsampling::Repeat(across, down),
        };
        let row = vec![0; size.0 * times.0];
        Rows { plane, size, how, row, sums: vec![0; size.0] }
    }

    /// Row `y` of the image, at least as long as it.
    fn get(&mut self, isa: Isa, y: usize) -> &[u8] {
        let (width, height) = self.size;
        // The nearer row of two, and the further one, which at the edges is the same.
        let near = self.plane.row((y / 2).min(height - 1), width);
        let upper = y.is_multiple_of(2);
        let far = if upper { (y / 2).saturating_sub(1) } else { y / 2 + 1 };
        let far = self.plane.row(far.min(height - 1), width);
        match self.how {
            Upsampling::None => return self.plane.row(y, width),
            Upsampling::Across => double_across(isa, self.plane.row(y, width), &mut self.row),
            Upsampling::Down => double_down(isa, near, far, upper, &mut self.row),
            Upsampling::Both => double_both(isa, near, far, &mut self.sums, &mut self.row),
            Upsampling::Repeat(across, down) => {
                let row = self.plane.row(y / down, width);
                for (to, &sample) in self.row.chunks_exact_mut(across).zip(row) {
                    to.fill(sample);
                }
            }
        }
        &self.row
    }
}

/// What components mean (libjpeg's `default_decompress_parms`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Colours {
    Grey,
    Rgb,
    Ycc,
    /// Inverted, as Adobe's programs write it.
    Cmyk,
    Ycck,
    /// As they are stored, so many of each pixel, as in TIFF.
    Stored(usize),
}

impl Colours {
    fn of(frame: &Frame, tables: &Tables) -> Colours {
        let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
        match (&ids[..], tables.adobe) {
            ([_], _) => Colours::Grey,
            ([_, _, _], _) if tables.jfif => Colours::Ycc,
            ([_, _, _], Some(0)) => Colours::Rgb,
            (b"RGB", None) => Colours::Rgb,
            ([_, _, _], _) => Colours::Ycc,
            (_, None | Some(0)) => Colours::Cmyk,
            _ => Colours::Ycck,
        }
    }
}

/// The pixels of an image as RGB.
pub(super) fn pixels(
    isa: Isa,
    frame: &Frame,
    planes: &[Plane],
    tables: &Tables,
) -> Result<Vec<u8>, Fault> {
    let width = frame.width;
    let colours = Colours::of(frame, tables);
    let components = frame.components.iter().zip(planes);
    let mut rows: Vec<Rows<'_>> = components.map(|(c, p)| Rows::new(p, c, frame)).collect();
    let mut rgb = vec![0; width * 3 * frame.height];
    for (y, to) in rgb.chunks_exact_mut(3 * width).enumerate() {
        let row = rows.iter_mut().map(|rows| &rows.get(isa, y)[..width]).collect::<Vec<_>>();
        let all = match row[..] {
            [grey] => [grey, grey, grey, grey],
            [a, b, c] => [a, b, c, c],
            [a, b, c, d] => [a, b, c, d],
            _ => return Err(Fault::Bad("a bad frame header")),
        };
        let [a, b, c, black] = all;
        match colours {
            Colours::Ycc | Colours::Ycck => ycc_to_rgb(isa, [a, b, c], to),
            _ => {
                for (i, pixel) in to.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    *pixel = [a[i], b[i], c[i]];
                }
            }
        }
        match colours {
            // Files have inks inverted.
            Colours::Cmyk => to.iter_mut().for_each(|ink| *ink = 255 - *ink),
            Colours::Ycck => {}
            _ => continue,
        }
        for (pixel, &black) in to.as_chunks_mut::<3>().0.iter_mut().zip(black) {
            *pixel = inks_to_rgb(*pixel, 255 - black);
        }
    }
    Ok(rgb)
}

/// The samples of an image for each pixel, with YCbCr made RGB.
pub(super) fn samples(
    isa: Isa,
    frame: &Frame,
    planes: &[Plane],
    colours: Colours,
) -> Result<Vec<u8>, Fault> {
    let (width, count) = (frame.width, planes.len());
    let expected = match colours {
        Colours::Grey => 1,
        Colours::Rgb | Colours::Ycc => 3,
        Colours::Cmyk | Colours::Ycck => 4,
        Colours::Stored(count) => count,
    };
    if count != expected {
        return Err(Fault::Bad("another number of components than stated outside"));
    }
    let components = frame.components.iter().zip(planes);
    let mut rows: Vec<Rows<'_>> = components.map(|(c, p)| Rows::new(p, c, frame)).collect();
    let mut out = vec![0; width * count * frame.height];
    for (y, to) in out.chunks_exact_mut(count * width).enumerate() {
        let row = rows.iter_mut().map(|rows| &rows.get(isa, y)[..width]).collect::<Vec<_>>();
        if let (Colours::Ycc, &[a, b, c]) = (colours, &row[..]) {
            ycc_to_rgb(isa, [a, b, c], to);
            continue;
        }
        for (i, pixel) in to.chunks_exact_mut(count).enumerate() {
            pixel.iter_mut().zip(&row).for_each(|(sample, row)| *sample = row[i]);
        }
    }
    Ok(out)
}

/// Pillow's `cmyk2rgb` (`Convert.c`): 255 - K - C (255 - K) / 255, per colour.
pub(in super::super) fn inks_to_rgb(inks: [u8; 3], black: u8) -> [u8; 3] {
    let light = 255 - u32::from(black);
    inks.map(|ink| {
        let t = u32::from(ink) * light + 128;
        light.saturating_sub(((t >> 8) + t) >> 8) as u8
    })
}
