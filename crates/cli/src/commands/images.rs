//! The images of a command line: files, folders of them, and URLs of objects, which are fetched a block at a time.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use headstart::classify::{Answer, ClassifyOptions, classify};
use headstart::dataset::{ImageFiles, Skipped, is_image_file};
use headstart::hub::objects::{self, Block, Blocks, Object, url_of};
use headstart::image::Views;
use headstart::inference::Control;
use headstart::text::of_path;
use headstart::{Device, Error, Model};

use super::hub;
use crate::failure::Failure;
use crate::output::note;
use crate::{interrupt, show};

/// Objects that are fetched while as many are classified.
const BLOCK: usize = 512;

/// Images in order.
pub struct Images {
    groups: Vec<Group>,
    count: usize,
}

enum Group {
    Files(Vec<PathBuf>),
    Objects {
        /// The URL that their names follow.
        base: String,
        objects: Vec<Object>,
    },
}

impl Group {
    fn len(&self) -> usize {
        match self {
            Group::Files(files) => files.len(),
            Group::Objects { objects, .. } => objects.len(),
        }
    }

    fn files(&self) -> &[PathBuf] {
        match self {
            Group::Files(files) => files,
            Group::Objects { .. } => &[],
        }
    }
}

/// What an image comes to: probabilities, or why it cannot be read.
pub type Told<'a> = Result<&'a [f32], &'a str>;

/// A value after `--tta` and a blank is taken for an image.
fn meant_for_tta(argument: &Path) -> Result<(), Failure> {
    let views = argument.to_str().filter(|text| text.parse::<Views>().is_ok());
    match views.filter(|_| !argument.exists()) {
        Some(views) => {
            let hint = format!("as the value of --tta it follows an equals sign: --tta={views}");
            let expected = "an image, or a folder of images";
            Err(Error::invalid(views, expected, "no such file", hint).into())
        }
        None => Ok(()),
    }
}

impl Images {
    /// All images of the arguments: folders give the image files below them, URLs the objects that are named as images.
    pub fn of(arguments: &[PathBuf]) -> Result<Images, Failure> {
        let mut images = Images { groups: Vec::new(), count: 0 };
        for argument in arguments {
            match argument.to_str().filter(|text| objects::is_url(text)) {
                Some(url) => images.add(objects_of(url)?),
                None => {
                    meant_for_tta(argument)?;
                    images.add(Group::Files(files_of(argument)?));
                }
            }
        }
        images.check()?;
        Ok(images)
    }

    fn add(&mut self, group: Group) {
        self.count += group.len();
        match (self.groups.last_mut(), group) {
            (Some(Group::Files(all)), Group::Files(more)) => all.extend(more),
            (_, group) => self.groups.push(group),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The files among them.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().flat_map(Group::files).map(PathBuf::as_path)
    }

    /// What an image is called: a path, or a URL.
    pub fn name(&self, mut i: usize) -> String {
        for group in &self.groups {
            match group {
                Group::Files(files) if i < files.len() => return of_path(&files[i]),
                Group::Objects { base, objects } if i < objects.len() => {
                    return url_of(base, &objects[i].name);
                }
                _ => i -= group.len(),
            }
        }
        String::new()
    }

    /// How many files are not there.
    pub fn gone(&self) -> usize {
        self.files().filter(|file| is_gone(file)).count()
    }

    fn check(&self) -> Result<(), Failure> {
        let first = self.files().next().filter(|_| self.gone() == self.count);
        if let Some(first) = first {
            let found = match self.count {
                1 => "no such file".to_string(),
                n => format!("no such file, as for {} more", n - 1),
            };
            let folder = first.parent().filter(|f| !f.as_os_str().is_empty() && !f.exists());
            let hint = match folder {
                Some(folder) => format!("the folder {} does not exist either", of_path(folder)),
                None => "check the spelling, and the folder that you are in".to_string(),
            };
            let expected = "an image, or a folder of images";
            return Err(Error::invalid(of_path(first), expected, found, hint).into());
        }
        if self.count == 0 {
            let found = "folders without any";
            let expected = format!("files of {}", headstart::image::FORMATS);
            return Err(Error::invalid("images", expected, found, "").into());
        }
        Ok(())
    }

    /// Classifies the images of a range; `on_answer` gets the place of each among all, in order, and says whether to go on.
    /// Returns whether it was stopped while objects were fetched.
    pub fn classify(
        &self,
        range: Range<usize>,
        model: &Model,
        device: &Device,
        options: ClassifyOptions,
        on_answer: &mut dyn FnMut(usize, Told<'_>) -> Result<Control, Failure>,
    ) -> Result<Control, Failure> {
        let (mut before, mut last) = (0, Control::Continue);
        for group in &self.groups {
            let within = |at: usize| at.clamp(before, before + group.len()) - before;
            let own = within(range.start)..within(range.end);
            let first = before + own.start;
            before += group.len();
            if own.is_empty() {
                continue;
            }
            let mut tell = |i: usize, told: Told<'_>| {
                last = on_answer(first + i, told)?;
                Ok(last)
            };
            match group {
                Group::Files(files) => {
                    classify(model, &files[own], device, options, &mut |i, answer: Answer<'_>| {
                        match answer {
                            Ok(p) => tell(i, Ok(p)),
                            Err(error) => tell(i, Err(&error.to_string())),
                        }
                    })?;
                }
                Group::Objects { base, objects } => {
                    let fetched =
                        fetched(base, &objects[own], With { model, device, options }, &mut tell)?;
                    if fetched == Control::Stop {
                        last = Control::Stop;
                    }
                }
            }
            if last == Control::Stop {
                break;
            }
        }
        Ok(last)
    }
}

