//! Reading a `.tar` or `.tar.gz` once, from start to end. Image files of a compressed one stay in memory.
//! Images in a plain `.tar` stay on disk and are read from there by position. Nothing is written, so
//! names in the archive cannot reach any file.

mod foreign;
mod keys;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use tar::EntryType;

use self::keys::Labels;
use super::room::{self, Room};
use super::tree::{File, MAX_DEPTH, Origin, Slice, Tree, has_image_extension, is_hidden};
use super::{Limits, Skipped, cifar};
use crate::data::image::read_named;
use crate::error::{Error, Result};
use crate::text::{composed, decode, of_bytes, visible};

/// Contents of an archive.
pub(crate) struct Contents {
    pub tree: Tree,
    /// Files of the CIFAR-10 binary format by file name.
    pub cifar: BTreeMap<String, Vec<u8>>,
    /// Texts of the `.cls` files of a WebDataset shard.
    pub labels: Labels,
    /// Whether it ends in the blocks of zeros that mark the end. One without them is probably cut short.
    pub ends: bool,
}

impl Contents {
    /// Warnings: what is allowed but probably a mistake.
    pub fn warnings(&self) -> Vec<String> {
        let path = self.tree.root.display();
        let warning =
            || format!("{path} has no end mark of a .tar: it may be cut short, with files missing");
        if self.ends { Vec::new() } else { vec![warning()] }
    }
}

/// The error for labels, given by their names, of which it is not clear which one is an image's.
pub(crate) fn two_labels(shard: &Path, [one, other]: [String; 2], image: &str) -> Error {
    Error::format(
        shard,
        "one label (.cls) for each image",
        format!("{one} and {other}{image}"),
        "give every image a .cls of its own name, as in IMG_1.0.png and IMG_1.0.cls",
    )
}

const MIB: u64 = 1 << 20;
/// How many times longer than a compressed archive what is in it may be, from [`FREE`] bytes on. Drawings without compression
/// of their own shrink to a hundredth; zeros to a thousandth.
const LARGER: u64 = 100;
const FREE: u64 = 1 << 30;
/// Longest extended header (a long path) that is read.
const MAX_HEADER: u64 = 64 << 10;
/// Longest label that is read.
const MAX_LABEL: u64 = 4 << 10;

/// Reads all of the archive at `path`, gzip-compressed or not, which its content says; what it keeps is taken from
/// `room`.
pub(crate) fn read(path: &Path, limits: &Limits, room: &mut Room) -> Result<Contents> {
    let mut file = crate::memory::open(path)?;
    let length = file.metadata().map_err(Error::io("open", path))?.len();
    let mut start = Vec::new();
    (&mut file).take(foreign::START).read_to_end(&mut start).map_err(Error::io("read", path))?;
    let packed = start.starts_with(&[0x1f, 0x8b]);
    let first = match packed {
        true => foreign::start(flate2::read::MultiGzDecoder::new(&start[..])),
        false => foreign::start(&start[..]),
    };
    if let Some(error) = foreign::not_an_archive(path, &first, packed) {
        return Err(error);
    }
    let source = io::Cursor::new(start).chain(BufReader::with_capacity(1 << 16, file));
    if packed {
        let most = limits.unpacked_bytes.min(length.saturating_mul(LARGER).max(FREE));
        entries(path, flate2::read::MultiGzDecoder::new(source), limits, room, Some(most))
    } else {
        entries(path, source, limits, room, None)
    }
}

/// Fails, rather than ending, after `left` bytes: the guard against decompression bombs. Sets `ended` where
/// there is nothing more to read.
struct Capped<'e, R> {
    inner: R,
    left: u64,
    ended: &'e Cell<bool>,
}

impl<R: Read> Read for Capped<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        if got == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        self.left = self
            .left
            .checked_sub(got as u64)
            .ok_or_else(|| io::Error::other("more data than the limit for archives allows"))?;
        Ok(got)
    }
}

