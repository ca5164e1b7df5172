//! Files that are written completely or not at all.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("results.json");
//! headstart::atomic::write_bytes(&path, b"{}")?; // completely, or not at all
//! assert_eq!(std::fs::read(path)?, b"{}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Writes a file by way of a temporary one beside it: fill, fsync, rename. A link is followed, and what is no file, such as a
/// pipe or a device, is written to as it is. Temporary files of the same name that killed processes left are removed.
///
/// # Errors
/// If any step fails; the old file, if there was one, is then untouched and nothing is left behind.
pub fn write_atomic(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    match target(path.as_ref())? {
        Target::File(path) => Staged::new(&path, fill)?.put(),
        Target::Stream(path) => {
            let write = || -> std::io::Result<()> {
                // What is open already goes on at its end.
                let append = fs::metadata(&path)?.is_file();
                let file = File::options().write(true).append(append).open(&path)?;
                through(&mut BufWriter::new(file), fill)
            };
            write().map_err(Error::io("write", path))
        }
        Target::Standard(Descriptor::Out) => {
            let out = &mut BufWriter::new(std::io::stdout().lock());
            through(out, fill).map_err(Error::io("write", path.as_ref()))
        }
        Target::Standard(Descriptor::Err) => {
            let out = &mut BufWriter::new(std::io::stderr().lock());
            through(out, fill).map_err(Error::io("write", path.as_ref()))
        }
    }
}

fn through(
    out: &mut dyn Write,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    fill(out)?;
    out.flush()
}

/// What an output is written to.
#[derive(Debug, PartialEq)]
enum Target {
    /// A file, which is there or not yet, at the end of all links.
    File(PathBuf),
    /// A pipe, a device, or what this process has open.
    Stream(PathBuf),
    /// Standard output or error under a name such as `/dev/stdout`.
    Standard(Descriptor),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Descriptor {
    Out,
    Err,
}

/// What becomes of an output at `path`. This alone decides it, for every file that is written.
fn target(path: &Path) -> Result<Target> {
    /// As many links as Linux follows.
    const MOST: usize = 40;
    let refused =
        |found: &str, hint: &str| Err(Error::format(path, "a file to write", found, hint));
    let mut end = path.to_path_buf();
    for _ in 0..=MOST {
        if let Some(open) = descriptor(&end) {
            return Ok(match open {
                1 => Target::Standard(Descriptor::Out),
                2 => Target::Standard(Descriptor::Err),
                _ => Target::Stream(end),
            });
        }
        if let Ok(link) = fs::read_link(&end) {
            end = folder(&end).join(link);
            continue;
        }
        return match fs::metadata(&end) {
            Ok(meta) if meta.is_dir() => refused("a folder", "name a file in it"),
            Ok(meta) if !meta.is_file() => Ok(Target::Stream(end)),
            _ if names_a_folder(&end) => refused("the name of a folder", "name a file in it"),
            Ok(_) => Ok(Target::File(end)),
            Err(_) => match fs::metadata(folder(&end)) {
                Ok(meta) if meta.is_dir() => Ok(Target::File(end)),
                Ok(_) => refused(&format!("{}, which is a file", folder(&end).display()), ""),
                Err(_) => refused(
                    &format!("the folder {}, which is not there", folder(&end).display()),
                    "make it first, or check the spelling",
                ),
            },
        };
    }
    refused("links that lead in a circle", "")
}

/// Whether a path ends in a separator, or in nothing.
fn names_a_folder(path: &Path) -> bool {
    let ends = |c: char| path.as_os_str().as_encoded_bytes().ends_with(&[c as u8]);
    path.file_name().is_none() || ends('/') || ends(std::path::MAIN_SEPARATOR)
}

/// The number of the open file that a path of `/dev/fd` or `/proc/self/fd` means: its link leads to what that was opened from,
/// which may have no name any more.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let parent = fs::canonicalize(folder(path)).ok()?;
    let parts: Vec<_> = parent.iter().map(|part| part.to_string_lossy()).collect();
    match &parts[..] {
        [_, proc, process, fd] if proc == "proc" && fd == "fd" => {
            (process.parse() == Ok(std::process::id())).then_some(number)
        }
        _ => None,
    }
}

/// Fails if nothing can be written to `path`, before there is anything to write: a folder, a name in a folder that is not there
/// or not to be written to, links in a circle.
///
/// # Errors
/// As writing would fail.
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    match target(path.as_ref())? {
        Target::File(path) => {
            let trial = Staged { temporary: beside(&path), path };
            File::create_new(&trial.temporary).map(drop).map_err(Error::io("write", &trial.path))
        }
        Target::Stream(_) | Target::Standard(_) => Ok(()),
    }
}

