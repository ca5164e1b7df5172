//! From found files to samples: headers and ends are read in parallel, then images are decoded once and
//! packed where they fit in memory. Otherwise they are decoded on access, except those that seem cut short.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

use super::encoded::{Encoded, FileRef};
use super::large::Large;
use super::shown::{Place, Shown};
use super::subset::{ImageHash, Samples, Store, file_hash};
use super::tree::{Item, Origin, Part, Slice, has_image_extension};
use super::window::Window;
use super::{Limits, Skipped};
use crate::data::image::{
    Format, Header, NotRead, Rgb8, decode_scaled, is_large, read_named, scale,
};
use crate::memory::Claim;

/// Samples with the split of each.
pub(crate) struct Loaded {
    pub samples: Samples,
    pub parts: Vec<Part>,
    pub skipped: Vec<Skipped>,
    /// Part and label of those of `skipped` that are meant as images, by name.
    pub lost: HashMap<String, (Part, usize)>,
}

/// An item whose header is valid.
struct Found {
    item: Item,
    width: usize,
    height: usize,
    /// Whether it is a JPEG that can be decoded smaller.
    large: bool,
    bytes: u64,
    modified: u128,
    /// Whether the end is not that of the format.
    doubtful: bool,
    /// How many times smaller it is decoded on opening.
    scale: usize,
}

impl Found {
    /// The image and its hash.
    fn decode(&self) -> Result<(Rgb8<'static>, ImageHash), String> {
        let bytes = match &self.item.origin {
            Origin::Memory(bytes) => Cow::Borrowed(&bytes[..]),
            Origin::Disk(path) => {
                let bytes = self.file_ref(Arc::from(path.as_path()), None).read();
                Cow::Owned(bytes.map_err(unread)?)
            }
            Origin::Slice(slice) => {
                let bytes = self.file_ref(slice.path.clone(), Some(slice.offset)).read();
                Cow::Owned(bytes.map_err(unread)?)
            }
        };
        let image = decode_scaled(&bytes, self.scale)?;
        if (image.width, image.height) != self.decoded() {
            return Err("a file that changed while it was read".to_string());
        }
        Ok((image, file_hash(&bytes)))
    }

    fn file_ref(&self, path: Arc<Path>, offset: Option<u64>) -> FileRef {
        FileRef { path, offset, bytes: self.bytes, modified: self.modified }
    }

    /// Width and height of what is decoded.
    fn decoded(&self) -> (usize, usize) {
        (self.width.div_ceil(self.scale), self.height.div_ceil(self.scale))
    }

    fn decoded_bytes(&self) -> usize {
        let (width, height) = self.decoded();
        width * height * 3
    }

    /// Bytes among those of all images.
    fn packed_bytes(&self) -> usize {
        if self.scale == 1 { self.decoded_bytes() } else { 0 }
    }
}

fn unread(error: io::Error) -> String {
    format!("a file that cannot be read ({error})")
}

