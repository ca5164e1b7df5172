//! One entry of the cache: rows of one net's frozen layers, one row per image, found by the image's hash.
//!
//! A folder with three files. `index` has a header and, for each row, the image's hash and the row's
//! checksum; `rows` has the values; `about.json` describes the entry. A row's checksum covers the image's hash
//! and the values, and is compared on every read: whatever happened to the files, a row that is returned
//! is the row that was written for that image. So nothing has to reach the disk in order, a build that was
//! killed continues where it was, and opening reads only the index.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::element::Layout;
use super::lock::Lock;
use crate::atomic::make_folder;
use crate::control::Control;
use crate::data::dataset::ImageHash;
use crate::error::{Error, Result};
use crate::memory::{self, Claim};

/// Hash of an image, or of all else that its row depends on.
pub type Hash = ImageHash;

const MAGIC: [u8; 8] = *b"HSFEAT\r\n";
/// Layout of the files; other versions are built again.
pub(super) const VERSION: u32 = 2;
const HEADER: usize = 64;
const ENTRY: usize = 40;
/// How often a lock that another process holds is tried.
const POLL: Duration = Duration::from_millis(100);

/// An entry of the cache, open for reading; for writing too while it is locked.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    layout: Layout,
    index: File,
    rows: File,
    /// Held while rows are added.
    lock: Option<Lock>,
    places: HashMap<Hash, Place>,
    /// Slots whose row is incomplete; filled before the file grows.
    free: Vec<u64>,
    slots: u64,
    /// What was found wrong on opening, if anything.
    pub rejected: Option<String>,
    /// Why nothing can be added, where that is not another process's turn.
    pub unwritable: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    slot: u64,
    checksum: u32,
}

impl Store {
    /// Opens or makes the entry for `key` in the cache `root`, waiting while another process adds to it:
    /// `waiting` is asked repeatedly whether to continue; `None` if it stopped.
    ///
    /// Files that are damaged, cut short, of another version or of another key are not used, and
    /// [`Store::rejected`] says why. An entry that cannot be written is read, and [`Store::unwritable`] says why.
    ///
    /// # Errors
    /// If there is no entry and none can be made, or its files cannot be read.
    pub fn open(
        root: &Path,
        key: &Hash,
        layout: &Layout,
        waiting: &mut dyn FnMut() -> Control,
    ) -> Result<Option<Store>> {
        let mut first = true;
        let unwritable = loop {
            match Store::try_open(root, key, layout) {
                Ok(Some(store)) => return Ok(Some(store)),
                Err(error) => break error,
                // A lock may be held for a moment by one who looks whether it is held.
                Ok(None) if !std::mem::take(&mut first) && waiting() == Control::Stop => {
                    return Ok(None);
                }
                Ok(None) => std::thread::sleep(POLL),
            }
        };
        match Store::open_to_read(root, key, layout) {
            Ok(Some(mut store)) => {
                store.unwritable = Some(unwritable.to_string());
                Ok(Some(store))
            }
            _ => Err(unwritable),
        }
    }

    /// Opens or makes an entry to add to it; `None` while another process does.
    fn try_open(root: &Path, key: &Hash, layout: &Layout) -> Result<Option<Store>> {
        let name = name(key);
        let lock = Lock::take(root, &name).map_err(Error::io("lock", root))?;
        let Some(lock) = lock else { return Ok(None) };
        let folder = root.join(name);
        make_folder(&folder)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Store::with(folder, key, layout, &options, Some(lock)).map(Some)
    }

