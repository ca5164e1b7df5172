//! Strips and tiles: where they are, what is in them, where it belongs.

use std::io::{Cursor, Read};

use flate2::read::ZlibDecoder;
use weezl::{BitOrder, LzwStatus};

use super::super::jpeg::{self, Colours};
use super::{Compression, MAX_LIST, Meaning, Picture, tag};

/// The samples that are used, for each pixel together, each in a byte.
pub(super) fn samples(bytes: &[u8], picture: &Picture) -> Result<Vec<u8>, String> {
    let chunks = Chunks::new(bytes, picture)?;
    let used = picture.meaning.samples();
    let mut out = vec![0; chunks.width * chunks.height * used];
    let planes = if picture.by_planes { used } else { 1 };
    for plane in 0..planes {
        for number in 0..chunks.across * chunks.down {
            let (x, y) =
                (number % chunks.across * chunks.size.0, number / chunks.across * chunks.size.1);
            let rows = chunks.size.1.min(chunks.height - y);
            // Tiles are compressed with what is outside of the picture.
            let whole = picture.tile.is_some() && picture.compression != Compression::None;
            let stored = if whole { chunks.size.1 } else { rows };
            let data = chunks.data(plane * chunks.across * chunks.down + number)?;
            let part = chunks.decode(data, stored)?;
            let columns = chunks.size.0.min(chunks.width - x);
            for (row, line) in part.bytes.chunks_exact(part.row).take(rows).enumerate() {
                let to = ((y + row) * chunks.width + x) * used;
                let to = &mut out[to..to + columns * used];
                match planes {
                    1 => place(line, part.bits, part.samples, to, (used, 0, used)),
                    _ => place(line, part.bits, 1, to, (used, plane, 1)),
                }
            }
        }
    }
    Ok(out)
}

/// Takes the first `count` samples of each pixel of a row, of which it has `samples`, and puts them at `first` of the `used`
/// of each pixel of `to`.
fn place(
    line: &[u8],
    bits: usize,
    samples: usize,
    to: &mut [u8],
    (used, first, count): (usize, usize, usize),
) {
    let pixels = to.chunks_exact_mut(used);
    if bits == 8 {
        for (pixel, from) in pixels.zip(line.chunks_exact(samples)) {
            pixel[first..first + count].copy_from_slice(&from[..count]);
        }
        return;
    }
    let mask = (1 << bits) - 1;
    for (x, pixel) in pixels.enumerate() {
        for (i, value) in pixel[first..first + count].iter_mut().enumerate() {
            let bit = (x * samples + i) * bits;
            *value = line[bit / 8] >> (8 - bits - bit % 8) & mask;
        }
    }
}

/// Pixels of a chunk, as of a picture.
const MAX_CHUNK: usize = 100_000_000;

/// The chunks of a picture.
struct Chunks<'a> {
    bytes: &'a [u8],
    picture: &'a Picture,
    width: usize,
    height: usize,
    /// Pixels across and down of a chunk.
    size: (usize, usize),
    /// Chunks across and down.
    across: usize,
    down: usize,
    offsets: Vec<u64>,
    /// Bytes of each; without them the chunks of a plain file have as many as they need.
    counts: Option<Vec<u64>>,
    tables: Vec<u8>,
}

/// Rows of a chunk, decompressed.
struct Part {
    bytes: Vec<u8>,
    /// Bytes of a row.
    row: usize,
    bits: usize,
    samples: usize,
}

fn ends() -> String {
    "a TIFF that ends too early".into()
}

