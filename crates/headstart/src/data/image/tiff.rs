//! TIFF (revision 6.0 and BigTIFF): the first page, of up to 8 bits a sample. Grey, palette, RGB and CMYK, in strips or
//! tiles, interleaved or by planes; plain, PackBits, LZW, Deflate, fax (group 4) and JPEG.
//!
//! The container is read here, because EXIF needs most of it anyway and the `tiff` crate leaves out what photos and scans
//! have: JPEG to libjpeg's bytes, reversed bits, palettes with alpha. Compression is that of `weezl`, `flate2` and `fax`.

mod chunks;
mod colours;

use std::io::{self, Read, Seek};

use ::image::metadata::Orientation;

use super::directory::Directory;
use super::orientation;

/// Samples of a pixel that a file may have, as with Pillow.
const MAX_SAMPLES: u64 = 6;
/// Bytes of a list of strips or tiles.
const MAX_LIST: u64 = 16 << 20;

/// Tags.
mod tag {
    pub const SUBFILE: u16 = 254;
    pub const WIDTH: u16 = 256;
    pub const HEIGHT: u16 = 257;
    pub const BITS: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const SAMPLES: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTES: u16 = 279;
    pub const PLANAR: u16 = 284;
    pub const PREDICTOR: u16 = 317;
    pub const COLOUR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_HEIGHT: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTES: u16 = 325;
    pub const SUB_DIRECTORIES: u16 = 330;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const DNG_VERSION: u16 = 50706;
}

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Fax4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

impl Compression {
    fn of(number: u64) -> Result<Compression, String> {
        let name = match number {
            1 => return Ok(Compression::None),
            4 => return Ok(Compression::Fax4),
            5 => return Ok(Compression::Lzw),
            7 => return Ok(Compression::Jpeg),
            8 | 32946 => return Ok(Compression::Deflate),
            32773 => return Ok(Compression::PackBits),
            2 | 3 => "fax (group 3)",
            6 => "old JPEG",
            33003 | 33004 | 33005 | 34712 => "JPEG 2000",
            34887 => "LERC",
            34925 => "LZMA",
            50000 => "Zstandard",
            50001 => "WebP",
            50002 | 52546 => "JPEG XL",
            _ => return Err(unsupported(&format!("compression number {number}"))),
        };
        Err(unsupported(&format!("{name} compression")))
    }
}

/// What samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    WhiteIsZero,
    Grey,
    Rgb,
    /// RGB times alpha, the fourth sample.
    Premultiplied,
    Palette,
    Cmyk,
    Ycc,
}

impl Meaning {
    /// How many samples of a pixel are used.
    fn samples(self) -> usize {
        match self {
            Meaning::WhiteIsZero | Meaning::Grey | Meaning::Palette => 1,
            Meaning::Rgb | Meaning::Ycc => 3,
            Meaning::Premultiplied | Meaning::Cmyk => 4,
        }
    }
}

/// A file of a kind that is not read.
fn unsupported(what: &str) -> String {
    format!("a TIFF with {what}, which is not supported; convert it: magick FILE FILE.png")
}

/// Why a file is not read.
pub(super) enum Fault {
    /// It is a camera's raw file.
    Raw,
    Bad(String),
}

impl From<String> for Fault {
    fn from(text: String) -> Fault {
        Fault::Bad(text)
    }
}

/// What the directory says about the first page.
pub(super) struct Picture {
    pub width: u32,
    pub height: u32,
    /// Bits of each sample.
    pub bits: u8,
    pub orientation: Orientation,
    directory: Directory,
    compression: Compression,
    meaning: Meaning,
    /// Samples of each pixel.
    samples: usize,
    /// Whether each sample has its own chunks.
    by_planes: bool,
    /// Whether the first pixel is in the lowest bit.
    reversed: bool,
    /// Whether samples are differences from those at the left.
    differences: bool,
    /// Width and height of tiles; else rows of a strip.
    tile: Option<(u64, u64)>,
    rows: u64,
}