/// The hash of an image that was decoded, and its pixels where it was made smaller.
type Decoded = (ImageHash, Option<Rgb8<'static>>);
/// Of each image: what was decoded of it, or why it cannot be used.
type Verdicts = Vec<Result<Option<Decoded>, String>>;
/// The pixels of all images, and where those of each begin.
type Packed = (Vec<u8>, Vec<usize>);

/// Loads `items` and leaves out those that cannot be used. Large JPEGs that stay in memory are decoded so that their shorter
/// side is at least `side`; none for every pixel. Runs in the current thread pool.
pub(crate) fn load(
    items: Vec<Item>,
    place: Place,
    classes: usize,
    limits: &Limits,
    side: Option<usize>,
) -> Loaded {
    let shown = Shown::new(place, &items);
    let mut lost = HashMap::new();
    let mut skipped = Vec::new();
    let found = probe_all(items, limits, side, (&mut lost, &mut skipped));
    let memory = found.iter().filter_map(|f| match &f.item.origin {
        Origin::Memory(bytes) => Some(bytes.len() as u64),
        _ => None,
    });
    let mut encoded = Claim::held(memory.sum());
    let (verdicts, packed, pixels_kept) = decode_all(&found, limits);

    let mut parts = Vec::new();
    let (mut names, mut labels, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kept_offsets, mut files, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut large, mut large_files) = (HashSet::new(), HashMap::new());
    let packs = packed.is_some();
    for (i, (one, verdict)) in found.into_iter().zip(verdicts).enumerate() {
        let smaller = match verdict {
            Ok(decoded) => {
                let (hash, image) = decoded.unzip();
                hashes.push(hash.map_or_else(OnceLock::new, OnceLock::from));
                image.flatten().map(|image| (one.scale, image))
            }
            Err(reason) => {
                lost.insert(one.item.name.clone(), (one.item.part, one.item.label));
                skipped.push(Skipped { name: one.item.name, reason });
                if let Origin::Memory(bytes) = &one.item.origin {
                    encoded.shrink(bytes.len() as u64);
                }
                continue;
            }
        };
        let file = match &one.item.origin {
            Origin::Disk(path) => Some(one.file_ref(Arc::from(path.as_path()), None)),
            Origin::Slice(slice) => Some(one.file_ref(slice.path.clone(), Some(slice.offset))),
            Origin::Memory(_) => None,
        };
        let Item { name, label, part, origin, .. } = one.item;
        let file = match origin {
            Origin::Memory(bytes) if packs && !one.large => {
                encoded.shrink(bytes.len() as u64);
                None
            }
            Origin::Memory(bytes) => Some(Encoded::Memory(bytes)),
            Origin::Disk(_) | Origin::Slice(_) => file.map(Encoded::Disk),
        };
        if one.large {
            large.insert(names.len());
        }
        match &packed {
            None => files.extend(file),
            Some((_, offsets)) => {
                kept_offsets.push(offsets[i]);
                let file = file.filter(|_| one.large);
                large_files.extend(file.map(|file| (names.len(), Large::new(file, smaller))));
            }
        }
        names.push(name.into_boxed_str());
        labels.push(label);
        sizes.push((one.height, one.width));
        parts.push(part);
    }
    let store = match packed {
        Some((pixels, _)) => Store::Packed { pixels, offsets: kept_offsets, large: large_files },
        None => Store::Encoded(files),
    };
    encoded.join(pixels_kept);
    let samples =
        Samples { classes, names, shown, labels, sizes, hashes, large, store, kept: encoded };
    Loaded { samples, parts, skipped, lost }
}

/// What the headers of `items` say. Of those that are no images, `lost` gets part and label and `skipped` the reason.
fn probe_all(
    items: Vec<Item>,
    limits: &Limits,
    side: Option<usize>,
    (lost, skipped): (&mut HashMap<String, (Part, usize)>, &mut Vec<Skipped>),
) -> Vec<Found> {
    let mut found = Vec::with_capacity(items.len());
    let probed = |item: Item| {
        let own = (item.part, item.label);
        probe(item, limits).map_err(|skipped| skipped.map(|skipped| (own, skipped)))
    };
    for result in items.into_par_iter().map(probed).collect::<Vec<_>>() {
        match result {
            Ok(mut good) => {
                if let Some(side) = side.filter(|_| good.large) {
                    good.scale = scale(good.width, good.height, side);
                }
                found.push(good);
            }
            Err(Some((own, bad))) => {
                lost.insert(bad.name.clone(), own);
                skipped.push(bad);
            }
            Err(None) => {}
        }
    }
    found
}

/// Whether each image can be used, with what is known of its pixels; all pixels and where those of each image begin, if they fit
/// the limits, and the memory that they have.
fn decode_all(found: &[Found], limits: &Limits) -> (Verdicts, Option<Packed>, Claim) {
    let decoded: u64 = found.iter().map(|f| f.decoded_bytes() as u64).sum();
    let mut claim = Claim::default();
    if decoded > limits.decoded_bytes || claim.grow(decoded).is_err() {
        // Of files that are read again later, the hash then counts.
        let check = |one: &Found| if one.doubtful { one.decode().map(|_| None) } else { Ok(None) };
        return (found.par_iter().map(check).collect(), None, claim);
    }
    let mut pixels = vec![0; found.iter().map(Found::packed_bytes).sum()];
    let mut slices = Vec::with_capacity(found.len());
    let mut offsets = Vec::with_capacity(found.len());
    let (mut rest, mut offset) = (pixels.as_mut_slice(), 0);
    for one in found {
        let (slice, after) = rest.split_at_mut(one.packed_bytes());
        slices.push(slice);
        offsets.push(offset);
        (rest, offset) = (after, offset + one.packed_bytes());
    }
    let pack = |(one, slice): (&Found, &mut [u8])| {
        let (image, hash) = one.decode()?;
        if one.scale > 1 {
            return Ok(Some((hash, Some(image))));
        }
        slice.copy_from_slice(&image.pixels);
        Ok(Some((hash, None)))
    };
    let verdicts = found.par_iter().zip(slices).map(pack).collect();
    (verdicts, Some((pixels, offsets)), claim)
}

/// Reads the header and the end. `None` for a file that is not an image, has no image's name and is not listed as
/// one.
fn probe(item: Item, limits: &Limits) -> Result<Found, Option<Skipped>> {
    let look = || match &item.origin {
        Origin::Memory(bytes) => {
            look_at(&item.name, io::Cursor::new(bytes), 0, bytes.len() as u64).map(|seen| (seen, 0))
        }
        Origin::Disk(path) => look_in(&item.name, path, None, limits),
        Origin::Slice(Slice { path, offset, bytes }) => {
            look_in(&item.name, path, Some((*offset, *bytes)), limits)
        }
    };
    let named = item.listed || has_image_extension(&item.name);
    match judged(look(), named) {
        Ok((Seen { header, bytes, doubtful }, modified)) => {
            let Header { format, width, height, .. } = header;
            let large = format == Format::Jpeg && is_large(width, height);
            Ok(Found { width, height, large, bytes, modified, item, doubtful, scale: 1 })
        }
        Err(reason) => Err(reason.map(|reason| Skipped { name: item.name, reason })),
    }
}

/// Whether the file at `path`, which is not named as an image, is one by its content, as in class folders: else why not, where
/// it seems to be meant as one.
pub(super) fn is_image(name: &str, path: &Path, limits: &Limits) -> Result<(), Option<String>> {
    judged(look_in(name, path, None, limits), false).map(drop)
}

/// What was seen, or why there is no image; without a reason in a file that nobody says is one.
fn judged<T>(seen: Result<(Seen, T), NotRead>, named: bool) -> Result<(Seen, T), Option<String>> {
    match seen {
        // It has no magic bytes, so that other files look like it.
        Ok((Seen { header: Header { format: Format::Tga, .. }, .. }, _)) if !named => Err(None),
        Ok(seen) => Ok(seen),
        Err(NotRead { alien: true, .. }) if !named => Err(None),
        Err(NotRead { reason, .. }) => Err(Some(reason)),
    }
}

/// What is seen of a file or a part of it, and when it was changed.
fn look_in(
    name: &str,
    path: &Path,
    part: Option<(u64, u64)>,
    limits: &Limits,
) -> Result<(Seen, u128), NotRead> {
    let unreadable = |e: io::Error| NotRead { reason: unread(e), alien: true, unknown: false };
    let file = fs::File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    let (offset, bytes) = part.unwrap_or((0, meta.len()));
    small(bytes, limits)?;
    Ok((look_at(name, file, offset, bytes)?, time_of(&meta)))
}

/// Fails on a file that is longer than images are, before it is searched for what it is.
fn small(bytes: u64, limits: &Limits) -> Result<(), NotRead> {
    match bytes <= limits.file_bytes {
        true => Ok(()),
        false => {
            let reason = format!("a file of {} MiB", bytes >> 20);
            Err(NotRead { reason, alien: true, unknown: false })
        }
    }
}

/// Nanoseconds since 1970 of the last change; 0 where the file system does not say.
fn time_of(meta: &fs::Metadata) -> u128 {
    let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |t| t.as_nanos())
}