/// What images are classified with.
#[derive(Clone, Copy)]
struct With<'w> {
    model: &'w Model,
    device: &'w Device,
    options: ClassifyOptions,
}

/// Classifies objects block by block, of which the next is fetched meanwhile.
fn fetched(
    base: &str,
    objects: &[Object],
    with: With<'_>,
    tell: &mut dyn FnMut(usize, Told<'_>) -> Result<Control, Failure>,
) -> Result<Control, Failure> {
    let blocks = Blocks::new()?;
    let stopped = AtomicBool::new(false);
    // The next block waits there, complete, and no further one is fetched until it is taken.
    let (sender, receiver) = sync_channel(0);
    thread::scope(|scope| {
        let (blocks, stopped) = (&blocks, &stopped);
        let fetching = move || fetch(blocks, base, objects, stopped, &sender);
        let started = thread::Builder::new().spawn_scoped(scope, fetching);
        started.map_err(|e| Error::threads(1, e))?;
        let done = take(base, objects, &receiver, with, tell);
        // However this ends, the thread must end too.
        stopped.store(true, Ordering::Relaxed);
        drop(receiver);
        done
    })
}

fn fetch(
    blocks: &Blocks,
    base: &str,
    objects: &[Object],
    stopped: &AtomicBool,
    sender: &SyncSender<Result<Block, Error>>,
) {
    for some in objects.chunks(BLOCK) {
        let block = blocks.fetch(base, some, &mut |_| match stopped.load(Ordering::Relaxed) {
            true => Control::Stop,
            false => interrupt::control(),
        });
        let failed = block.is_err();
        // Sending fails once nobody waits any more.
        if sender.send(block).is_err() || failed {
            return;
        }
    }
}

/// Classifies block after block, until `tell` says to stop.
fn take(
    base: &str,
    objects: &[Object],
    receiver: &Receiver<Result<Block, Error>>,
    with: With<'_>,
    tell: &mut dyn FnMut(usize, Told<'_>) -> Result<Control, Failure>,
) -> Result<Control, Failure> {
    for (n, some) in objects.chunks(BLOCK).enumerate() {
        let fetched = match receiver.recv() {
            Ok(Ok(block)) => block,
            Ok(Err(Error::Stopped(_))) | Err(_) => return Ok(Control::Stop),
            Ok(Err(error)) => return Err(error.into()),
        };
        let names: Vec<String> = some.iter().map(|object| url_of(base, &object.name)).collect();
        if block(n * BLOCK, (&fetched, &names), with, tell)? == Control::Stop {
            return Ok(Control::Stop);
        }
    }
    Ok(Control::Continue)
}

/// Classifies the files of a block, and tells what they come to under their URLs, in order.
fn block(
    first: usize,
    (block, names): (&Block, &[String]),
    With { model, device, options }: With<'_>,
    tell: &mut dyn FnMut(usize, Told<'_>) -> Result<Control, Failure>,
) -> Result<Control, Failure> {
    let lost = |i: usize| match &block.files[i] {
        Ok(_) => None,
        Err(reason) => Some(format!("{}: {reason}", names[i])),
    };
    let there: Vec<usize> = (0..names.len()).filter(|&i| block.files[i].is_ok()).collect();
    let files: Vec<PathBuf> = block.files.iter().flatten().cloned().collect();
    let (mut next, mut last) = (0, Control::Continue);
    if !files.is_empty() {
        classify(model, &files, device, options, &mut |at, answer: Answer<'_>| {
            let i = there[at];
            while next < i && last == Control::Continue {
                last = tell(first + next, Err(&lost(next).unwrap_or_default()))?;
                next += 1;
            }
            if last == Control::Continue {
                last = match answer {
                    Ok(p) => tell(first + i, Ok(p))?,
                    Err(error) => {
                        let text = error.to_string().replace(&of_path(&files[at]), &names[i]);
                        tell(first + i, Err(&text))?
                    }
                };
                next = i + 1;
            }
            Ok::<_, Failure>(last)
        })?;
    }
    while next < names.len() && last == Control::Continue {
        last = tell(first + next, Err(&lost(next).unwrap_or_default()))?;
        next += 1;
    }
    Ok(last)
}

/// Whether there is nothing at the path.
fn is_gone(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let found = ImageFiles::below(path)?;
    let below = |Skipped { name, reason }| {
        let name = Path::new(&of_path(path)).join(name).display().to_string();
        Skipped { name, reason }
    };
    show::skipped(&found.skipped.into_iter().map(below).collect::<Vec<_>>());
    Ok(found.files)
}

fn objects_of(url: &str) -> Result<Group, Failure> {
    let listing = hub::watched(|watch| objects::list(url, watch))?;
    let (left_out, mut objects) = (listing.left_out, listing.objects);
    if left_out.count > 0 {
        let s = if left_out.count == 1 { "" } else { "s" };
        note!("left out {} object{s} below {url}, such as {}", left_out.count, left_out.first);
    }
    if !listing.single {
        let all = objects.len();
        objects.retain(|object| is_image_file(&object.name));
        let others = all - objects.len();
        if others > 0 {
            note!("{url}: {others} of {all} objects are not named as images");
        }
    }
    Ok(Group::Objects { base: listing.base, objects })
}
