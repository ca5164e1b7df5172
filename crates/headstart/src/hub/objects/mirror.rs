//! A copy in the cache of what is below a URL, brought up to date each time it is opened.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

use super::names;
use super::{LeftOut, Listing, Object, Wanted, registered, url_of};
use crate::atomic::write_bytes;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::hub::place::{Lock, cache_folder};
use crate::hub::{Event, POLL, Watch};
use crate::memory::read_settings;
use crate::text::visible;

/// How long what is left of an object that never arrived is kept.
const PARTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// The file or folder of the cache that is the same as what is below `url`: what is new or another there is fetched, and what is
/// no longer there removed, as `aws s3 sync --delete` does. Objects are compared by size and time.
///
/// One process at a time works on a bucket's copies. A file is there under its name only once it is complete; what arrived of a
/// large one before the program ended is not fetched again.
///
/// # Errors
/// If nothing speaks to buckets (see [`register`](super::register)), or it fails; if files cannot be written;
/// [`Error::Stopped`].
pub fn mirror(url: &str, watch: &mut Watch<'_>) -> Result<PathBuf> {
    let objects = registered(url)?;
    let root = cache_folder()?.join("objects");
    let place = Place::of(&root, url)?;
    let _lock = place.lock(watch)?;
    let server = objects.server(url)?;
    place.keep_for(&server)?;
    remove_old_parts(&place.parts);
    let mut listing = objects.list(url, watch)?;
    let mut left_out = std::mem::take(&mut listing.left_out);
    let files = names::files(&listing.objects, &mut left_out);
    tell_left_out(url, &left_out, watch)?;
    let folder = place.folder(&listing)?;
    let kept: Vec<(&Object, PathBuf)> =
        files.into_iter().map(|(object, path)| (object, folder.join(path))).collect();
    let Some((_, first)) = kept.first() else {
        let expected = "objects that can be files";
        return Err(Error::invalid(visible(url), expected, "none", ""));
    };
    let whole = if listing.single { first.clone() } else { folder.clone() };
    make_folder(&folder, &place.bucket)?;
    if !listing.single {
        let names: HashSet<&Path> = kept.iter().map(|(_, path)| path.as_path()).collect();
        remove_others(&folder, &names)?;
    }
    let wanted = place.wanted((&server, &listing.base), kept)?;
    if !wanted.is_empty() {
        let lost = objects.fetch(&listing.base, &wanted, watch)?;
        let (gone, lost): (Vec<_>, Vec<_>) =
            lost.into_iter().partition(|one| one.gone && !listing.single);
        let mut left_out = LeftOut::default();
        for one in &gone {
            let Wanted { object, path, .. } = &wanted[one.index];
            left_out.add(&object.name, &one.reason);
            // A copy of an earlier one.
            if path.symlink_metadata().is_ok() {
                fs::remove_file(path).map_err(Error::io("remove", path))?;
            }
        }
        tell_left_out(url, &left_out, watch)?;
        if let Some(first) = lost.first() {
            let name = url_of(&listing.base, &wanted[first.index].object.name);
            let reason = match lost.len() {
                1 => first.reason.clone(),
                n => format!("{} (and {} more)", first.reason, n - 1),
            };
            let hint = "run the command again: what has arrived is kept".to_string();
            return Err(Error::Download { file: name, url: visible(url).into(), reason, hint });
        }
    }
    match watch(&Event::Arrived { path: &whole }) {
        Control::Continue => Ok(whole),
        Control::Stop => Err(stopped()),
    }
}

pub(super) fn stopped() -> Error {
    Error::Stopped("what has arrived is kept; the same command goes on from there".into())
}

/// Tells what was left out because of its name, or because it is gone.
fn tell_left_out(url: &str, left_out: &LeftOut, watch: &mut Watch<'_>) -> Result<()> {
    let LeftOut { count, first } = left_out;
    if *count > 0 && watch(&Event::LeftOut { url, count: *count, first }) == Control::Stop {
        return Err(stopped());
    }
    Ok(())
}

/// Where the copies of a bucket are.
struct Place {
    /// For the whole bucket, or server.
    bucket: PathBuf,
    /// Its URL.
    url: String,
    scheme: PathBuf,
    parts: PathBuf,
}