/// Makes a folder for outputs, and those above it.
///
/// # Errors
/// If something else has its name, or that of one above it, or it cannot be made.
pub fn make_folder(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    for above in path.ancestors().filter(|above| !above.as_os_str().is_empty()) {
        let found = match (fs::metadata(above), fs::symlink_metadata(above)) {
            (Ok(meta), _) if meta.is_dir() => break,
            (Ok(meta), _) if meta.is_file() => "a file",
            (Ok(_), _) => "a pipe or a device",
            (Err(_), Ok(_)) => "a link to nothing",
            (Err(_), Err(_)) => continue,
        };
        let hint = "choose another name for the folder of outputs";
        return Err(Error::format(above, "a folder", found, hint));
    }
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Writes several files, each as [`write_atomic`] does, and no name changes before all are written. If one cannot get
/// its name then, those that had got theirs are taken back; old files come back where the file system has hard links.
///
/// # Errors
/// If any step fails; it names the file.
pub fn write_all(files: &[(&Path, &[u8])]) -> Result<()> {
    let stage = |(path, bytes): &(&Path, &[u8])| {
        let Target::File(path) = target(path)? else {
            return Err(Error::format(*path, "a file to write", "a pipe or a device", ""));
        };
        Staged::new(&path, |file| file.write_all(bytes))
    };
    let staged = files.iter().map(stage).collect::<Result<Vec<Staged>>>()?;
    let mut placed: Vec<Replaced> = Vec::new();
    for one in staged {
        let replaced = Replaced::of(&one.path);
        if let Err(error) = one.put() {
            replaced.forget();
            placed.into_iter().rev().for_each(Replaced::undo);
            return Err(error);
        }
        placed.push(replaced);
    }
    placed.into_iter().for_each(Replaced::forget);
    Ok(())
}

/// A name beside `path` that no other file has. A process that was killed may have had this one's number, as the first
/// process of every container does.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let free = folder(path).join(format!(".{name}.{}-{count}", std::process::id()));
        if free.symlink_metadata().is_err() {
            return free;
        }
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// A file that is written and synced under a temporary name, which goes away unless the file gets its own.
struct Staged {
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn new(
        path: &Path,
        fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<Staged> {
        remove_dead(path);
        let staged = Staged { temporary: beside(path), path: path.to_path_buf() };
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&staged.temporary)?);
            fill(&mut file)?;
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(Error::io("write", path))?;
        Ok(staged)
    }

    fn put(self) -> Result<()> {
        fs::rename(&self.temporary, &self.path).map_err(Error::io("write", &self.path))?;
        sync_folder(&folder(&self.path));
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is gone where it was renamed.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// What had a name before another file got it.
struct Replaced {
    path: PathBuf,
    /// Whether there was a file.
    existed: bool,
    /// A second name of the old file.
    old: Option<PathBuf>,
}

impl Replaced {
    fn of(path: &Path) -> Replaced {
        let existed = path.symlink_metadata().is_ok();
        let old = beside(path);
        let old = (existed && fs::hard_link(path, &old).is_ok()).then_some(old);
        Replaced { path: path.to_path_buf(), existed, old }
    }

    fn undo(self) {
        let _ = match (&self.old, self.existed) {
            (Some(old), _) => fs::rename(old, &self.path),
            (None, false) => fs::remove_file(&self.path),
            (None, true) => Ok(()),
        };
    }

    fn forget(self) {
        let _ = self.old.map(fs::remove_file);
    }
}

/// Syncs `folder`, so that a rename in it survives a crash; not every system allows it.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// The process that wrote a temporary file of that name, and the name of the file that it was to be.
fn temporary(name: &str) -> Option<(&str, u32)> {
    let (own, end) = name.strip_prefix('.')?.rsplit_once('.')?;
    let (process, count) = end.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(process) && digits(count)).then(|| Some((own, process.parse().ok()?)))?
}

/// Removes temporary files of `path` whose processes are gone, as far as the system says so.
fn remove_dead(path: &Path) {
    let Some(own) = path.file_name().map(|name| name.to_string_lossy()) else { return };
    if !Path::new("/proc/self").exists() {
        return;
    }
    for entry in fs::read_dir(folder(path)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let dead = temporary(&name).is_some_and(|(of, process)| {
            of == own && !Path::new("/proc").join(process.to_string()).exists()
        });
        if dead {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes the temporary files in `folder` that processes left there when they were killed. Call it only
/// where no other process writes.
///
/// # Errors
/// If the folder cannot be listed or a file not removed.
pub fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if temporary(&name).is_some() && path.is_file() {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// [`write_atomic`] of bytes.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_bytes(&path, b"old").unwrap();
        let failure = write_atomic(&path, |file| {
            file.write_all(b"new")?;
            Err(std::io::Error::other("full"))
        });
        assert!(failure.unwrap_err().to_string().contains("cannot write"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_several_files_all_are_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let (a, b, c) = (path("a"), path("b"), path("c"));
        write_bytes(&a, b"old").unwrap();
        write_all(&[(&a, b"1"), (&b, b"2")]).unwrap();
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"1".to_vec(), b"2".to_vec()));
        // No folder; a folder has the name.
        fs::create_dir(path("d")).unwrap();
        for bad in [path("gone/x"), path("d")] {
            let error = write_all(&[(&a, b"3"), (&c, b"4"), (&bad, b"5")]).unwrap_err();
            assert!(error.to_string().contains(&*bad.to_string_lossy()), "{error}");
            assert_eq!(fs::read(&a).unwrap(), b"1");
            assert_eq!(names(), ["a", "b", "d"]);
        }
    }

    #[test]
    fn leftovers_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".last.safetensors.123-4", ".hidden", "a.1-2", ".a.b-c", ".x.12-"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_leftovers(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".a.b-c", ".hidden", ".x.12-", "a.1-2"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_what_is_no_file_is_not_replaced() {
        use std::os::unix::fs::{FileTypeExt, symlink};

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_bytes(path("real"), b"old").unwrap();
        symlink("real", path("link")).unwrap();
        symlink("later", path("ahead")).unwrap();
        write_bytes(path("link"), b"new").unwrap();
        write_bytes(path("ahead"), b"1").unwrap();
        for (link, file, bytes) in
            [("link", "real", b"new".to_vec()), ("ahead", "later", b"1".to_vec())]
        {
            assert!(path(link).symlink_metadata().unwrap().is_symlink());
            assert_eq!(fs::read(path(file)).unwrap(), bytes);
        }
        symlink("b", path("a")).unwrap();
        symlink("a", path("b")).unwrap();
        assert!(write_bytes(path("a"), b"").is_err());
        write_bytes("/dev/null", b"gone").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let null = Path::new("/dev/null");
        assert!(write_all(&[(null, b"1"), (&path("c"), b"2")]).is_err() && !path("c").exists());
        // Links to what is open already lead to it, and not to its name.
        let mut open = File::create(path("open")).unwrap();
        open.write_all(b"1").unwrap();
        let name = {
            use std::os::fd::AsRawFd;
            format!("/dev/fd/{}", open.as_raw_fd())
        };
        if Path::new("/proc/self/fd").exists() {
            write_bytes(&name, b"2").unwrap();
            open.write_all(b"").unwrap();
            assert_eq!(fs::read(path("open")).unwrap(), b"12");
            assert_eq!(
                target(Path::new("/dev/stdout")).unwrap(),
                Target::Standard(Descriptor::Out)
            );
            assert_eq!(
                target(Path::new("/dev/stderr")).unwrap(),
                Target::Standard(Descriptor::Err)
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_written_is_refused_before_the_work_and_by_the_work() {
        use std::os::unix::fs::symlink;

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("file"), "old").unwrap();
        symlink("folder", path("to-folder")).unwrap();
        symlink("gone/x", path("to-gone")).unwrap();
        symlink("b", path("a")).unwrap();
        symlink("a", path("b")).unwrap();
        for (name, part) in [
            ("folder", "a folder"),
            ("folder/", "a folder"),
            ("folder/..", "a folder"),
            ("to-folder", "a folder"),
            ("file/x", "which is a file"),
            ("gone/x", "which is not there"),
            ("new/", "the name of a folder"),
            ("to-gone", "which is not there"),
            ("a", "in a circle"),
        ] {
            let early = check(path(name)).unwrap_err().to_string();
            assert!(early.contains(part) && early.contains(name), "{name}: {early}");
            assert_eq!(write_bytes(path(name), b"new").unwrap_err().to_string(), early);
        }
        check(path("new")).unwrap();
        check(path("file")).unwrap();
        assert!(
            fs::read(path("file")).unwrap() == b"old"
                && fs::read_dir(path("folder")).unwrap().count() == 0
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
        for (name, part) in
            [("file", "a file"), ("file/x/y", "a file"), ("to-gone", "a link to nothing")]
        {
            let error = make_folder(path(name)).unwrap_err().to_string();
            assert!(error.contains("expected a folder") && error.contains(part), "{name}: {error}");
        }
        make_folder(path("to-folder/x/y")).unwrap();
        assert!(path("folder/x/y").is_dir());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_dead_processes_left_goes_at_the_next_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // More than the writes of all tests, so that the next number is taken whatever they did.
        let own = (0..1000).map(|n| format!(".x.onnx.{}-{n}", std::process::id()));
        let others = [".y.onnx.999999999-0", ".x.onnx.notes"].map(String::from);
        let kept: Vec<String> = own.chain(others).collect();
        for name in kept.iter().map(String::as_str).chain([".x.onnx.999999999-0"]) {
            fs::write(path(name), "").unwrap();
        }
        write_bytes(path("x.onnx"), b"1").unwrap();
        assert!(!path(".x.onnx.999999999-0").exists());
        for name in kept.iter().map(String::as_str).chain(["x.onnx"]) {
            assert!(path(name).exists(), "{name}");
        }
    }
}
