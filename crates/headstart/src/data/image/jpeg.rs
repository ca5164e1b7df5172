//! JPEG (ITU-T T.81) to the very bytes of libjpeg-turbo with its usual settings: exact inverse DCT (`islow`), fancy
//! upsampling, block smoothing. Pillow, OpenCV, TensorFlow and PyTorch decode with it.
//!
//! Read are baseline, extended and progressive frames with Huffman or arithmetic codes, 8 bits a sample, 1, 3 or 4
//! components and any sampling. What is damaged is decoded as libjpeg does: what it refuses is refused, what it only warns of becomes the same
//! bytes.
//!
//! Memory is 3 bytes a pixel for the result, up to 4 for samples and, for files of several scans, up to 8 for
//! coefficients. Time is bounded: [`MAX_SCANS`] and [`MAX_VISITS`].

mod arithmetic;
mod frame;
mod huffman;
mod output;
mod progressive;
mod scan;
mod smooth;
mod source;
mod tables;

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use headstart_kernels::isa::Isa;
use headstart_kernels::jpeg::{Blocks, LANES};

use arithmetic::Coder;
use frame::{Component, Frame, Scan};
use output::{Plane, transform};
use progressive::{Coefficients, Progressive};
use scan::{Sequential, Walk};
use source::Source;
use tables::Tables;

pub(super) use output::{Colours, inks_to_rgb};

/// Most scans of a file. Programs write about ten; one for each coefficient of each colour makes 192.
const MAX_SCANS: usize = 500;
/// Most times that a file's scans may pass through all its blocks, where these are many.
const MAX_VISITS: usize = 60;
/// Visits of blocks that every file is allowed.
const FREE_VISITS: usize = 20_000_000;

/// Why a file cannot be decoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It ends before its end marker.
    End,
    /// It is not a JPEG that can be.
    Bad(&'static str),
    /// It is a kind that is not read.
    Foreign(&'static str),
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        match fault {
            Fault::End => "a JPEG that ends too early".into(),
            Fault::Bad(why) => format!("a corrupt JPEG ({why})"),
            Fault::Foreign(what) => format!("a JPEG of a kind that is not supported ({what})"),
        }
    }
}

/// Decodes a file whose frame is `width` x `height` to RGB bytes, as it is stored: every side divided by `scale`, which is
/// 1, 2, 4 or 8, and rounded up, as libjpeg's `scale_denom` has it.
pub(super) fn decode(
    bytes: &[u8],
    (width, height): (usize, usize),
    scale: usize,
) -> Result<Vec<u8>, String> {
    let image = File::read(bytes, (width, height..=height), scale)?;
    Ok(output::pixels(isa(), &image.0, &image.1, &image.2)?)
}

/// Bytes of memory that decoding a file takes at most, by its first frame and scan; 0 where it has none and is refused.
pub(super) fn memory(bytes: &[u8]) -> u64 {
    let mut source = Source::new(bytes);
    let mut frame: Option<Frame> = None;
    let mut look = || -> Result<u64, Fault> {
        loop {
            let marker = source.marker()?;
            source.unread = None;
            match marker {
                0x01 | 0xd0..=0xd9 => {}
                0xc0..=0xc2 | 0xc9..=0xca => frame = Some(Frame::new(source.segment()?, marker)?),
                0xda => {
                    let count = source.segment()?.first().copied().map_or(0, usize::from);
                    let frame = frame.as_ref().ok_or(Fault::Bad("a scan before the frame"))?;
                    let whole = count == frame.components.len() && !frame.progressive;
                    return Ok(frame.memory(whole));
                }
                _ => drop(source.segment()?),
            }
        }
    };
    look().unwrap_or(0)
}

/// Decodes a file that is part of another, which says what its components mean: a frame of this width and one of these
/// heights. Returns its samples, `count` for each pixel, with YCbCr made RGB.
pub(super) fn decode_part(
    bytes: &[u8],
    size: (usize, RangeInclusive<usize>),
    colours: Colours,
) -> Result<Vec<u8>, String> {
    let (frame, planes, _) = File::read(bytes, size, 1)?;
    Ok(output::samples(isa(), &frame, &planes, colours)?)
}

fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| Isa::from_env().unwrap_or_else(|_| Isa::best()))
}

/// How far a file has been read.
struct File<'a> {
    source: Source<'a>,
    tables: Tables,
    /// Width and height as they were announced.
    size: (usize, RangeInclusive<usize>),
    /// How many times smaller the result is.
    scale: usize,
    scans: usize,
    visits: usize,
    content: Content,
}