    /// Opens an entry to read it, whether or not a process adds to it; `None` if there is none.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub fn open_to_read(root: &Path, key: &Hash, layout: &Layout) -> Result<Option<Store>> {
        let folder = root.join(name(key));
        match folder.join("index").exists() {
            true => Store::with(folder, key, layout, OpenOptions::new().read(true), None).map(Some),
            false => Ok(None),
        }
    }

    fn with(
        folder: PathBuf,
        key: &Hash,
        layout: &Layout,
        options: &OpenOptions,
        lock: Option<Lock>,
    ) -> Result<Store> {
        let open = |name: &str| {
            let path = folder.join(name);
            options.open(&path).map_err(Error::io("open", path))
        };
        let mut store = Store {
            layout: layout.clone(),
            index: open("index")?,
            rows: open("rows")?,
            lock,
            places: HashMap::new(),
            free: Vec::new(),
            slots: 0,
            rejected: None,
            unwritable: None,
            folder,
        };
        store.load(key).map_err(Error::io("read", &store.folder))?;
        // The time of the last use, by which entries are removed when room is needed.
        let _ = store.index.set_modified(SystemTime::now());
        Ok(store)
    }

    /// Reads the index, or creates the files again if it is not of this key.
    fn load(&mut self, key: &Hash) -> io::Result<()> {
        let header = header(key, &self.layout);
        self.index.seek(SeekFrom::Start(0))?;
        let length = self.index.metadata()?.len();
        let mut claim = Claim::default();
        // A place in the map is as long as an entry, and the map doubles.
        let fits = claim.grow(length.saturating_mul(3)).map_err(|over| over.to_string());
        fits.map_err(io::Error::other)?;
        let path = self.folder.join("index");
        let bytes = memory::read_from(&mut self.index, &path, length, u64::MAX, &mut claim);
        let bytes = bytes.map_err(|e| io::Error::other(e.to_string()))?;
        let have = self.rows.metadata()?.len() / self.layout.row_bytes() as u64;
        if bytes.get(..HEADER) != Some(&header[..]) {
            if !bytes.is_empty() || have > 0 {
                self.rejected = Some(reason(&bytes, &header));
            }
            if self.lock.is_none() {
                return Ok(());
            }
            self.index.set_len(0)?;
            self.rows.set_len(0)?;
            self.index.seek(SeekFrom::Start(0))?;
            return self.index.write_all(&header);
        }
        let entries = bytes[HEADER..].chunks_exact(ENTRY);
        let (mut damaged, mut missing) = (0, 0);
        for (slot, entry) in (0u64..).zip(entries) {
            self.slots = slot + 1;
            let (content, sum) = entry.split_at(ENTRY - 4);
            let mut hash = [0; 32];
            hash.copy_from_slice(&content[..32]);
            let good = number(sum) == entry_checksum(content, slot);
            if good && slot < have {
                self.places.insert(hash, Place { slot, checksum: number(&content[32..]) });
                continue;
            }
            self.free.push(slot);
            if entry != [0; ENTRY] {
                *(if good { &mut missing } else { &mut damaged }) += 1;
            }
        }
        // Once the file has grown again these would look like whole ones.
        let free = std::mem::take(&mut self.free);
        if self.lock.is_some()
            && let Err(error) =
                free.iter().try_for_each(|&slot| self.write_entry(slot, &[0; ENTRY]))
        {
            self.unlock();
            self.unwritable =
                Some(Error::io("write", self.folder.join("index"))(error).to_string());
        }
        self.free = free;
        if missing + damaged > 0 {
            self.rejected = Some(format!(
                "{missing} of {} rows cut off, {damaged} damaged in the index",
                self.slots
            ));
        }
        Ok(())
    }

    /// Its path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there is a row for an image. Reading it may still find it damaged.
    pub fn has(&self, image: &Hash) -> bool {
        self.places.contains_key(image)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Reads an image's row into `row`. Whether it was there and whole; if not, it is forgotten and can
    /// be written again.
    pub fn read(&mut self, image: &Hash, row: &mut [u8]) -> bool {
        let Some(&Place { slot, checksum }) = self.places.get(image) else { return false };
        let at = slot * self.layout.row_bytes() as u64;
        let mut read = || {
            self.rows.seek(SeekFrom::Start(at))?;
            self.rows.read_exact(row)
        };
        let whole = read().is_ok() && row_checksum(image, row) == checksum;
        if !whole {
            self.places.remove(image);
            self.free.push(slot);
            // So that the next process to open it computes the row; if that fails, the checksum shows it again.
            let (root, name) = (self.folder.parent(), self.folder.file_name());
            let held = match (&self.lock, root, name) {
                (None, Some(root), Some(name)) => Lock::take(root, &name.to_string_lossy()).ok(),
                _ => None,
            };
            if self.lock.is_some() || matches!(held, Some(Some(_))) {
                let _ = self.write_entry(slot, &[0; ENTRY]);
            }
        }
        whole
    }

    /// Writes a slot's entry; zeros for none.
    fn write_entry(&mut self, slot: u64, entry: &[u8]) -> io::Result<()> {
        self.index.seek(SeekFrom::Start(HEADER as u64 + slot * ENTRY as u64))?;
        self.index.write_all(entry)
    }

    /// Adds rows, `images.len()` of them in `rows`; images that have one already are left out. Does
    /// nothing once [`Store::unlock`] was called.
    ///
    /// # Errors
    /// If the disk is full or fails; the rows that were there before are then still good.
    pub fn add(&mut self, images: &[Hash], rows: &[u8]) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        let each = self.layout.row_bytes();
        for (image, row) in images.iter().zip(rows.chunks_exact(each)) {
            if self.has(image) {
                continue;
            }
            let slot = self.free.last().copied().unwrap_or(self.slots);
            let checksum = row_checksum(image, row);
            let mut entry = image.to_vec();
            entry.extend_from_slice(&checksum.to_le_bytes());
            entry.extend_from_slice(&entry_checksum(&entry, slot).to_le_bytes());
            let mut write = || {
                self.rows.seek(SeekFrom::Start(slot * each as u64))?;
                self.rows.write_all(row)
            };
            if let Err(e) = write().and_then(|()| self.write_entry(slot, &entry)) {
                // Gives back what a full disk took of a part of a row.
                let _ = self.rows.set_len(self.slots * each as u64);
                return Err(Error::io("write", self.folder.join("rows"))(e));
            }
            if self.free.pop().is_none() {
                self.slots += 1;
            }
            self.places.insert(*image, Place { slot, checksum });
        }
        Ok(())
    }

    /// Whether rows can be added.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Lets other processes add rows; this one only reads from now on. An entry without rows is removed.
    pub fn unlock(&mut self) {
        if let Some(_held) = self.lock.take_if(|_| self.places.is_empty()) {
            for file in ["rows", "about.json", "index"] {
                let _ = fs::remove_file(self.folder.join(file));
            }
            let _ = fs::remove_dir(&self.folder);
        }
        self.lock = None;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.unlock();
    }
}