/// What the first and last bytes of an image say.
struct Seen {
    header: Header,
    bytes: u64,
    doubtful: bool,
}

/// Checks the image of `bytes` bytes from `offset` on, in a file of this name.
fn look_at(
    name: &str,
    mut file: impl Read + Seek,
    offset: u64,
    bytes: u64,
) -> Result<Seen, NotRead> {
    let unreadable = |e: io::Error| NotRead { reason: unread(e), alien: true, unknown: false };
    const TAIL: u64 = 512;
    file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    let mut first = Vec::with_capacity(8);
    (&mut file).take(bytes.min(8)).read_to_end(&mut first).map_err(unreadable)?;
    let start = Window::new(&mut file, offset, bytes).map_err(unreadable)?;
    let header = read_named(name, &mut BufReader::with_capacity(1024, start))?;
    let length = bytes.min(TAIL);
    let mut end = Vec::with_capacity(TAIL as usize);
    file.seek(SeekFrom::Start(offset + bytes - length)).map_err(unreadable)?;
    file.take(length).read_to_end(&mut end).map_err(unreadable)?;
    Ok(Seen { header, bytes, doubtful: !ends_well(header.format, &first, &end, bytes) })
}

/// Whether `end`, the last bytes of a file, has what ends an image of its format, or the file is as long
/// as its first 8 bytes say. Programs append data to images and write wrong lengths, so `false` only means
/// that the image must be decoded to be sure.
fn ends_well(format: Format, first: &[u8], end: &[u8], bytes: u64) -> bool {
    let word = |at: usize| match first.get(at..at + 4) {
        Some(&[b0, b1, b2, b3]) => u64::from(u32::from_le_bytes([b0, b1, b2, b3])),
        _ => u64::MAX,
    };
    match format {
        Format::Jpeg => end.windows(2).any(|w| w == [0xff, 0xd9]),
        Format::Png => end.windows(4).any(|w| w == b"IEND"),
        Format::Gif => end.ends_with(b";"),
        Format::WebP => word(4).saturating_add(8) <= bytes,
        Format::Bmp => (1..=bytes).contains(&word(2)),
        Format::Qoi => end.ends_with(&[0, 0, 0, 0, 0, 0, 0, 1]),
        Format::Pnm | Format::Tiff | Format::Tga | Format::Ico | Format::JpegXl => false,
    }
}