/// What scans have brought.
enum Content {
    Nothing,
    /// All samples, of a single scan.
    Planes(Vec<Plane>),
    /// Coefficients, of scans of which there can be more.
    Coefficients(Vec<Coefficients>, smooth::Known),
}

impl<'a> File<'a> {
    /// Reads to the end marker; returns the frame, the samples of its components and what tells their colours.
    fn read(
        bytes: &'a [u8],
        size: (usize, RangeInclusive<usize>),
        scale: usize,
    ) -> Result<(Frame, Vec<Plane>, Tables), Fault> {
        let mut file = File {
            source: Source::new(bytes),
            tables: Tables::default(),
            size,
            scale,
            scans: 0,
            visits: 0,
            content: Content::Nothing,
        };
        if file.source.word()? != 0xffd8 {
            return Err(Fault::Bad("no start of an image"));
        }
        let mut frame = None;
        loop {
            match (file.segment(&mut frame), &file.content) {
                (Ok(false), _) => {}
                // Behind an image that is whole nothing is missed.
                (Ok(true), _) | (Err(Fault::End), Content::Planes(_)) => break,
                (Err(fault), _) => return Err(fault),
            }
        }
        let frame = frame.ok_or(Fault::Bad("no frame header"))?;
        let planes = match file.content {
            Content::Nothing => return Err(Fault::Bad("no scan")),
            Content::Planes(planes) => planes,
            Content::Coefficients(coefficients, known) => {
                let smoothing = known.smoothing(&frame);
                let all = coefficients.into_iter().zip(&frame.components).enumerate();
                all.map(|(i, (coefficients, component))| {
                    let smoothed = smoothing.as_ref().map(|s| s.of(i, &frame));
                    Plane::of(isa(), component, &coefficients, smoothed)
                })
                .collect()
            }
        };
        Ok((frame, planes, file.tables))
    }

    /// Reads a marker and what belongs to it. True at the end marker.
    fn segment(&mut self, frame: &mut Option<Frame>) -> Result<bool, Fault> {
        let marker = self.source.marker()?;
        self.source.unread = None;
        match marker {
            0xd9 => return Ok(true),
            // Restart markers and TEM stand alone.
            0x01 | 0xd0..=0xd7 => {}
            0xc0..=0xc2 | 0xc9 | 0xca => {
                if frame.is_some() {
                    return Err(Fault::Bad("two frame headers"));
                }
                let mut new = Frame::new(self.source.segment()?, marker)?;
                if new.width != self.size.0 || !self.size.1.contains(&new.height) {
                    return Err(Fault::Bad("frames that differ in size"));
                }
                new.reduce(self.scale);
                *frame = Some(new);
            }
            0xc4 => self.source.read(|body, _| self.tables.huffman(body))?,
            0xcc => self.source.read(|body, _| self.tables.conditioning(body))?,
            // DNL is passed over, as comments are.
            0xdc | 0xfe => drop(self.source.segment()?),
            0xc3 | 0xc5..=0xcf => {
                return Err(Fault::Foreign("lossless or hierarchical coding"));
            }
            0xda if matches!(self.content, Content::Planes(_)) => {
                return Err(Fault::Bad("a scan after the whole image"));
            }
            0xda => {
                let frame = frame.as_mut().ok_or(Fault::Bad("a scan before the frame header"))?;
                self.scan(frame)?;
            }
            0xdb => self.source.read(|body, _| self.tables.quantisation(body))?,
            0xdd => self.source.read(|body, length| self.tables.restart_interval(body, length))?,
            0xe0..=0xef => self.tables.application(marker, self.source.segment()?),
            0xd8 => return Err(Fault::Bad("a second start of an image")),
            _ => return Err(Fault::Bad("an unknown marker")),
        }
        Ok(false)
    }

