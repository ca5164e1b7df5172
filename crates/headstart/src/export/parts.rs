//! Results of one of several jobs, as a file that grows row by row, goes on where it was cut off, and is joined with those of
//! the others.
//!
//! A file is lines of JSON: a head, a row for each thing, and an end. What follows the last whole line was cut off.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::atomic::make_folder;
use crate::data::batch::Portion;
use crate::error::{Error, Result};
use crate::memory::Claim;

mod encoded;

pub use encoded::Encoded;

/// Most parts.
pub const MOST: usize = 1 << 20;
/// Version of the files.
const VERSION: u32 = 1;
/// Most bytes of a line: features of the largest layers are a few megabytes.
const LINE: u64 = 256 << 20;

/// What a file of results is a part of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the file.
    headstart_part: u32,
    /// What was done: "predict", "features" or "data check".
    pub command: String,
    /// Number of the part, from 1.
    pub part: usize,
    /// How many parts there are.
    pub of: usize,
    /// Position of its first thing among those of all parts.
    pub first: usize,
    /// Its number of things.
    pub count: usize,
    /// Things of all parts.
    pub total: usize,
    /// Changes when anything does that results depend on.
    pub same: String,
    /// What joining needs to know besides.
    pub about: Value,
}

impl Head {
    /// Of part `part` of `of`, for things `first..first + count` of `total`.
    pub fn new(
        command: &str,
        (part, of): (usize, usize),
        things: std::ops::Range<usize>,
        total: usize,
        same: String,
        about: Value,
    ) -> Head {
        let (first, count) = (things.start, things.len());
        let command = command.to_string();
        Head { headstart_part: VERSION, command, part, of, first, count, total, same, about }
    }

    fn file(&self) -> String {
        format!("part-{:04}-of-{:04}.jsonl", self.part, self.of)
    }
}

/// The last line of a file that is complete.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: usize,
}

/// The name of a part in the folder that is one of another number of parts than `of`.
fn of_another_number(folder: &Path, of: usize) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).find(|name| {
        let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".jsonl"));
        let number = number.and_then(|rest| rest.split_once("-of-")?.1.parse::<usize>().ok());
        number.is_some_and(|number| number != of)
    })
}

/// A part that is being written, by this process alone.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    out: BufWriter<File>,
    count: usize,
    done: usize,
    finished: bool,
}

impl Part {
    /// Opens the part's file in `folder`, or makes it. Rows that are there stay.
    ///
    /// # Errors
    /// If the file is of other things or settings, another process writes to it, or it cannot be written.
    pub fn open(folder: &Path, head: &Head) -> Result<Part> {
        make_folder(folder)?;
        if let Some(other) = of_another_number(folder, head.of) {
            let expected = format!("a folder for {} parts", head.of);
            let hint = "give the part of that number (--shard K/N), remove the others, or name another folder";
            return Err(Error::format(folder, expected, format!("{other} in it"), hint));
        }
        let path = folder.join(head.file());
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io("open", &path))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let found = "another process that writes to it";
            return Err(Error::format(path, "a part that this process writes", found, ""));
        }
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        let scan = match scan(&path, &mut file, length)? {
            Some((found, _)) if found != *head => {
                let expected = "a part with the same images, model and settings";
                let hint = "remove it, or name another folder with --output";
                return Err(Error::format(path, expected, "one with others", hint));
            }
            Some((_, scan)) => scan,
            None => {
                let line = line(&path, head)?;
                file.set_len(0).map_err(Error::io("write", &path))?;
                file.seek(SeekFrom::Start(0)).map_err(Error::io("write", &path))?;
                file.write_all(&line).map_err(Error::io("write", &path))?;
                Scan { rows: 0, whole: line.len() as u64, finished: false }
            }
        };
        file.set_len(scan.whole).map_err(Error::io("write", &path))?;
        file.seek(SeekFrom::Start(scan.whole)).map_err(Error::io("write", &path))?;
        let (count, done, finished) = (head.count, scan.rows, scan.finished);
        Ok(Part { path, out: BufWriter::new(file), count, done, finished })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rows that it has.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Whether it has all of its rows, and the end.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If the file cannot be written, or has all of its rows.
    pub fn add(&mut self, row: &impl Serialize) -> Result<()> {
        if self.finished || self.done >= self.count {
            let (expected, found) = (format!("{} rows", self.count), "more".to_string());
            return Err(Error::format(&self.path, expected, found, ""));
        }
        let line = line(&self.path, row)?;
        self.out.write_all(&line).map_err(Error::io("write", &self.path))?;
        self.done += 1;
        Ok(())
    }

    /// Hands what was added to the system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io("write", &self.path))
    }

    /// Marks it as complete.
    ///
    /// # Errors
    /// If rows are missing, or the file cannot be written.
    pub fn finish(mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        if self.done != self.count {
            let (expected, found) = (format!("{} rows", self.count), self.done.to_string());
            return Err(Error::format(&self.path, expected, found, ""));
        }
        let end = line(&self.path, &End { end: self.done })?;
        self.out.write_all(&end).map_err(Error::io("write", &self.path))?;
        self.flush()?;
        self.out.get_ref().sync_all().map_err(Error::io("write", &self.path))
    }
}