impl<'a> Chunks<'a> {
    fn new(bytes: &'a [u8], picture: &'a Picture) -> Result<Chunks<'a>, String> {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let (size, tags) = match picture.tile {
            Some((across, down)) => {
                ((across as usize, down as usize), [tag::TILE_OFFSETS, tag::TILE_BYTES])
            }
            None => ((width, picture.rows as usize), [tag::STRIP_OFFSETS, tag::STRIP_BYTES]),
        };
        // What is outside of the picture takes memory, too.
        if size.0 * size.1 > MAX_CHUNK {
            return Err(format!("a TIFF with tiles of {}x{} pixels", size.0, size.1));
        }
        let mut source = Cursor::new(bytes);
        let mut list = |tag| {
            let values = picture.directory.integers(&mut source, tag, MAX_LIST);
            values.map_err(|_| "a TIFF with too many strips".to_string())
        };
        let (offsets, counts) = (list(tags[0])?.unwrap_or_default(), list(tags[1])?);
        let mut tables = picture.directory.bytes(&mut source, tag::JPEG_TABLES, 1 << 20);
        let tables = tables.as_mut().ok().and_then(Option::take).unwrap_or_default();
        let (across, down) = (width.div_ceil(size.0), height.div_ceil(size.1));
        let planes = if picture.by_planes { picture.samples } else { 1 };
        let needed = across * down * planes;
        if offsets.len() < needed {
            return Err(format!("a TIFF with {} of {needed} strips or tiles", offsets.len()));
        }
        let counts = counts.filter(|counts| counts.len() >= needed);
        // Strips are read one by one: of the same bytes again and again it would take for ever.
        let length = |number: usize| {
            let rest = (bytes.len() as u64).saturating_sub(offsets[number]);
            counts.as_ref().map_or(rest, |counts| counts[number].min(rest))
        };
        let all: u64 = (0..needed).map(length).fold(0, u64::saturating_add);
        if picture.compression != Compression::None && all > 2 * bytes.len() as u64 {
            return Err("a TIFF whose strips overlap".into());
        }
        Ok(Chunks { bytes, picture, width, height, size, across, down, offsets, counts, tables })
    }

    /// The bytes of a chunk, as they are in the file.
    fn data(&self, number: usize) -> Result<&'a [u8], String> {
        let from = usize::try_from(self.offsets[number]).map_err(|_| ends())?;
        let rest = self.bytes.get(from..).ok_or_else(ends)?;
        let count = self.counts.as_ref().map_or(u64::MAX, |counts| counts[number]);
        match self.picture.compression {
            // Writers state too few or none where the size follows from the rest.
            Compression::None => Ok(rest),
            _ => Ok(&rest[..rest.len().min(usize::try_from(count).unwrap_or(usize::MAX))]),
        }
    }

    /// Decompresses a chunk of `rows` rows.
    fn decode(&self, data: &[u8], rows: usize) -> Result<Part, String> {
        let picture = self.picture;
        if picture.compression == Compression::Jpeg {
            return self.decode_jpeg(data, rows);
        }
        let samples = if picture.by_planes { 1 } else { picture.samples };
        let bits = usize::from(picture.bits);
        let row = (self.size.0 * bits * samples).div_ceil(8);
        let needed = row * rows;
        let turned;
        let data = match picture.reversed {
            true => {
                // No compression makes much more of what it is given.
                let most = match picture.compression {
                    Compression::None => needed,
                    _ => 2 * needed + 4096,
                };
                turned = data.iter().take(most).map(|byte| byte.reverse_bits()).collect::<Vec<_>>();
                &turned
            }
            false => data,
        };
        let mut bytes = match picture.compression {
            Compression::None => data.get(..needed).ok_or_else(ends)?.to_vec(),
            Compression::PackBits => unpack(data, needed).ok_or_else(ends)?,
            Compression::Lzw => lzw(data, needed)?,
            Compression::Deflate => {
                let mut bytes = Vec::new();
                let read = ZlibDecoder::new(data).take(needed as u64).read_to_end(&mut bytes);
                read.map_err(|error| format!("a corrupt TIFF ({error})"))?;
                bytes
            }
            Compression::Fax4 => fax(data, self.size.0, rows)?,
            Compression::Jpeg => Vec::new(),
        };
        if bytes.len() < needed {
            return Err(ends());
        }
        if picture.differences {
            for line in bytes.chunks_exact_mut(row) {
                for i in samples..line.len() {
                    line[i] = line[i].wrapping_add(line[i - samples]);
                }
            }
        }
        Ok(Part { bytes, row, bits, samples })
    }

    /// Decodes a chunk that is a JPEG, whose tables may stand apart from it.
    fn decode_jpeg(&self, data: &[u8], rows: usize) -> Result<Part, String> {
        let tables = self.tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(&self.tables);
        let joined = match (tables.is_empty(), data) {
            (false, [0xff, 0xd8, rest @ ..]) => [tables, rest].concat(),
            _ => data.to_vec(),
        };
        let (colours, samples) = match self.picture.meaning {
            _ if self.picture.by_planes => (Colours::Grey, 1),
            Meaning::Ycc => (Colours::Ycc, 3),
            Meaning::Palette => return Err(super::unsupported("JPEG of such colours")),
            // With alpha, too.
            _ => match self.picture.samples {
                count @ ..=4 => (Colours::Stored(count), count),
                count => return Err(super::unsupported(&format!("JPEG of {count} samples"))),
            },
        };
        let bytes = jpeg::decode_part(&joined, (self.size.0, rows..=self.size.1), colours)?;
        Ok(Part { bytes, row: self.size.0 * samples, bits: 8, samples })
    }
}

/// PackBits (section 9): a count and as many bytes, or a count and a byte that many times.
fn unpack(mut data: &[u8], needed: usize) -> Option<Vec<u8>> {
    // The size is only a claim until that much data has come.
    let mut out = Vec::with_capacity(needed.min(128 * data.len()));
    while out.len() < needed {
        let (&count, rest) = data.split_first()?;
        data = match count as i8 {
            count @ 0.. => {
                let (bytes, rest) = rest.split_at_checked(count as usize + 1)?;
                out.extend_from_slice(bytes);
                rest
            }
            i8::MIN => rest,
            count => {
                let (&byte, rest) = rest.split_first()?;
                out.resize(out.len() + usize::from(count.unsigned_abs()) + 1, byte);
                rest
            }
        };
    }
    out.truncate(needed);
    Some(out)
}

/// LZW (section 13), up to `needed` bytes.
fn lzw(data: &[u8], needed: usize) -> Result<Vec<u8>, String> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let (mut out, mut data) = (Vec::new(), data);
    while out.len() < needed {
        // The size is only a claim until that much data has come.
        let from = out.len();
        out.resize(needed.min(from + (1 << 20)), 0);
        let result = decoder.decode_bytes(data, &mut out[from..]);
        data = &data[result.consumed_in..];
        out.truncate(from + result.consumed_out);
        match result.status {
            Ok(LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(_) => break,
            Err(_) => return Err("a corrupt TIFF (LZW codes that cannot be)".into()),
        }
    }
    Ok(out)
}

/// Fax of group 4 (ITU-T T.6), as bits: 1 for black.
fn fax(data: &[u8], width: usize, rows: usize) -> Result<Vec<u8>, String> {
    let row = width.div_ceil(8);
    let [width, rows] = [width, rows].map(|side| u32::try_from(side).map_err(|_| ends()));
    let (width, rows) = (width?, rows?);
    let mut out = Vec::new();
    let decoded = fax::decoder::decode_g4(data.iter().copied(), width, Some(rows), |line| {
        let from = out.len();
        out.resize(from + row, 0);
        for (x, pel) in fax::decoder::pels(line, width).enumerate() {
            if pel == fax::Color::Black {
                out[from + x / 8] |= 0x80 >> (x % 8);
            }
        }
    });
    decoded.ok_or("a corrupt TIFF (fax codes that cannot be)")?;
    Ok(out)
}