impl Picture {
    /// Reads the first directory and checks that the picture can be decoded.
    pub fn read(source: &mut (impl Read + Seek)) -> io::Result<Result<Picture, Fault>> {
        let Some(directory) = Directory::read(source)? else {
            return Ok(Err(Fault::Bad("a TIFF without a directory".into())));
        };
        let mut reader = Tags { directory: &directory, source: &mut *source };
        let raw = directory.has(tag::DNG_VERSION)
            || matches!(reader.first(tag::PHOTOMETRIC)?, Some(32803 | 34892))
            || (directory.has(tag::SUB_DIRECTORIES)
                && reader.first(tag::SUBFILE)?.is_some_and(|kind| kind & 1 == 1));
        if raw {
            return Ok(Err(Fault::Raw));
        }
        let facts = reader.facts()?;
        let orientation = orientation::in_directory(&directory, source);
        Ok(facts.picture(directory, orientation).map_err(Fault::Bad))
    }
}

/// Tags and where their values are.
struct Tags<'a, S> {
    directory: &'a Directory,
    source: &'a mut S,
}

impl<S: Read + Seek> Tags<'_, S> {
    fn first(&mut self, tag: u16) -> io::Result<Option<u64>> {
        self.directory.integer(self.source, tag)
    }

    fn all(&mut self, tag: u16) -> io::Result<Vec<u64>> {
        Ok(self.directory.integers(self.source, tag, 1 << 16)?.unwrap_or_default())
    }

    fn facts(&mut self) -> io::Result<Facts> {
        Ok(Facts {
            size: [self.first(tag::WIDTH)?, self.first(tag::HEIGHT)?],
            bits: self.all(tag::BITS)?,
            compression: self.first(tag::COMPRESSION)?.unwrap_or(1),
            photometric: self.first(tag::PHOTOMETRIC)?.unwrap_or(0),
            samples: self.first(tag::SAMPLES)?,
            extra: self.all(tag::EXTRA_SAMPLES)?,
            format: self.all(tag::SAMPLE_FORMAT)?,
            planar: self.first(tag::PLANAR)?.unwrap_or(1),
            fill_order: self.first(tag::FILL_ORDER)?.unwrap_or(1),
            predictor: self.first(tag::PREDICTOR)?.unwrap_or(1),
            tile: [self.first(tag::TILE_WIDTH)?, self.first(tag::TILE_HEIGHT)?],
            tiled: self.directory.has(tag::TILE_OFFSETS),
            rows: self.first(tag::ROWS_PER_STRIP)?,
        })
    }
}

/// Values of tags.
struct Facts {
    size: [Option<u64>; 2],
    bits: Vec<u64>,
    compression: u64,
    photometric: u64,
    samples: Option<u64>,
    extra: Vec<u64>,
    format: Vec<u64>,
    planar: u64,
    fill_order: u64,
    predictor: u64,
    tile: [Option<u64>; 2],
    tiled: bool,
    rows: Option<u64>,
}

impl Facts {
    fn picture(&self, directory: Directory, orientation: Orientation) -> Result<Picture, String> {
        let [Some(width), Some(height)] = self.size else {
            return Err("a TIFF without a size".into());
        };
        let side = |n| u32::try_from(n).map_err(|_| format!("a TIFF of {width}x{height} pixels"));
        let (wide, high) = (side(width)?, side(height)?);
        let bits = self.bits()?;
        let compression = Compression::of(self.compression)?;
        let samples = self.samples()?;
        let meaning = self.meaning(bits, samples as usize, compression)?;
        if compression == Compression::Fax4 && (bits, samples) != (1, 1) {
            return Err(unsupported("fax compression of more than 1 bit"));
        }
        let packed = matches!(compression, Compression::Lzw | Compression::Deflate);
        let differences = match self.predictor {
            2 if packed && bits == 8 => true,
            2 if packed => return Err(unsupported("differences of less than 8 bits")),
            3 if packed => return Err(unsupported("differences of fractions")),
            _ => false,
        };
        let tile = match (self.tiled, self.tile) {
            (false, _) => None,
            (true, [Some(across @ 1..), Some(down @ 1..)])
                if across <= 1 << 20 && down <= 1 << 20 =>
            {
                Some((across, down))
            }
            _ => return Err("a TIFF with bad tiles".into()),
        };
        Ok(Picture {
            width: wide,
            height: high,
            bits: bits as u8,
            orientation,
            directory,
            compression,
            meaning,
            samples: samples as usize,
            by_planes: self.planar == 2 && samples > 1,
            reversed: self.fill_order == 2,
            differences,
            tile,
            rows: self.rows.filter(|&rows| rows > 0).unwrap_or(height).min(height),
        })
    }