/// A compressed archive yields `most` bytes; positions in a plain one are those in the file.
fn entries(
    path: &Path,
    source: impl Read,
    limits: &Limits,
    room: &mut Room,
    most: Option<u64>,
) -> Result<Contents> {
    let plain = most.is_none();
    let ended = Cell::new(false);
    let mut archive =
        tar::Archive::new(Capped { inner: source, left: most.unwrap_or(u64::MAX), ended: &ended });
    let mut reading = Reading {
        path: Arc::from(path),
        limits,
        plain,
        room,
        long_name: None,
        folders: BTreeSet::new(),
        files: BTreeMap::new(),
        skipped: Vec::new(),
        cifar: BTreeMap::new(),
        python: BTreeSet::new(),
        labels: Labels::default(),
    };
    // Raw: extended headers come as entries of their own, so that their size can be checked.
    for entry in archive.entries().map_err(damaged(path))?.raw(true) {
        reading.entry(entry.map_err(damaged(path))?)?;
    }
    let Reading { folders, files, skipped, cifar, python, labels, .. } = reading;
    if let Some(error) = cifar::python_version(path, |name| python.contains(name)) {
        return Err(error);
    }
    let files = files.into_iter().map(|((path, _), origin)| File { path, origin }).collect();
    let folders = folders.into_iter().collect();
    let tree = Tree { root: path.to_path_buf(), archive: true, folders, files, skipped };
    Ok(Contents { tree, cifar, labels, ends: !ended.get() })
}

/// Says that the archive cannot be read to its end.
fn damaged(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |e| {
        Error::format(
            path,
            "a complete .tar or .tar.gz of images",
            e.to_string(),
            "if it was downloaded, get it again; if it is large, unpack it and give the folder",
        )
    }
}

/// What was found in an archive so far.
struct Reading<'a> {
    path: Arc<Path>,
    limits: &'a Limits,
    plain: bool,
    room: &'a mut Room,
    /// The name of the next entry, where it is too long for a header of its own.
    long_name: Option<Vec<u8>>,
    folders: BTreeSet<Vec<String>>,
    files: BTreeMap<Place, Origin>,
    skipped: Vec<Skipped>,
    cifar: BTreeMap<String, Vec<u8>>,
    /// Names of parts of CIFAR's Python version, which is not read.
    python: BTreeSet<String>,
    labels: Labels,
}

/// Where a file is: its path as text, and the bytes of the path where these are not the text's. Names whose letters are composed
/// in different ways are different files, as in a folder.
type Place = (Vec<String>, Option<Box<[u8]>>);

