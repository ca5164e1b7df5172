//! Labelled images and where their bytes are: decoded, encoded in memory, or on disk.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use headstart_kernels::threads::Threads;
use sha2::{Digest, Sha256};

use crate::data::image::{Rgb8, decode_bytes, unreadable};
use crate::error::{Error, Result};

/// All images of a data set, whatever split they belong to. Equal lengths throughout.
pub(crate) struct Samples {
    pub classes: usize,
    pub names: Vec<Box<str>>,
    pub labels: Vec<usize>,
    /// Height and width as the headers state them.
    pub sizes: Vec<(usize, usize)>,
    pub store: Store,
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
    /// SHA-256 of the content, once it was asked for; from then on other content is an error.
    pub hash: OnceLock<[u8; 32]>,
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
        let Some(offset) = self.offset else { return fs::read(&self.path) };
        let mut file = fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(self.bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Some rows of a data set, in order. Cheap to clone.
#[derive(Clone)]
pub struct Subset {
    samples: Arc<Samples>,
    rows: Arc<[usize]>,
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subset").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Positions below are `0..len()`; like slices, methods panic when given one past the end.
impl Subset {
    pub(crate) fn new(samples: Arc<Samples>, rows: impl Into<Arc<[usize]>>) -> Subset {
        Subset { samples, rows: rows.into() }
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

    /// Path of image `i` within its data set, or a synthetic one such as `train/00012`.
    pub fn name(&self, i: usize) -> &str {
        &self.samples.names[self.rows[i]]
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
                let path = match &files[row] {
                    Encoded::Disk(FileRef { path, offset: None, .. }) => path,
                    _ => Path::new(self.name(i)),
                };
                let bytes = files[row].bytes()?;
                if let Encoded::Disk(FileRef { hash, .. }) = &files[row]
                    && hash.get().is_some_and(|hash| *hash != file_hash(&bytes))
                {
                    let hint = "start again, so that the file as it is now is used";
                    return Err(Error::format(path, "the image it was before", "another", hint));
                }
                decode_bytes(&bytes).map_err(|reason| unreadable(path, reason))
            }
        }
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

    /// SHA-256 of what each image is decoded from: its pixels, or the bytes of its file. Images on disk
    /// are read for it; should one of them change later, [`Self::image`] fails.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn content_hashes(&self, threads: &Threads) -> Result<Vec<[u8; 32]>> {
        let mut hashes: Vec<Result<[u8; 32]>> = self.rows.iter().map(|_| Ok([0; 32])).collect();
        threads.chunks(&mut hashes, 64, |chunk, out| {
            for (k, hash) in out.iter_mut().enumerate() {
                *hash = self.content_hash(self.rows[chunk * 64 + k]);
            }
        });
        hashes.into_iter().collect()
    }

    fn content_hash(&self, row: usize) -> Result<[u8; 32]> {
        match &self.samples.store {
            Store::Packed { pixels, offsets } => {
                let (height, width) = self.samples.sizes[row];
                let mut hash = Sha256::new();
                hash.update(b"pixels");
                hash.update((height as u64).to_le_bytes());
                hash.update((width as u64).to_le_bytes());
                hash.update(&pixels[offsets[row]..][..height * width * 3]);
                Ok(hash.finalize().into())
            }
            Store::Encoded(files) => {
                let hash = match &files[row] {
                    Encoded::Memory(bytes) => return Ok(file_hash(bytes)),
                    Encoded::Disk(file) => &file.hash,
                };
                if let Some(hash) = hash.get() {
                    return Ok(*hash);
                }
                let bytes = files[row].bytes()?;
                Ok(*hash.get_or_init(|| file_hash(&bytes)))
            }
        }
    }

    /// The images at `positions` (of this subset), in that order.
    pub fn select(&self, positions: &[usize]) -> Subset {
        let rows: Arc<[usize]> = positions.iter().map(|&i| self.rows[i]).collect();
        Subset { samples: self.samples.clone(), rows }
    }

    /// At most `count` images, chosen by `seed`, each class in proportion; the order is kept.
    pub fn limit(&self, count: usize, seed: u32) -> Subset {
        self.select(&crate::data::split::stratified(&self.labels(), count, seed))
    }

    /// How many images each class has here; `classes()` entries.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for &row in self.rows.iter() {
            counts[self.samples.labels[row]] += 1;
        }
        counts
    }

    /// A SHA-256 in hex that changes when an image, its name, its label or their order does.
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

fn file_hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"file");
    hash.update(bytes);
    hash.finalize().into()
}