    /// Bits of a sample, which are whole numbers from 0.
    fn bits(&self) -> Result<u64, String> {
        let bits = self.bits.first().copied().unwrap_or(1);
        let most = self.bits.iter().copied().max().unwrap_or(1);
        let name = match self.format.first() {
            Some(3) => "floating-point samples of",
            Some(2) if bits != 8 => "signed samples of",
            _ => "samples of",
        };
        if !matches!(bits, 1 | 2 | 4 | 8) || most != bits || name != "samples of" {
            return Err(format!(
                "a TIFF with {name} {most} bits, which is not supported; convert it: magick FILE -depth 8 FILE.png"
            ));
        }
        if self.bits.iter().any(|&other| other != bits) {
            return Err(unsupported("samples of different bits"));
        }
        Ok(bits)
    }

    fn samples(&self) -> Result<u64, String> {
        let jpeg = self.compression == 7 && matches!(self.photometric, 2 | 6);
        let samples = self.samples.unwrap_or(if jpeg { 3 } else { 1 });
        match samples {
            1..=MAX_SAMPLES => Ok(samples),
            _ => Err(unsupported(&format!("{samples} samples a pixel"))),
        }
    }

    fn meaning(
        &self,
        bits: u64,
        samples: usize,
        compression: Compression,
    ) -> Result<Meaning, String> {
        let meaning = match self.photometric {
            0 => Meaning::WhiteIsZero,
            1 => Meaning::Grey,
            2 if self.extra.first() == Some(&1) => Meaning::Premultiplied,
            2 => Meaning::Rgb,
            3 => Meaning::Palette,
            5 => Meaning::Cmyk,
            6 if samples == 1 => Meaning::Grey,
            6 if compression == Compression::Jpeg => Meaning::Ycc,
            6 => return Err(unsupported("YCbCr colours without JPEG")),
            8..=10 => return Err(unsupported("Lab colours")),
            other => return Err(unsupported(&format!("colours of kind {other}"))),
        };
        if samples < meaning.samples() {
            return Err(format!("a TIFF of {samples} samples a pixel, too few for its colours"));
        }
        if bits < 8 && meaning.samples() > 1 {
            return Err(unsupported(&format!("colours of {bits} bits")));
        }
        if bits != 8 && compression == Compression::Jpeg {
            return Err(unsupported(&format!("JPEG of {bits} bits")));
        }
        Ok(meaning)
    }
}

/// Decodes the first page of a file to `height * width * 3` bytes. It is turned as it is stored.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut source = io::Cursor::new(bytes);
    let ends = |_| "a TIFF that ends too early".to_string();
    let picture = Picture::read(&mut source).map_err(ends)?.map_err(|fault| match fault {
        Fault::Raw => "a camera's raw file".to_string(),
        Fault::Bad(text) => text,
    })?;
    let map = match picture.meaning {
        Meaning::Palette => {
            let map = picture.directory.integers(&mut source, tag::COLOUR_MAP, 8 * 3 * 256);
            map.ok().flatten().ok_or("a TIFF without its palette")?
        }
        _ => Vec::new(),
    };
    let samples = chunks::samples(bytes, &picture)?;
    colours::rgb(samples, picture.meaning, &map, picture.bits)
}