fn line(path: &Path, row: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(row)
        .map_err(|e| Error::format(path, "a row that fits JSON", e.to_string(), ""))?;
    line.push(b'\n');
    Ok(line)
}

/// What a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scan {
    rows: usize,
    /// Bytes of whole lines.
    whole: u64,
    finished: bool,
}

/// Reads lines one after the other, as far as they are whole.
struct Lines<'f> {
    path: &'f Path,
    input: BufReader<&'f mut File>,
    line: Vec<u8>,
    whole: u64,
}

impl<'f> Lines<'f> {
    fn of(path: &'f Path, file: &'f mut File) -> Result<Lines<'f>> {
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
        Ok(Lines { path, input: BufReader::new(file), line: Vec::new(), whole: 0 })
    }

    /// The next line, if it is whole.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let mut input = self.input.by_ref().take(LINE);
        let read = input.read_until(b'\n', &mut self.line).map_err(Error::io("read", self.path))?;
        if self.line.pop() != Some(b'\n') {
            return Ok(None);
        }
        self.whole += read as u64;
        Ok(Some(&self.line))
    }
}

/// The head of a file and what follows it; none where not even the head is whole.
fn scan(path: &Path, file: &mut File, length: u64) -> Result<Option<(Head, Scan)>> {
    let mut lines = Lines::of(path, file)?;
    let Some(first) = lines.next()? else {
        // A file of another kind is not overwritten.
        let head = b"{\"headstart_part\"";
        let begins = lines.line.iter().zip(head).all(|(a, b)| a == b);
        return match length == 0 || begins {
            true => Ok(None),
            false => Err(not_a_part(path)),
        };
    };
    let head: Head = serde_json::from_slice(first).map_err(|_| not_a_part(path))?;
    if head.headstart_part != VERSION {
        let expected = format!("version {VERSION} of a part");
        return Err(Error::format(path, expected, head.headstart_part.to_string(), ""));
    }
    if !fits(&head) {
        let expected = "a head whose numbers fit each other";
        return Err(Error::format(path, expected, "others", "run the job of this part again"));
    }
    let mut scan = Scan { rows: 0, whole: lines.whole, finished: false };
    while let Some(line) = lines.next()? {
        if let Ok(End { end }) = serde_json::from_slice(line) {
            scan.finished = end == scan.rows && end == head.count;
            if scan.finished {
                scan.whole = lines.whole;
            }
            break;
        }
        if scan.rows >= head.count || serde_json::from_slice::<IgnoredAny>(line).is_err() {
            break;
        }
        scan.rows += 1;
        scan.whole = lines.whole;
    }
    Ok(Some((head, scan)))
}

/// Whether there is such a part, and it has the things that belong to it.
fn fits(head: &Head) -> bool {
    let Head { part, of, first, count, total, .. } = *head;
    if !(1..=MOST).contains(&of) || !(1..=of).contains(&part) {
        return false;
    }
    let things = Portion { from: part - 1, to: part, of }.range(total);
    (things.start, things.len()) == (first, count)
}

fn not_a_part(path: &Path) -> Error {
    let hint = "parts are written by predict, features and data check with --shard";
    Error::format(path, "a part of a command's results", "another file", hint)
}

/// What became of a thing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Row<T> {
    /// Its result.
    Done(T),
    /// It could not be read.
    Skipped {
        /// Its name.
        skipped: String,
        /// Why.
        reason: String,
    },
}

/// A SHA-256 in hex of texts, for [`Head::same`].
pub fn fingerprint<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All parts of a command's results.
#[derive(Debug)]
pub struct Parts {
    /// The head of the first.
    pub head: Head,
    files: Vec<PathBuf>,
}