/// Name of the folder of an entry: a piece of both halves of its key.
pub(super) fn name(key: &Hash) -> String {
    half(key) + &half(&key[16..])
}

/// The piece of the first half.
pub(super) fn half(key: &[u8]) -> String {
    key.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// Rows of an entry that its files have, whether or not they are damaged; 0 if its index cannot be read.
pub(super) fn count(folder: &Path) -> usize {
    let mut claim = Claim::default();
    let index = folder.join("index");
    let bytes = memory::read(&index, u64::MAX, &mut claim).unwrap_or_default();
    let Some((header, entries)) = bytes.split_at_checked(HEADER) else { return 0 };
    let row_bytes = u64::from(number(&header[16..20])) | u64::from(number(&header[20..24])) << 32;
    let rows = fs::metadata(folder.join("rows")).map_or(0, |file| file.len());
    let have = rows.checked_div(row_bytes).unwrap_or(0);
    let good = |(slot, entry): &(u64, &[u8])| {
        let (content, sum) = entry.split_at(ENTRY - 4);
        *slot < have && number(sum) == entry_checksum(content, *slot)
    };
    (0u64..).zip(entries.chunks_exact(ENTRY)).filter(good).count()
}

fn header(key: &Hash, layout: &Layout) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&layout.code().to_le_bytes());
    header[16..24].copy_from_slice(&(layout.row_bytes() as u64).to_le_bytes());
    header[24..56].copy_from_slice(key);
    let sum = crc32c::crc32c(&header[..56]);
    header[56..60].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Why an index does not have this header.
fn reason(bytes: &[u8], header: &[u8; HEADER]) -> String {
    let Some(found) = bytes.get(..HEADER) else { return "the index is cut short".into() };
    if found[..8] != MAGIC || number(&found[56..60]) != crc32c::crc32c(&found[..56]) {
        return "the header of the index is damaged".into();
    }
    if found[8..12] != header[8..12] {
        let version = number(&found[8..12]);
        return format!("it is of version {version}, this program writes version {VERSION}");
    }
    "it is of other weights, data or precision".into()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |n, &b| n << 8 | u32::from(b))
}

fn row_checksum(image: &Hash, row: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(image), row)
}

fn entry_checksum(content: &[u8], slot: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&slot.to_le_bytes()), content)
}

#[cfg(test)]
mod tests {
    use headstart_kernels::element::DType;

    use super::*;

    fn layout() -> Layout {
        Layout { tensors: vec![(DType::F32, 3), (DType::F32, 2)] }
    }

    fn image(i: u8) -> Hash {
        [i; 32]
    }

    fn row(i: u8) -> Vec<u8> {
        (0..20).map(|k| k ^ i).collect()
    }

    const KEY: Hash = [7; 32];

    fn open(root: &Path) -> Store {
        Store::open(root, &KEY, &layout(), &mut || Control::Stop).unwrap().unwrap()
    }

    fn file(root: &Path, file: &str) -> PathBuf {
        root.join(name(&KEY)).join(file)
    }

    fn filled(folder: &Path) -> Store {
        let mut store = open(folder);
        for i in 0..5 {
            store.add(&[image(i)], &row(i)).unwrap();
        }
        store
    }