impl Place {
    fn of(root: &Path, url: &str) -> Result<Place> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default();
        // One name each, whatever it is called.
        let short = match scheme {
            "s3a" => "s3",
            "azure" | "adl" | "abfs" | "abfss" => "az",
            other => other,
        };
        let folder = root.join(short);
        Ok(Place {
            bucket: folder.join(names::folder(authority)),
            url: format!("{scheme}://{authority}"),
            scheme: folder,
            parts: root.join(".parts"),
        })
    }

    /// Waits until no other process works on the bucket.
    fn lock(&self, watch: &mut Watch<'_>) -> Result<Lock> {
        fs::create_dir_all(&self.bucket).map_err(Error::io("create", &self.bucket))?;
        fs::create_dir_all(&self.parts).map_err(Error::io("create", &self.parts))?;
        let name = self.bucket.file_name().unwrap_or_default().to_string_lossy();
        loop {
            let taken = Lock::take(&self.scheme, &name).map_err(Error::io("lock", &self.bucket))?;
            if let Some(lock) = taken {
                return Ok(lock);
            }
            if watch(&Event::Waiting { file: &self.url }) == Control::Stop {
                return Err(stopped());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Removes copies of a bucket of the same name at another server or of another account.
    fn keep_for(&self, server: &str) -> Result<()> {
        let mut name = self.bucket.file_name().unwrap_or_default().to_os_string();
        name.push(".server");
        let file = self.scheme.join(name);
        let before = read_settings(&file, |text| text).unwrap_or_default();
        if before == server.as_bytes() {
            return Ok(());
        }
        // Whatever stops this, the copies are removed before the new server's name is there.
        fs::remove_dir_all(&self.bucket).map_err(Error::io("remove", &self.bucket))?;
        fs::create_dir_all(&self.bucket).map_err(Error::io("create", &self.bucket))?;
        write_bytes(&file, server.as_bytes())
    }

    /// The folder of the objects of a listing.
    fn folder(&self, listing: &Listing) -> Result<PathBuf> {
        let (_, rest) = listing.base.split_once("://").unwrap_or_default();
        let inside = rest.split_once('/').map_or("", |(_, inside)| inside).trim_matches('/');
        if inside.is_empty() {
            return Ok(self.bucket.clone());
        }
        let path = names::path(inside).map_err(|reason| {
            Error::invalid(visible(&listing.base), "the URL of a folder", reason, "")
        })?;
        Ok(self.bucket.join(path))
    }

    /// What is not there as it should be, with its folders made.
    fn wanted<'o>(
        &self,
        from: (&str, &str),
        kept: Vec<(&'o Object, PathBuf)>,
    ) -> Result<Vec<Wanted<'o>>> {
        let mut wanted = Vec::new();
        let mut made = HashSet::new();
        for (object, path) in kept {
            if is_there(object, &path) {
                continue;
            }
            if let Some(folder) = path.parent()
                && !made.contains(folder)
            {
                make_folder(folder, &self.bucket)?;
                made.insert(folder.to_path_buf());
            }
            if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
            }
            let part = self.parts.join(part_name(from, object));
            wanted.push(Wanted { object, path, part });
        }
        Ok(wanted)
    }
}