impl Parts {
    /// Finds the parts among `paths`, files and folders of them.
    ///
    /// # Errors
    /// If any is missing or not complete, all of which are named; if they are not of one command with the same settings; if a
    /// file cannot be read.
    pub fn find(paths: &[PathBuf]) -> Result<Parts> {
        let mut found: BTreeMap<usize, (PathBuf, Head, Scan)> = BTreeMap::new();
        for path in files(paths)? {
            let mut file = File::open(&path).map_err(Error::io("read", &path))?;
            let length = file.metadata().map_err(Error::io("read", &path))?.len();
            // One without a whole head is as good as missing.
            let Some((head, scan)) = scan(&path, &mut file, length)? else { continue };
            if let Some((other, first, _)) = found.values().next() {
                let alike = |h: &Head| (h.command.clone(), h.of, h.total, h.same.clone());
                if alike(first) != alike(&head) {
                    let expected = format!("a part of the same work as {}", other.display());
                    let hint =
                        "parts belong together that have the same images, model and settings";
                    return Err(Error::format(path, expected, "one of other work", hint));
                }
            }
            if let Some((other, ..)) = found.get(&head.part) {
                let expected = format!("each part once; {} is the same one", other.display());
                return Err(Error::format(path, expected, "another copy", "name one of them"));
            }
            found.insert(head.part, (path, head, scan));
        }
        let Some((_, head, _)) = found.values().next() else {
            let expected = "files named part-0001-of-0016.jsonl, or folders of them";
            return Err(Error::invalid("parts", expected, "none", "--shard writes them"));
        };
        let head = head.clone();
        let lacking = lacking(&head, &found);
        if !lacking.is_empty() {
            return Err(Error::invalid(
                "parts",
                format!("all {} of them, complete", head.of),
                lacking,
                "run the jobs of these parts again: each goes on where it stopped",
            ));
        }
        Ok(Parts { head, files: found.into_values().map(|(path, ..)| path).collect() })
    }

    /// Gives `each` every row of all parts, in order.
    ///
    /// # Errors
    /// If a row is not of that kind, there is not enough memory for it, or `each` fails.
    pub fn rows<T: DeserializeOwned>(&self, each: &mut dyn FnMut(T) -> Result<()>) -> Result<()> {
        let mut claim = Claim::default();
        for path in &self.files {
            let mut file = File::open(path).map_err(Error::io("read", path))?;
            let mut lines = Lines::of(path, &mut file)?;
            let head = lines.next()?.map(serde_json::from_slice::<Head>);
            let Some(Ok(head)) = head else { return Err(not_a_part(path)) };
            for number in 0..head.count {
                let Some(line) = lines.next()? else { return Err(not_a_part(path)) };
                claim.parse(line.len()).map_err(|over| over.of(path))?;
                let row = serde_json::from_slice(line).map_err(|e| {
                    let found = format!("another in row {}: {e}", number + 1);
                    Error::format(path, format!("rows of {}", head.command), found, "")
                })?;
                each(row)?;
            }
        }
        Ok(())
    }
}

/// What is missing, in words: `3, 7-9; 5 has 12 of 40 rows`.
fn lacking(head: &Head, found: &BTreeMap<usize, (PathBuf, Head, Scan)>) -> String {
    let absent: Vec<usize> = (1..=head.of).filter(|part| !found.contains_key(part)).collect();
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for part in absent {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == part => *last = part,
            _ => ranges.push((part, part)),
        }
    }
    let range = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let absent: Vec<String> = ranges.iter().map(range).collect();
    let mut words = Vec::new();
    if !absent.is_empty() {
        words.push(format!("without {}", absent.join(", ")));
    }
    let cut = found.values().filter(|(_, _, scan)| !scan.finished);
    words.extend(cut.map(|(_, head, scan)| {
        format!("part {} with {} of {} rows", head.part, scan.rows, head.count)
    }));
    words.join("; ")
}

