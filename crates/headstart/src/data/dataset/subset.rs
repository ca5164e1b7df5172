//! Labelled images and where their bytes are: decoded, encoded in memory, or on disk.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use headstart_kernels::threads::Threads;
use sha2::{Digest, Sha256};

use super::encoded::{Encoded, FileRef};
use super::large::Large;
use super::shown::Shown;
use crate::data::image::{
    CROP_SHARE, Decode, Rgb8, Target, View, decode_scaled, scale, unreadable,
};
use crate::data::split::{class_counts, stratified};
use crate::error::{Error, Result};
use crate::memory::{self, Claim};

/// All images of a data set, whatever split they belong to. Equal lengths throughout.
pub(crate) struct Samples {
    pub classes: usize,
    pub names: Vec<Box<str>>,
    pub shown: Shown,
    pub labels: Vec<usize>,
    /// Height and width as the headers state them.
    pub sizes: Vec<(usize, usize)>,
    /// Hash of each image, once it is known: of images on disk, other content is an error from then on.
    pub hashes: Vec<OnceLock<ImageHash>>,
    /// Those of JPEG files that are large enough to be decoded smaller.
    pub large: HashSet<usize>,
    pub store: Store,
    /// The memory that `store` takes.
    pub kept: Claim,
}

/// Raised when JPEGs that are decoded smaller get other pixels than before.
const REDUCING: u32 = 1;

/// What an image is known by, wherever it is stored: the SHA-256 of its file's bytes, or, where there is no file, of its
/// pixels ([`Subset::image_hashes`]).
pub type ImageHash = [u8; 32];

/// An image with the file that it is in, read once.
pub(crate) struct ImageFile<'a> {
    pub image: Rgb8<'a>,
    /// `None` where only its pixels are in memory.
    pub file: Option<Cow<'a, [u8]>>,
    pub hash: ImageHash,
}

pub(crate) enum Store {
    /// Decoded RGB bytes; image `i` starts at `offsets[i]`. Of large JPEGs there are the files besides, to be decoded smaller;
    /// those that were opened smaller have no pixels here.
    Packed { pixels: Vec<u8>, offsets: Vec<usize>, large: HashMap<usize, Large> },
    /// JPEG, PNG and other files, decoded on every access.
    Encoded(Vec<Encoded>),
}

impl Store {
    /// Decoded images that have no files.
    pub fn packed(pixels: Vec<u8>, offsets: Vec<usize>) -> Store {
        Store::Packed { pixels, offsets, large: HashMap::new() }
    }
}

/// Some rows of a data set, in order. Cheap to clone.
#[derive(Clone)]
pub struct Subset {
    samples: Arc<Samples>,
    rows: Arc<[usize]>,
    /// The group of each of the samples, where images were grouped.
    groups: Option<Arc<[usize]>>,
    /// What of the images enters the net.
    view: View,
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Positions below are `0..len()`; like slices, methods panic when given one past the end.
impl Subset {
    pub(crate) fn new(samples: Arc<Samples>, rows: impl Into<Arc<[usize]>>) -> Subset {
        Subset { samples, rows: rows.into(), groups: None, view: View::default() }
    }

    /// The same with a group for each of the samples.
    pub(super) fn with_groups(self, groups: Option<Vec<usize>>) -> Subset {
        Subset { groups: groups.map(Into::into), ..self }
    }

    /// The group of each image, as a number; none where [`DataOptions::group`](super::DataOptions::group) asked for none.
    pub fn groups(&self) -> Option<Vec<usize>> {
        let groups = self.groups.as_ref()?;
        Some(self.rows.iter().map(|&row| groups[row]).collect())
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of classes of the data set (not only of those that occur here).
    pub fn classes(&self) -> usize {
        self.samples.classes
    }

    /// Class index of image `i`.
    pub fn label(&self, i: usize) -> usize {
        self.samples.labels[self.rows[i]]
    }

    /// Class indices of all images.
    pub fn labels(&self) -> Vec<usize> {
        self.rows.iter().map(|&row| self.samples.labels[row]).collect()
    }

    /// Path of image `i` within its data set, or a synthetic one such as `train/00012`. It stays the same wherever the data set
    /// is moved.
    pub fn name(&self, i: usize) -> &str {
        &self.samples.names[self.rows[i]]
    }

    /// What image `i` is called wherever it is shown: the path of its file, which begins as the data set's was given, or
    /// the archive and its member there, `photos.tar:roses/1.jpg`.
    pub fn path(&self, i: usize) -> Cow<'_, str> {
        self.samples.shown.of(self.name(i))
    }

