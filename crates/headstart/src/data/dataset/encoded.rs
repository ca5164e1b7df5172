//! Image files of a data set: in memory, on disk, or a part of a file there.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::data::image::MAX_FILE;
use crate::error::{Error, Result};

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
    /// What is in the file.
    ///
    /// # Errors
    /// When it can no longer be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Encoded::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Encoded::Disk(file) => {
                file.read().map(Cow::Owned).map_err(Error::io("read", &*file.path))
            }
        }
    }
}

impl FileRef {
    /// What is there now.
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