    /// Reads a scan: its header and its data.
    fn scan(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let scan = Scan::new(self.source.segment()?, frame)?;
        let whole = scan.components.len() == frame.components.len() && !frame.progressive;
        for &(place, ..) in &scan.components {
            let component = &mut frame.components[place];
            if component.steps.is_none() {
                component.steps = Some(self.tables.steps(component.table)?);
            }
        }
        if !frame.progressive && !frame.arithmetic {
            self.tables.complete();
        }
        let mut walk = Walk::new(&scan, frame, self.tables.interval)?;
        self.scans += 1;
        self.visits += walk.visits();
        if self.scans > MAX_SCANS || self.visits > FREE_VISITS.max(MAX_VISITS * frame.blocks()) {
            return Err(Fault::Bad("too many scans"));
        }
        self.source.drop_bits();
        match &mut self.content {
            Content::Nothing if whole => {
                let planes = planes(&mut self.source, &mut walk, &scan, frame, &self.tables)?;
                self.content = Content::Planes(planes);
            }
            content => {
                if let Content::Nothing = content {
                    let known = smooth::Known::new(frame.components.len());
                    *content = Content::Coefficients(Coefficients::of(frame), known);
                }
                if let Content::Coefficients(stored, known) = content {
                    let source = &mut self.source;
                    known.begin(&scan, self.scans);
                    let good = if frame.arithmetic {
                        arithmetic_rows(source, &mut walk, &scan, frame, &self.tables, stored)?
                    } else if frame.progressive {
                        let mut decode = Progressive::new(&scan, &self.tables, stored)?;
                        rows(source, &mut walk, &mut decode)?
                    } else {
                        let put = |[part, x, y]: [usize; 3], place: usize, value| {
                            let to = &mut stored[scan.components[part].0];
                            to.blocks[y * to.across + x][place] = value;
                        };
                        let mut decode = Sequential::new(&scan, &self.tables)?;
                        rows(source, &mut walk, &mut decode.putting(put))?
                    };
                    known.end(good);
                }
            }
        }
        self.source.drop_bits();
        Ok(())
    }
}

/// [`rows`] of a scan with arithmetic codes.
fn arithmetic_rows(
    source: &mut Source<'_>,
    walk: &mut Walk,
    scan: &Scan,
    frame: &Frame,
    tables: &Tables,
    stored: &mut [Coefficients],
) -> Result<usize, Fault> {
    let mut coder = Coder::new(scan, tables);
    if frame.progressive {
        return rows(source, walk, &mut coder.storing(scan, stored));
    }
    let put = |[part, x, y]: [usize; 3], place: usize, value| {
        let to = &mut stored[scan.components[part].0];
        to.blocks[y * to.across + x][place] = value;
    };
    rows(source, walk, &mut coder.putting(put))
}

/// Reads all rows of a scan and returns the last unit of the frame down for which it has data.
fn rows(
    source: &mut Source<'_>,
    walk: &mut Walk,
    decode: &mut impl scan::Decode,
) -> Result<usize, Fault> {
    let mut good = 0;
    for y in 0..walk.units.1 {
        if walk.row(source, decode, y)? {
            good = y / walk.down;
        }
    }
    Ok(good)
}

/// How sequential scans are coded.
enum Codes {
    Huffman(Sequential),
    Arithmetic(Coder),
}

/// Reads the only scan of an image, row by row, to samples.
fn planes(
    source: &mut Source<'_>,
    walk: &mut Walk,
    scan: &Scan,
    frame: &Frame,
    tables: &Tables,
) -> Result<Vec<Plane>, Fault> {
    let alone = frame.components.len() == 1;
    let rows_of = |c: &Component| if alone { 1 } else { c.sampling.1 };
    let mut planes: Vec<Plane> = frame.components.iter().map(Plane::new).collect();
    // A row of units: of each component in the scan, rows of groups of blocks.
    let zero: Blocks = [[0; LANES]; 64];
    let components = || scan.components.iter().map(|c| &frame.components[c.0]);
    let across: Vec<usize> = components().map(|c| c.padded.0.div_ceil(LANES)).collect();
    let down: Vec<usize> = components().map(rows_of).collect();
    let mut row: Vec<Vec<Blocks>> =
        across.iter().zip(&down).map(|(across, down)| vec![zero; across * down]).collect();
    let mut decode = match frame.arithmetic {
        true => Codes::Arithmetic(Coder::new(scan, tables)),
        false => Codes::Huffman(Sequential::new(scan, tables)?),
    };
    for y in 0..walk.units.1 {
        row.iter_mut().for_each(|groups| groups.fill(zero));
        let put = |[part, x, block_y]: [usize; 3], place: usize, value| {
            let group = (block_y - y * down[part]) * across[part] + x / LANES;
            row[part][group][place][x % LANES] = value;
        };
        match &mut decode {
            Codes::Huffman(decode) => walk.row(source, &mut decode.putting(put), y)?,
            Codes::Arithmetic(coder) => walk.row(source, &mut coder.putting(put), y)?,
        };
        for (part, &(place, ..)) in scan.components.iter().enumerate() {
            let component = &frame.components[place];
            let steps = component.steps.unwrap_or([0; 64]);
            for (i, groups) in row[part].chunks(across[part]).enumerate() {
                let plane = &mut planes[place];
                let bytes = plane.stride * component.side;
                let at = (y * down[part] + i) * bytes;
                if let Some(to) = plane.samples.get_mut(at..at + bytes) {
                    transform(isa(), component.side, groups, &steps, to);
                }
            }
        }
    }
    Ok(planes)
}