/// A name for the bytes of this version of an object of a server.
fn part_name((server, base): (&str, &str), object: &Object) -> String {
    let mut hash = Sha256::new();
    let modified = milliseconds(object.modified).to_string();
    let bytes = object.bytes.to_string();
    let tag = object.tag.as_deref().unwrap_or_default();
    // A tag is the content's own, wherever it is.
    let server = if tag.is_empty() { server } else { "" };
    for text in [server, base, &object.name, &bytes, &modified, tag] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

fn milliseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Whether the file is the object, by size and time; file systems that keep whole seconds only are believed, too.
fn is_there(object: &Object, path: &Path) -> bool {
    let Ok(meta) = path.symlink_metadata() else { return false };
    let Ok(time) = meta.modified() else { return false };
    // The server does not say when.
    if object.modified == UNIX_EPOCH {
        return false;
    }
    let (found, wanted) = (milliseconds(time), milliseconds(object.modified));
    let same_time = found == wanted || (found % 1000 == 0 && found == wanted / 1000 * 1000);
    meta.is_file() && meta.len() == object.bytes && same_time
}

/// Makes a folder below `bucket`; files in its way are of objects that are gone.
fn make_folder(folder: &Path, bucket: &Path) -> Result<()> {
    let mut above: Vec<&Path> = folder.ancestors().take_while(|a| *a != bucket).collect();
    above.push(bucket);
    for one in above.into_iter().rev() {
        match one.symlink_metadata() {
            Ok(meta) if meta.is_dir() => continue,
            Ok(_) => fs::remove_file(one).map_err(Error::io("remove", one))?,
            Err(_) => {}
        }
        fs::create_dir_all(one).map_err(Error::io("create", one))?;
    }
    Ok(())
}

/// Removes the files below a folder that are not among `names`, and folders that are then empty.
fn remove_others(folder: &Path, names: &HashSet<&Path>) -> Result<()> {
    let (mut open, mut folders) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(one) = open.pop() {
        for entry in fs::read_dir(&one).map_err(Error::io("list folder", &one))? {
            let path = entry.map_err(Error::io("list folder", &one))?.path();
            let is_folder = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            if is_folder {
                folders.push(path.clone());
                open.push(path);
            } else if !names.contains(path.as_path()) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    // Only empty folders can be removed so.
    folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    Ok(())
}

fn remove_old_parts(parts: &Path) {
    for entry in fs::read_dir(parts).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > PARTS) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_its_folder() {
        let root = Path::new("r");
        let place = |url: &str| Place::of(root, url).unwrap();
        let folder = |url: &str, base: &str| {
            place(url).folder(&Listing { base: base.into(), ..Listing::default() })
        };
        assert_eq!(folder("s3://b/p/q", "s3://b/p/q").unwrap(), Path::new("r/s3/b/p/q"));
        assert_eq!(folder("s3a://b", "s3a://b").unwrap(), Path::new("r/s3/b"));
        let web = "http://h:80/x";
        assert_eq!(folder(web, "http://h:80/x").unwrap(), Path::new("r/http/h%3A80/x"));
        assert_eq!(
            folder("https://H:443/x", "https://h/x").unwrap(),
            Path::new("r/https/%48%3A443/x")
        );
        assert!(folder("s3://b/../x", "s3://b/../x").is_err());
        assert!(folder("s3://b/a//x", "s3://b/a//x").is_err());
    }

    #[test]
    fn files_are_compared_by_size_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(ms);
        let object = |bytes, ms| Object { name: "a".into(), bytes, modified: at(ms), tag: None };
        let set = |ms| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at(ms)).unwrap();
        };
        set(1_700_000_000_123);
        assert!(is_there(&object(3, 1_700_000_000_123), &path));
        assert!(!is_there(&object(4, 1_700_000_000_123), &path));
        assert!(!is_there(&object(3, 1_700_000_000_124), &path));
        assert!(!is_there(&object(3, 1_700_000_000_123), folder.path()));
        set(1_700_000_000_000);
        assert!(is_there(&object(3, 1_700_000_000_123), &path));
        assert!(!is_there(&object(3, 1_700_000_001_123), &path));
    }

    #[test]
    fn parts_are_those_of_one_version() {
        let object = |tag: Option<&str>| Object {
            name: "a".into(),
            bytes: 1,
            modified: UNIX_EPOCH,
            tag: tag.map(Into::into),
        };
        let name = |base, tag| part_name(("", base), &object(tag));
        assert_eq!(name("s3://b", Some("x")), name("s3://b", Some("x")));
        assert_ne!(name("s3://b", Some("x")), name("s3://b", Some("y")));
        assert_ne!(name("s3://b", None), name("s3://c", None));
        assert_ne!(name("s3://b", None), part_name(("http://h", "s3://b"), &object(None)));
    }

    #[test]
    fn copies_are_those_of_one_server() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::of(root.path(), "s3://b/p").unwrap();
        let copy = root.path().join("s3/b/p/a.jpg");
        let write = || {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(&copy, "a").unwrap();
        };
        write();
        // Where no server was named before, it is that of the makers.
        place.keep_for("").unwrap();
        assert!(copy.exists());
        for server in ["http://h:1", "http://h:2", ""] {
            write();
            place.keep_for(server).unwrap();
            assert!(!copy.exists(), "{server}");
            write();
            place.keep_for(server).unwrap();
            assert!(copy.exists(), "{server}");
        }
    }

    #[test]
    fn what_is_gone_is_removed_and_what_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("b/x/y")).unwrap();
        for name in ["b/keep.jpg", "b/gone.jpg", "b/x/y/gone.jpg", "b/file", "outside"] {
            fs::write(path(name), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(path("outside"), path("b/link")).unwrap();
        let keep = path("b/keep.jpg");
        remove_others(&path("b"), &HashSet::from([keep.as_path()])).unwrap();
        assert!(keep.exists() && path("outside").exists() && !path("b/x").exists());
        assert_eq!(fs::read_dir(path("b")).unwrap().count(), 1);
        fs::write(path("b/file"), "").unwrap();
        make_folder(&path("b/file/z"), &path("b")).unwrap();
        assert!(path("b/file/z").is_dir());
    }
}