impl Reading<'_> {
    fn damaged(&self, error: impl Into<io::Error>) -> Error {
        damaged(&self.path)(error.into())
    }

    /// Counts memory. Names count too: a path of many folders, or many paths, take more than space in the archive.
    fn keep(&mut self, bytes: u64) -> Result<()> {
        let kept = self.room.take(bytes);
        kept.map_err(|found| self.damaged(io::Error::other(found)))
    }

    fn skip(&mut self, names: &[String], reason: impl Into<String>) -> Result<()> {
        let (name, reason) = (names.join("/"), reason.into());
        self.keep(room::ENTRY + room::text(&name) + room::text(&reason))?;
        self.skipped.push(Skipped { name, reason });
        Ok(())
    }

    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName | EntryType::XHeader => return self.extended(entry),
            EntryType::XGlobalHeader | EntryType::GNULongLink => return Ok(()),
            _ => {}
        }
        let raw = self.long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let text = of_bytes(&raw);
        let names: Vec<String> =
            text.split('/').filter(|n| !matches!(*n, "" | ".")).map(String::from).collect();
        let Some(name) = names.last() else { return Ok(()) };
        if names.iter().any(|n| is_hidden(n) && n != "..") {
            return Ok(());
        }
        if names.iter().any(|n| n == "..") {
            return self.skip(&names, "a path that leads out of the archive");
        }
        let parents = if kind == EntryType::Directory { names.len() } else { names.len() - 1 };
        if parents > MAX_DEPTH {
            return self.skip(&names, format!("nested more than {MAX_DEPTH} folders deep"));
        }
        for depth in 1..=parents {
            if !self.folders.contains(&names[..depth]) {
                self.keep(room::path(&names[..depth]))?;
                self.folders.insert(names[..depth].to_vec());
            }
        }
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                let own = raw.split(|&b| b == b'/').filter(|n| !matches!(*n, b"" | b"."));
                let own = own.collect::<Vec<_>>().join(&b'/');
                let own = (own != names.join("/").as_bytes()).then(|| own.into_boxed_slice());
                self.file(&mut entry, (names, own))
            }
            EntryType::Link | EntryType::Symlink if has_image_extension(name) => {
                self.skip(&names, "a link inside an archive")
            }
            EntryType::Fifo => self.skip(&names, "a named pipe (FIFO), not a file"),
            EntryType::Char | EntryType::Block => self.skip(&names, "a device, not a file"),
            _ => Ok(()),
        }
    }

    /// An entry that says more about the next one.
    fn extended<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<()> {
        let size = entry.header().entry_size().map_err(damaged(&self.path))?;
        if size > MAX_HEADER {
            return Err(self.damaged(io::Error::other("an overlong file name")));
        }
        let mut text = Vec::new();
        entry.read_to_end(&mut text).map_err(damaged(&self.path))?;
        if entry.header().entry_type() == EntryType::GNULongName {
            text.truncate(text.iter().position(|&b| b == 0).unwrap_or(text.len()));
            self.long_name = Some(text);
            return Ok(());
        }
        for field in tar::PaxExtensions::new(&text).flatten() {
            if field.key_bytes() == b"path" {
                self.long_name = Some(field.value_bytes().to_vec());
            }
        }
        Ok(())
    }

    /// A file: an image, a label, a part of CIFAR, or something else.
    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, place: Place) -> Result<()> {
        let size = entry.header().entry_size().map_err(damaged(&self.path))?;
        let names = &place.0;
        let Some(name) = names.last() else { return Ok(()) };
        if cifar::is_python_part(name) && !self.python.contains(name) {
            self.keep(room::ENTRY + room::text(name))?;
            self.python.insert(name.clone());
        }
        if name.to_ascii_lowercase().ends_with(".cls") && size <= MAX_LABEL {
            let mut text = Vec::new();
            if entry.read_to_end(&mut text).map_err(damaged(&self.path))? as u64 != size {
                return Err(self.damaged(io::ErrorKind::UnexpectedEof));
            }
            let label = visible(&composed(decode(&text).0.trim())).into_owned();
            self.keep(room::path(names) + 2 * room::text(name) + room::text(&label))?;
            let path = &self.path;
            return self.labels.insert(names, label).map_err(|two| two_labels(path, two, ""));
        }
        let offset = entry.raw_file_position();
        let mut bytes = Vec::with_capacity(size.min(16) as usize);
        entry.take(16).read_to_end(&mut bytes).map_err(damaged(&self.path))?;
        let is_image = matches!(bytes.get(..3), Some([0xff, 0xd8, 0xff] | [0x89, b'P', b'N']))
            || has_image_extension(name);
        let is_cifar = cifar::is_part(name);
        if !is_image && !is_cifar {
            return Ok(());
        }
        if size > self.limits.file_bytes {
            return self.skip(names, format!("a file of {} MiB", size / MIB));
        }
        self.keep(room::path(names) + place.1.as_ref().map_or(0, |own| own.len() as u64))?;
        if self.plain && !is_cifar {
            let rest = io::copy(entry, &mut io::sink()).map_err(damaged(&self.path))?;
            if rest + (bytes.len() as u64) < size {
                return Err(self.damaged(io::ErrorKind::UnexpectedEof));
            }
            let path = Arc::clone(&self.path);
            self.files.insert(place, Origin::Slice(Slice { path, offset, bytes: size }));
            return Ok(());
        }
        self.keep(size)?;
        // The header's size is only a claim: memory grows with what is really there.
        bytes.reserve_exact(size.saturating_sub(16).min(MIB) as usize);
        entry.read_to_end(&mut bytes).map_err(damaged(&self.path))?;
        if (bytes.len() as u64) < size {
            return Err(self.damaged(io::ErrorKind::UnexpectedEof));
        }
        if is_cifar {
            self.cifar.insert(name.clone(), bytes);
        } else {
            match read_named(name, &mut io::Cursor::new(&bytes)) {
                Ok(_) => {
                    self.files.insert(place, Origin::Memory(bytes.into_boxed_slice()));
                }
                // No image, and nothing to be kept in memory until all is read.
                Err(error) => {
                    self.room.give_back(size);
                    if !error.alien || has_image_extension(name) {
                        return self.skip(names, error.reason);
                    }
                }
            }
        }
        Ok(())
    }
}