    /// Height and width of image `i` in its source.
    pub fn size(&self, i: usize) -> (usize, usize) {
        self.samples.sizes[self.rows[i]]
    }

    /// Height and width that all images share, or `None` when they differ or there are none.
    pub fn uniform_size(&self) -> Option<(usize, usize)> {
        let mut sizes = self.rows.iter().map(|&row| self.samples.sizes[row]);
        let first = sizes.next()?;
        sizes.all(|size| size == first).then_some(first)
    }

    /// Image `i` at its source size. Fails, naming the file, when it can no longer be read.
    pub fn image(&self, i: usize) -> Result<Rgb8<'_>> {
        self.at_scale(i, 1)
    }

    /// Image `i` as the net of `target` has images decoded, not yet at the net's size: a large JPEG may be smaller than its
    /// source. Fails as [`Subset::image`].
    pub fn image_for(&self, i: usize, target: Target) -> Result<Rgb8<'_>> {
        self.image_at_least(i, target.least_side())
    }

    /// Whether that is another image than [`Subset::image`].
    pub(crate) fn is_reduced(&self, i: usize, target: Target) -> bool {
        self.scale(i, target.least_side()) > 1
    }

    /// Image `i`, whose shorter side, where it is that of a JPEG, need be no longer than `side`; none for every pixel.
    pub(crate) fn image_at_least(&self, i: usize, side: Option<usize>) -> Result<Rgb8<'_>> {
        self.at_scale(i, self.scale(i, side))
    }

    /// Image `i` of what is in memory, at the size that it has there.
    ///
    /// # Errors
    /// As [`Subset::image`], where nothing is.
    pub(crate) fn kept(&self, i: usize) -> Result<Rgb8<'_>> {
        match &self.samples.store {
            Store::Packed { large, .. } => large.get(&self.rows[i]).and_then(Large::opened),
            Store::Encoded(_) => None,
        }
        .map_or_else(|| self.image(i), Ok)
    }

    /// Image `i` made `scale` times smaller.
    fn at_scale(&self, i: usize, scale: usize) -> Result<Rgb8<'_>> {
        let row = self.rows[i];
        match &self.samples.store {
            Store::Encoded(files) => self.decode_file(i, &files[row], scale),
            Store::Packed { pixels, offsets, large } => match large.get(&row) {
                Some(large) if scale > 1 || large.opened().is_some() => {
                    large.at(scale, |file| self.decode_file(i, file, scale))
                }
                _ => {
                    let (height, width) = self.samples.sizes[row];
                    Rgb8::new(width, height, &pixels[offsets[row]..][..height * width * 3])
                }
            },
        }
    }

    /// How many times smaller image `i` is decoded where its shorter side need be no longer than `side`. It follows from the
    /// size in its header as it was on opening, so that one image has one answer.
    fn scale(&self, i: usize, side: Option<usize>) -> usize {
        let row = self.rows[i];
        let (height, width) = self.samples.sizes[row];
        side.filter(|_| self.samples.large.contains(&row))
            .map_or(1, |side| scale(width, height, side))
    }

    /// Decodes the file of image `i`, unless it has changed.
    fn decode_file(&self, i: usize, file: &Encoded, scale: usize) -> Result<Rgb8<'static>> {
        let bytes = file.bytes()?;
        if let Encoded::Disk(_) = file
            && let Some(hash) = self.samples.hashes[self.rows[i]].get()
        {
            self.unchanged(i, hash, &file_hash(&bytes))?;
        }
        self.decode(i, &bytes, scale)
    }

    /// The file that image `i` is in, or its name in an archive.
    fn file(&self, i: usize) -> PathBuf {
        match &self.samples.store {
            Store::Encoded(files) => match &files[self.rows[i]] {
                Encoded::Disk(FileRef { path, offset: None, .. }) => path.to_path_buf(),
                _ => PathBuf::from(&*self.path(i)),
            },
            Store::Packed { .. } => PathBuf::from(&*self.path(i)),
        }
    }

    fn decode(&self, i: usize, bytes: &[u8], scale: usize) -> Result<Rgb8<'static>> {
        decode_scaled(bytes, scale).map_err(|reason| unreadable(self.file(i), reason))
    }

    /// Fails if the file of image `i` has changed since its hash was `before`.
    fn unchanged(&self, i: usize, before: &ImageHash, now: &ImageHash) -> Result<()> {
        let hint = "start again, so that the file as it is now is used";
        match before == now {
            true => Ok(()),
            false => Err(Error::format(self.file(i), "the image it was before", "another", hint)),
        }
    }

    /// Image `i` with its file and its hash, from one read.
    ///
    /// # Errors
    /// As [`Subset::image`].
    pub(crate) fn read(&self, i: usize) -> Result<ImageFile<'_>> {
        let Some(bytes) = self.encoded(i)? else {
            let hash = self.image_hash(self.rows[i])?;
            return Ok(ImageFile { image: self.image(i)?, file: None, hash });
        };
        let image = self.decode(i, &bytes, 1)?;
        let hash = file_hash(&bytes);
        self.unchanged(i, self.samples.hashes[self.rows[i]].get_or_init(|| hash), &hash)?;
        Ok(ImageFile { image, file: Some(bytes), hash })
    }

    /// The file of image `i` as it was found; `None` where only its pixels are in memory.
    ///
    /// # Errors
    /// When it can no longer be read.
    pub fn encoded(&self, i: usize) -> Result<Option<Cow<'_, [u8]>>> {
        match &self.samples.store {
            Store::Packed { .. } => Ok(None),
            Store::Encoded(files) => files[self.rows[i]].bytes().map(Some),
        }
    }

    /// What each image is known by, in order: the SHA-256 of the bytes of its file, as `sha256sum` prints it, or of height,
    /// width and RGB bytes where there never was a file of its own (CIFAR-10's binary files, digits inside the program,
    /// synthetic images). It is computed once for each image of a data set, whatever subset asks.
    ///
    /// It does not depend on name, label, split, position, folder or archive. It cannot see that two files show the same
    /// picture: an image that was saved again, resized, rotated or had its metadata changed is another one. Images on disk
    /// are read for it, unless they were decoded on opening; should one of them change later, [`Self::image`] fails.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn image_hashes(&self, threads: &Threads) -> Result<Vec<ImageHash>> {
        let mut hashes: Vec<Result<ImageHash>> = self.rows.iter().map(|_| Ok([0; 32])).collect();
        threads.chunks(&mut hashes, 64, |chunk, out| {
            for (k, hash) in out.iter_mut().enumerate() {
                *hash = self.image_hash(self.rows[chunk * 64 + k]);
            }
        });
        hashes.into_iter().collect()
    }

    /// What each image's pixels are known by as `target` has images decoded, in order: [`Subset::image_hashes`], but another
    /// hash where a JPEG is decoded smaller, or another view of the image enters the net.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn pixel_hashes(&self, target: Target, threads: &Threads) -> Result<Vec<ImageHash>> {
        let mut hashes = self.image_hashes(threads)?;
        let target = target.at(self.view.corner);
        for (i, hash) in hashes.iter_mut().enumerate() {
            let scale = self.scale(i, target.least_side());
            if scale > 1 {
                let name = format!("headstart reduced JPEG {REDUCING}, 1/{scale}, ");
                *hash = Sha256::new().chain_update(name).chain_update(*hash).finalize().into();
            }
            if let Some(corner) = self.view.corner {
                let name = format!("headstart corner, {CROP_SHARE}, {corner:?}, ");
                *hash = Sha256::new().chain_update(name).chain_update(*hash).finalize().into();
            }
            if self.view.mirrored {
                let name = "headstart mirrored, ";
                *hash = Sha256::new().chain_update(name).chain_update(*hash).finalize().into();
            }
        }
        Ok(hashes)
    }

    fn image_hash(&self, row: usize) -> Result<ImageHash> {
        let known = &self.samples.hashes[row];
        if let Some(hash) = known.get() {
            return Ok(*hash);
        }
        let hash = match &self.samples.store {
            Store::Packed { pixels, offsets, .. } => {
                let (height, width) = self.samples.sizes[row];
                let mut hash = Sha256::new();
                hash.update(b"pixels");
                hash.update((height as u64).to_le_bytes());
                hash.update((width as u64).to_le_bytes());
                hash.update(&pixels[offsets[row]..][..height * width * 3]);
                hash.finalize().into()
            }
            Store::Encoded(files) => file_hash(&files[row].bytes()?),
        };
        Ok(*known.get_or_init(|| hash))
    }

    /// The images at `positions` (of this subset), in that order.
    pub fn select(&self, positions: &[usize]) -> Subset {
        let rows: Arc<[usize]> = positions.iter().map(|&i| self.rows[i]).collect();
        Subset { rows, ..self.clone() }
    }

    /// The same images, of which the mirror images, left and right, enter the net: those that a loader makes, and cached features.
    /// [`Subset::image`] and everything else are of the images as they are.
    #[must_use]
    pub fn mirrored(&self) -> Subset {
        self.seen_as(View { mirrored: true, corner: None })
    }

    /// The same images, of which this view of what enters now enters the net, as [`Subset::mirrored`] says.
    #[must_use]
    pub fn seen_as(&self, view: View) -> Subset {
        let mirrored = self.view.mirrored != view.mirrored;
        let view = View { mirrored, corner: view.corner.or(self.view.corner) };
        Subset { view, ..self.clone() }
    }

    /// What of them enters the net.
    pub(crate) fn view(&self) -> View {
        self.view
    }

    /// At most `count` images, chosen by `seed`, each class in proportion; the order is kept.
    pub fn limit(&self, count: usize, seed: u32) -> Subset {
        self.select(&stratified(&self.labels(), count, seed))
    }

    /// How many images each class has here; `classes()` entries.
    pub fn class_counts(&self) -> Vec<usize> {
        class_counts(self.rows.iter().map(|&row| self.samples.labels[row]), self.classes())
    }

    /// A SHA-256 in hex that changes when an image, its name, its label or their order does: whether a run sees what it
    /// saw before. Which images these are, wherever they are stored, [`Self::image_hashes`] says.
    ///
    /// It covers pixels of decoded and bytes of in-memory files; of images read from disk on
    /// every access it covers size and time of change instead.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"headstart subset 1");
        self.describe_to(&mut hash, |hash, i| {
            let row = self.rows[i];
            match &self.samples.store {
                Store::Packed { .. } => match self.image(i) {
                    Ok(image) => hash.update(&image.pixels),
                    // It is not what it was.
                    Err(error) => hash.update(error.to_string()),
                },
                Store::Encoded(files) => match &files[row] {
                    Encoded::Memory(bytes) => {
                        hash.update((bytes.len() as u64).to_le_bytes());
                        hash.update(bytes);
                    }
                    Encoded::Disk(file) => {
                        hash.update(file.offset.unwrap_or(0).to_le_bytes());
                        hash.update(file.bytes.to_le_bytes());
                        hash.update(file.modified.to_le_bytes());
                    }
                },
            }
        });
        hex(hash)
    }

    /// The same, which for `Reduced` covers what [`Self::image_hashes`] says of each image: which of them stay in memory, and
    /// how, then depends on what they are opened for.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn fingerprint_for(&self, decode: Decode, threads: &Threads) -> Result<String> {
        if decode.is_full() {
            return Ok(self.fingerprint());
        }
        let images = self.image_hashes(threads)?;
        let mut hash = Sha256::new();
        hash.update(b"headstart subset 2");
        self.describe_to(&mut hash, |hash, i| hash.update(images[i]));
        Ok(hex(hash))
    }

    /// Adds classes, names, labels and sizes, and `image` of each position.
    fn describe_to(&self, hash: &mut Sha256, image: impl Fn(&mut Sha256, usize)) {
        hash.update((self.classes() as u64).to_le_bytes());
        hash.update((self.len() as u64).to_le_bytes());
        for (i, &row) in self.rows.iter().enumerate() {
            let name = self.samples.names[row].as_bytes();
            let (height, width) = self.samples.sizes[row];
            for number in [name.len(), self.samples.labels[row], height, width] {
                hash.update((number as u64).to_le_bytes());
            }
            hash.update(name);
            image(hash, i);
        }
    }

    /// Whether images are kept decoded in memory, so that `image` costs nothing, or, where the data was opened for a net that
    /// has large JPEGs decoded smaller, `image_for` that net.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.samples.store, Store::Packed { .. })
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the image in the file at `path` is known by.
///
/// # Errors
/// If it cannot be read.
pub fn image_hash(path: impl AsRef<Path>) -> Result<ImageHash> {
    let path = path.as_ref();
    let mut hash = Sha256::new();
    let mut file = memory::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// What an image is known by that is in a file of these bytes.
pub fn file_hash(bytes: &[u8]) -> ImageHash {
    Sha256::digest(bytes).into()
}
