//! From found files to samples: headers are read in parallel, then images are decoded once and
//! packed where they fit in memory, else decoded as a check or left to be decoded on access.

use std::fs;
use std::io::BufReader;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

use super::subset::{FileRef, Samples, Store};
use super::tree::{Item, Origin, Part, has_image_extension};
use super::{Limits, Skipped};
use crate::image::{NotRead, Rgb8, decode_bytes, read_header};

/// Samples with the split each came from.
pub(crate) struct Loaded {
    pub samples: Samples,
    pub parts: Vec<Part>,
    pub skipped: Vec<Skipped>,
}

/// An item whose header is good.
struct Found {
    item: Item,
    width: usize,
    height: usize,
    bytes: u64,
    modified: u128,
}

impl Found {
    fn decode(&self) -> Result<Rgb8<'static>, String> {
        let image = match &self.item.origin {
            Origin::Memory(bytes) => decode_bytes(bytes),
            Origin::Disk(path) => {
                let bytes =
                    fs::read(path).map_err(|e| format!("a file that cannot be read ({e})"))?;
                decode_bytes(&bytes)
            }
        }?;
        if (image.width, image.height) != (self.width, self.height) {
            return Err("a file that changed while it was read".to_string());
        }
        Ok(image)
    }

    fn decoded_bytes(&self) -> usize {
        self.width * self.height * 3
    }
}

/// Loads `items`, leaving out those that are no good. Runs in the current thread pool.
pub(crate) fn load(items: Vec<Item>, classes: usize, limits: &Limits) -> Loaded {
    let mut skipped = Vec::new();
    let mut found = Vec::with_capacity(items.len());
    for result in items.into_par_iter().map(|item| probe(item, limits)).collect::<Vec<_>>() {
        match result {
            Ok(good) => found.push(good),
            Err(reason) => skipped.extend(reason),
        }
    }

    let decoded: u64 = found.iter().map(|f| f.decoded_bytes() as u64).sum();
    let encoded: u64 = found.iter().map(|f| f.bytes).sum();
    let mut packed = None;
    let verdicts: Vec<Result<(), String>> = if decoded <= limits.decoded_bytes {
        let mut pixels = vec![0; decoded as usize];
        let mut slices = Vec::with_capacity(found.len());
        let mut offsets = Vec::with_capacity(found.len());
        let (mut rest, mut offset) = (pixels.as_mut_slice(), 0);
        for one in &found {
            let (slice, after) = rest.split_at_mut(one.decoded_bytes());
            slices.push(slice);
            offsets.push(offset);
            (rest, offset) = (after, offset + one.decoded_bytes());
        }
        let pack = |(one, slice): (&Found, &mut [u8])| {
            one.decode().map(|image| slice.copy_from_slice(&image.pixels))
        };
        let verdicts = found.par_iter().zip(slices).map(pack).collect();
        packed = Some((pixels, offsets));
        verdicts
    } else if encoded <= limits.checked_bytes {
        found.par_iter().map(|one| one.decode().map(drop)).collect()
    } else {
        vec![Ok(()); found.len()]
    };

    let mut parts = Vec::new();
    let (mut names, mut labels, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kept_offsets, mut files, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
    for (i, (one, verdict)) in found.into_iter().zip(verdicts).enumerate() {
        let Item { name, label, part, origin } = one.item;
        if let Err(reason) = verdict {
            skipped.push(Skipped { name, reason });
            continue;
        }
        names.push(name.into_boxed_str());
        labels.push(label);
        sizes.push((one.height, one.width));
        parts.push(part);
        match (&packed, origin) {
            (Some((_, offsets)), _) => kept_offsets.push(offsets[i]),
            (None, Origin::Memory(bytes)) => blobs.push(bytes),
            (None, Origin::Disk(path)) => {
                let Found { bytes, modified, .. } = one;
                files.push(FileRef { path, bytes, modified, hash: OnceLock::new() });
            }
        }
    }
    let store = match packed {
        Some((pixels, _)) => Store::Packed { pixels, offsets: kept_offsets },
        None if files.is_empty() => Store::Encoded(blobs),
        None => Store::Files(files),
    };
    Loaded { samples: Samples { classes, names, labels, sizes, store }, parts, skipped }
}

/// Reads the header. A file that is not an image and is not named like one is no loss: `None`.
fn probe(item: Item, limits: &Limits) -> Result<Found, Option<Skipped>> {
    let unread = |e: std::io::Error| NotRead {
        reason: format!("a file that cannot be read ({e})"),
        alien: true,
    };
    let look = || -> Result<_, NotRead> {
        match &item.origin {
            Origin::Memory(bytes) => Ok((read_header(&mut &bytes[..])?, bytes.len() as u64, 0)),
            Origin::Disk(path) => {
                let file = fs::File::open(path).map_err(unread)?;
                let meta = file.metadata().map_err(unread)?;
                let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                let header = read_header(&mut BufReader::with_capacity(1024, file))?;
                Ok((header, meta.len(), modified.map_or(0, |t| t.as_nanos())))
            }
        }
    };
    match look() {
        Ok((header, bytes, modified)) if bytes <= limits.file_bytes => {
            Ok(Found { width: header.width, height: header.height, bytes, modified, item })
        }
        Ok((_, bytes, _)) => {
            Err(Some(Skipped { name: item.name, reason: format!("a file of {} MiB", bytes >> 20) }))
        }
        Err(NotRead { alien: true, .. }) if !has_image_extension(&item.name) => Err(None),
        Err(NotRead { reason, .. }) => Err(Some(Skipped { name: item.name, reason })),
    }
}
