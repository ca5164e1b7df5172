//! `headstart serve`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use headstart::Error;
use headstart::source::ModelSource;
use headstart_server::{Limits, Named, Options, check_name, serve};

use super::{cache, device, hub, settled};
use crate::args::Serve;
use crate::failure::Failure;
use crate::output::note;
use crate::{interrupt, output};

/// Longest file with a token.
const TOKEN: u64 = 4096;

/// Answers requests until a signal ends the program. That is how it ends, and no failure.
pub fn run(args: &Serve) -> Result<(), Failure> {
    let token = args.token_file.as_deref().map(token).transpose()?;
    let mut device = device(args.threads, args.precision.into(), args.device)?;
    let mut models = Vec::new();
    for text in &args.models {
        let (name, model) = named(text)?;
        let source = ModelSource::new(model, None).map_err(Failure::Usage)?;
        let (model, _) = hub::watched(|watch| source.open(watch))?;
        models.push(Named { name, model, source });
    }
    // The first model is the one that is meant where none is named.
    if let Some(Named { model, .. }) = models.first() {
        let asked = (args.device, args.precision.into());
        device = settled(device, asked, model, args.max_batch)?;
    }
    let seconds = Duration::from_secs(args.timeout);
    let limits = Limits {
        batch: args.max_batch,
        delay: Duration::from_millis(args.max_delay),
        queue: args.queue,
        body: (args.max_body << 20) as usize,
        pixels: args.max_pixels * 1_000_000,
        timeout: seconds,
        connections: args.max_connections,
        ..Limits::default()
    };
    let models_there = !models.is_empty();
    let names: Vec<String> = models.iter().map(|named| named.name.clone()).collect();
    let options = Options {
        data: args.data.clone().map(|data| (data, cache::settings(&args.cache))),
        runs: args.runs.clone(),
        photos: args.photos.clone(),
        cache: cache::disk(&args.cache),
        host: args.host.clone(),
        port: args.port,
        allow_hosts: args.allow_host.clone(),
        token,
        threshold: args.threshold,
        limits,
        ..Options::new(models, device)
    };
    interrupt::watch();
    let mut written = Ok(());
    let served = serve(
        options,
        &mut |ready| {
            let names = if names.is_empty() { "no model yet".into() } else { names.join(", ") };
            written = output::line(format!("{}: {names}", ready.url()));
            if args.open {
                show(&ready.url(), models_there);
            }
        },
        &mut interrupt::control,
    )?;
    written?;
    let cut = match served.cut {
        0 => String::new(),
        n => format!("; {n} connections were cut"),
    };
    note!("{} requests, {} images{cut}", served.requests, served.images);
    Ok(())
}

/// Opens the page in the browser; without one the server goes on.
fn show(url: &str, models: bool) {
    let url = if models { url.to_string() } else { format!("{url}/begin") };
    if let Err(error) = open::that_detached(&url) {
        note!("the browser cannot be opened: {error}; open {url} yourself");
    }
}

/// The name that requests use, and the model: that of its file or folder where none is given.
fn named(text: &str) -> Result<(String, &str), Failure> {
    if let Some((name, model)) = text.split_once('=')
        && !Path::new(text).exists()
    {
        check_name(name).map_err(Failure::Usage)?;
        return Ok((name.to_string(), model));
    }
    let path = Path::new(text);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = name.map_or(text.into(), |name| name.to_string_lossy());
    check_name(&name).map_err(Failure::Usage)?;
    Ok((name.into_owned(), text))
}

/// The token of a file or pipe: its text without the space around it.
fn token(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    let read = file.take(TOKEN + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
    if read as u64 > TOKEN {
        let expected = format!("a token, at most {TOKEN} bytes");
        return Err(Error::format(path, expected, "a longer file", "").into());
    }
    Ok(text.trim().to_string())
}