/// The files of parts among these paths.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
            let entry = entry.map_err(Error::io("read", path))?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("part-") && name.ends_with(".jsonl") {
                inside.push(entry);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(part: usize) -> Head {
        let things = (part - 1) * 3..part * 3;
        Head::new("predict", (part, 4), things, 12, "s".into(), Value::Null)
    }

    fn write(folder: &Path, part: usize, rows: usize) {
        let mut part = Part::open(folder, &head(part)).unwrap();
        for _ in part.done()..rows {
            let row = format!("row {}", part.done());
            part.add(&row).unwrap();
        }
        if rows == 3 { part.finish().unwrap() } else { part.flush().unwrap() }
    }

    #[test]
    fn heads_whose_numbers_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part-0001-of-0001.jsonl");
        let refused = |(part, of): (usize, usize), (first, count): (usize, usize), total| {
            let things = first..first + count;
            let head = Head::new("predict", (part, of), things, total, "s".into(), Value::Null);
            let lines = [line(&path, &head).unwrap(), line(&path, &End { end: 0 }).unwrap()];
            fs::write(&path, lines.concat()).unwrap();
            Parts::find(std::slice::from_ref(&path)).is_err_and(|e| e.to_string().contains("fit"))
        };
        assert!(!refused((1, 1), (0, 0), 0));
        for (part, things, total) in [
            ((0, 0), (0, 0), 0),
            ((0, 1), (0, 0), 0),
            ((2, 1), (0, 0), 0),
            ((1, usize::MAX), (0, 0), 0),
            ((1, 1), (5, 0), 9),
            ((1, 2), (0, 9), 9),
            ((1, 1), (0, 0), usize::MAX),
        ] {
            assert!(refused(part, things, total), "{part:?} {things:?} {total}");
        }
    }

    #[test]
    fn a_part_of_another_number_in_the_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 2, 3);
        let one = Head::new("predict", (1, 1), 0..12, 12, "s".into(), Value::Null);
        let error = Part::open(folder.path(), &one).unwrap_err();
        assert!(error.to_string().contains("part-0002-of-0004.jsonl"), "{error}");
        fs::write(folder.path().join("part-of-it.jsonl"), "").unwrap();
        write(folder.path(), 1, 3);
    }

    #[test]
    fn a_part_cut_anywhere_goes_on_and_ends_as_if_it_had_not_been() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 2, 3);
        let path = folder.path().join("part-0002-of-0004.jsonl");
        let whole = fs::read(&path).unwrap();
        assert!(Part::open(folder.path(), &head(2)).unwrap().is_finished());
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            write(folder.path(), 2, 3);
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at {length}");
        }
        // What is no row is cut off too.
        fs::write(&path, [&whole[..whole.len() - 10], &[0; 8], b"\n"].concat()).unwrap();
        write(folder.path(), 2, 3);
        assert_eq!(fs::read(&path).unwrap(), whole);
        let mut part = Part::open(folder.path(), &head(2)).unwrap();
        assert!(part.add(&1).is_err());
    }

    #[test]
    fn other_work_and_other_files_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 1, 2);
        let other = Head { same: "t".into(), ..head(1) };
        let error = Part::open(folder.path(), &other).unwrap_err();
        assert!(error.to_string().contains("same images, model and settings"), "{error}");
        let path = folder.path().join("part-0003-of-0004.jsonl");
        for text in ["a diary", "a diary\nof mine\n"] {
            fs::write(&path, text).unwrap();
            assert!(Part::open(folder.path(), &head(3)).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let _held = Part::open(folder.path(), &head(4)).unwrap();
        let error = Part::open(folder.path(), &head(4)).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let values = [0.0f32, -0.0, 1.5, f32::MIN_POSITIVE / 8.0, f32::INFINITY];
        let text = serde_json::to_string(&Encoded::of(&values)).unwrap();
        let back: Encoded = serde_json::from_str(&text).unwrap();
        assert_eq!(back.values().unwrap().map_bits(), values.to_vec().map_bits());
        for bad in ["\"AAA\"", "\"AAAAAAA=\"", "\"?\""] {
            assert!(serde_json::from_str::<Encoded>(bad).unwrap().values().is_err(), "{bad}");
        }
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u32>;
    }

    impl Bits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|v| v.to_bits()).collect()
        }
    }

    #[test]
    fn what_is_missing_is_named_and_all_together_are_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let all = [folder.path().to_path_buf()];
        assert!(Parts::find(&all).unwrap_err().to_string().contains("part-0001"));
        write(folder.path(), 2, 1);
        let error = Parts::find(&all).unwrap_err().to_string();
        assert!(error.contains("without 1, 3-4; part 2 with 1 of 3 rows"), "{error}");
        for part in [4, 2, 1, 3] {
            write(folder.path(), part, 3);
        }
        let parts = Parts::find(&all).unwrap();
        let mut rows = Vec::new();
        let mut each = |row: String| {
            rows.push(row);
            Ok(())
        };
        parts.rows(&mut each).unwrap();
        assert_eq!(rows.len(), 12);
        assert!(parts.rows::<usize>(&mut |_| Ok(())).is_err());
        let twice = [all[0].clone(), all[0].join("part-0001-of-0004.jsonl")];
        assert!(Parts::find(&twice).unwrap_err().to_string().contains("each part once"));
        let foreign = folder.path().join("part-0009-of-0009.jsonl");
        fs::write(foreign, "{}\n").unwrap();
        assert!(Parts::find(&all).is_err());
    }
}