    /// The rows that come back, all of them right.
    fn good(store: &mut Store) -> Vec<u8> {
        let mut buffer = vec![0; 20];
        let mut check = |i: &u8| {
            let whole = store.read(&image(*i), &mut buffer);
            assert!(!whole || buffer == row(*i), "a wrong row of image {i}");
            whole
        };
        (0..5).filter(|i| check(i)).collect()
    }

    #[test]
    fn rows_come_back_after_a_restart_and_are_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        drop(filled(folder.path()));
        let mut store = open(folder.path());
        assert_eq!((good(&mut store), store.len()), (vec![0, 1, 2, 3, 4], 5));
        store.add(&[image(1), image(9)], &[row(3), row(9)].concat()).unwrap();
        assert_eq!(good(&mut store).len(), 5);
        assert_eq!(fs::metadata(file(folder.path(), "rows")).unwrap().len(), 120);
        assert!(store.rejected.is_none());
    }

    #[test]
    fn no_flipped_bit_gives_a_wrong_row_and_all_can_be_mended() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows", "index"] {
            drop(filled(folder.path()));
            let path = file(folder.path(), name);
            let whole = fs::read(&path).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                let mut store = open(folder.path());
                let have = good(&mut store);
                assert!(have.len() < 5, "bit {bit} of {name}");
                assert_eq!(name == "index", store.rejected.is_some(), "bit {bit} of {name}");
                for i in 0..5 {
                    store.add(&[image(i)], &row(i)).unwrap();
                }
                assert_eq!(good(&mut store).len(), 5);
                drop(store);
                assert_eq!(good(&mut open(folder.path())).len(), 5);
                fs::write(file(folder.path(), "rows"), (0..5).flat_map(row).collect::<Vec<_>>())
                    .unwrap();
            }
            fs::remove_dir_all(folder.path()).unwrap();
        }
    }

    #[test]
    fn files_cut_anywhere_lose_rows_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for (name, whole_at) in [("rows", 20), ("index", ENTRY)] {
            drop(filled(folder.path()));
            let files = ["rows", "index"].map(|name| file(folder.path(), name));
            let whole = files.clone().map(|path| fs::read(path).unwrap());
            let cut = usize::from(name == "index");
            for length in 0..whole[cut].len() {
                for (path, bytes) in files.iter().zip(&whole) {
                    fs::write(path, bytes).unwrap();
                }
                fs::write(&files[cut], &whole[cut][..length]).unwrap();
                let mut store = open(folder.path());
                let start = if name == "index" { HEADER } else { 0 };
                assert_eq!(good(&mut store).len(), length.saturating_sub(start) / whole_at);
                for i in 0..5 {
                    store.add(&[image(i)], &row(i)).unwrap();
                }
                assert_eq!(good(&mut store).len(), 5, "{name} cut at {length}");
            }
            fs::remove_dir_all(folder.path()).unwrap();
        }
    }

    #[test]
    fn other_keys_layouts_and_versions_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // An entry without rows goes with the one that opened it.
        let again = |key: Hash, layout: &Layout| {
            drop(filled(path));
            fs::rename(path.join(name(&KEY)), path.join(name(&key))).unwrap_or_default();
            let store = Store::open(path, &key, layout, &mut || Control::Stop).unwrap().unwrap();
            assert!(store.is_empty());
            store.rejected.clone().unwrap()
        };
        assert!(again([8; 32], &layout()).contains("other weights"));
        assert!(!path.join(name(&[8; 32])).exists());
        let bf16 = Layout { tensors: vec![(DType::Bf16, 6), (DType::Bf16, 4)] };
        assert!(again([7; 32], &bf16).contains("precision"));
        drop(filled(path));
        let mut bytes = fs::read(file(path, "index")).unwrap();
        bytes[8] = 9;
        let sum = crc32c::crc32c(&bytes[..56]);
        bytes[56..60].copy_from_slice(&sum.to_le_bytes());
        fs::write(file(path, "index"), bytes).unwrap();
        assert!(open(path).rejected.clone().unwrap().contains("version 9"));
    }

    #[test]
    fn one_at_a_time_may_add() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = filled(folder.path());
        let mut asked = 0;
        let mut stop = || {
            asked += 1;
            if asked < 3 { Control::Continue } else { Control::Stop }
        };
        assert!(Store::open(folder.path(), &KEY, &layout(), &mut stop).unwrap().is_none());
        assert_eq!(asked, 3);
        first.unlock();
        let mut second = open(folder.path());
        second.add(&[image(6)], &row(6)).unwrap();
        // One that gave up its lock reads on and adds nothing.
        first.add(&[image(8)], &row(8)).unwrap();
        assert!(!first.has(&image(8)));
        assert_eq!(good(&mut first).len(), 5);
    }
}
