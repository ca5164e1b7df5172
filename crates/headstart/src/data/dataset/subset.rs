//! Labelled images and where their bytes are: decoded, encoded in memory, or on disk.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use headstart_kernels::threads::Threads;
use sha2::{Digest, Sha256};

use super::shown::Shown;
use crate::data::image::{MAX_FILE, Rgb8, decode_bytes, unreadable};
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
    pub store: Store,
    /// The memory that `store` takes.
    pub kept: Claim,
}

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
    /// Decoded RGB bytes; image `i` starts at `offsets[i]`.
    Packed { pixels: Vec<u8>, offsets: Vec<usize> },
    /// JPEG, PNG and other files, decoded on every access.
    Encoded(Vec<Encoded>),
}

/// An image file.
pub(crate) enum Encoded {
    /// Held in memory.
    Memory(Box<[u8]>),
    /// On disk, read on every access.
    Disk(FileRef),
}

/// A file on disk, or a part of one.
pub(crate) struct FileRef {
    pub path: Arc<Path>,
    /// Where in the file the image begins, if it is not all of it.
    pub offset: Option<u64>,
    pub bytes: u64,
    /// Nanoseconds since 1970 of the last change, as far as the file system records it.
    pub modified: u128,
}

impl Encoded {
    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Encoded::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Encoded::Disk(file) => {
                file.read().map(Cow::Owned).map_err(Error::io("read", &*file.path))
            }
        }
    }
}

impl FileRef {
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(&self.path)?;
        // A file that has grown is read as it is, as far as images go.
        let most = self.offset.map_or(self.bytes.max(MAX_FILE), |_| self.bytes);
        file.seek(SeekFrom::Start(self.offset.unwrap_or(0)))?;
        let mut bytes = Vec::with_capacity(self.bytes.min(1 << 20) as usize + 1);
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Some rows of a data set, in order. Cheap to clone.
#[derive(Clone)]
pub struct Subset {
    samples: Arc<Samples>,
    rows: Arc<[usize]>,
    /// The group of each of the samples, where images were grouped.
    groups: Option<Arc<[usize]>>,
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Positions below are `0..len()`; like slices, methods panic when given one past the end.
impl Subset {
    pub(crate) fn new(samples: Arc<Samples>, rows: impl Into<Arc<[usize]>>) -> Subset {
        Subset { samples, rows: rows.into(), groups: None }
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
        let row = self.rows[i];
        match &self.samples.store {
            Store::Packed { pixels, offsets } => {
                let (height, width) = self.samples.sizes[row];
                Rgb8::new(width, height, &pixels[offsets[row]..][..height * width * 3])
            }
            Store::Encoded(files) => {
                let bytes = files[row].bytes()?;
                if let Encoded::Disk(_) = &files[row]
                    && let Some(hash) = self.samples.hashes[row].get()
                {
                    self.unchanged(i, hash, &file_hash(&bytes))?;
                }
                self.decode(i, &bytes)
            }
        }
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

    fn decode(&self, i: usize, bytes: &[u8]) -> Result<Rgb8<'static>> {
        decode_bytes(bytes).map_err(|reason| unreadable(self.file(i), reason))
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
        let image = self.decode(i, &bytes)?;
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

    fn image_hash(&self, row: usize) -> Result<ImageHash> {
        let known = &self.samples.hashes[row];
        if let Some(hash) = known.get() {
            return Ok(*hash);
        }
        let hash = match &self.samples.store {
            Store::Packed { pixels, offsets } => {
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
        Subset { samples: self.samples.clone(), rows, groups: self.groups.clone() }
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
        hash.update((self.classes() as u64).to_le_bytes());
        hash.update((self.len() as u64).to_le_bytes());
        for &row in self.rows.iter() {
            let name = self.samples.names[row].as_bytes();
            let (height, width) = self.samples.sizes[row];
            for number in [name.len(), self.samples.labels[row], height, width] {
                hash.update((number as u64).to_le_bytes());
            }
            hash.update(name);
            match &self.samples.store {
                Store::Packed { pixels, offsets } => {
                    hash.update(&pixels[offsets[row]..][..height * width * 3]);
                }
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
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether images are kept decoded in memory, so that `image` costs nothing.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.samples.store, Store::Packed { .. })
    }
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
pub(super) fn file_hash(bytes: &[u8]) -> ImageHash {
    Sha256::digest(bytes).into()
}
