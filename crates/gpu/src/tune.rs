//! Tiles of matrix products, chosen by the clock: at its first use a product of a plan's shape runs in every tile, on memory of
//! its own, and the fastest is taken of those whose results are, bit by bit, those of the plainest tile. So the choice never
//! changes a result. What was found can be kept for the next time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::error::Result;
use crate::kernels::check::{differ, noise};
use crate::kernels::conv::{OUTPUT, in_tile, tile_of};
use crate::kernels::tile::TILES;
use crate::memory::{Space, Span};
use crate::program::{Call, Program};

/// Which tile a product runs in, by its kind and sizes.
pub type Tiles = BTreeMap<String, usize>;
/// Gets what was found, to keep it.
pub type Keep = Box<dyn Fn(&Tiles) + Send + Sync>;

/// How long a tile is timed, once it is compiled.
const TIMED: Duration = Duration::from_millis(4);
/// Runs of a tile at most in this time, and how often it is timed.
const RUNS: f64 = 50.0;
const TIMES: usize = 3;
/// Part of the usual tile's time below which another is taken.
const FASTER: f64 = 0.97;
/// After this long in all, further products run in their usual tiles.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of tiles.
#[derive(Default)]
pub(crate) struct Tuning(Mutex<Option<Known>>);

struct Known {
    tiles: Tiles,
    spent: Duration,
    keep: Keep,
}

impl fmt::Debug for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tuning")
    }
}

impl Context {
    /// Chooses tiles by the clock from now on. `tiles` were found before; `keep` gets what is found, with these.
    pub fn tune(&self, tiles: Tiles, keep: Keep) {
        let known = Known { tiles, spent: Duration::ZERO, keep };
        *self.tuning.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// `calls`, of which matrix products run in the tiles that are fastest here, where [`Context::tune`] was called; their
    /// results are the same.
    ///
    /// # Errors
    /// If the driver refuses a kernel, or the device failed.
    pub fn tuned(&self, mut calls: Vec<Call>) -> Result<Vec<Call>> {
        let mut known = self.tuning.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &mut *known else { return Ok(calls) };
        let mut found = false;
        for call in &mut calls {
            let Some(usual) = tile_of(call) else { continue };
            let name = name(call);
            let tile = match known.tiles.get(&name) {
                Some(&tile) => tile,
                None if known.spent >= PATIENCE => usual,
                None => {
                    let start = Instant::now();
                    let tile = self.fastest(call, usual)?;
                    known.spent += start.elapsed();
                    // Without memory to try it in, it is tried the next time.
                    if let Some(tile) = tile {
                        known.tiles.insert(name, tile);
                        found = true;
                    }
                    tile.unwrap_or(usual)
                }
            };
            if let Some(tile) = TILES.get(tile) {
                *call = in_tile(call, *tile);
            }
        }
        if found {
            (known.keep)(&known.tiles);
        }
        Ok(calls)
    }

    /// The number of the fastest tile for a product; `None` where there is no memory to try it.
    fn fastest(&self, call: &Call, usual: usize) -> Result<Option<usize>> {
        let Some((call, expected)) = self.apart(call) else { return Ok(None) };
        let Some((_, output)) = call.bindings.iter().find(|(binding, _)| *binding == OUTPUT) else {
            return Ok(None);
        };
        let Ok(count) = Space::new(self, 4).and_then(|space| space.span(0, 4)) else {
            return Ok(None);
        };
        let words = |span: &Span| span.bytes as usize / 4;
        let inputs = call.bindings.iter().filter(|(binding, _)| *binding != OUTPUT);
        let mut first: Vec<Call> = inputs.map(|(i, span)| noise(words(span), *i, span)).collect();
        // What a kernel adds to is the same each time.
        first.push(noise(words(output), 0, output));
        let mut compared = vec![noise(words(output), 0, &expected)];
        compared.push(redirected(&in_tile(&call, TILES[0]), &expected));
        first.extend(compared);
        Program::new(self, &first)?.run(self)?;
        let mut times = Vec::new();
        for (i, tile) in TILES.into_iter().enumerate() {
            let tried = in_tile(&call, tile);
            self.write(&count, &[0; 4])?;
            let same = [
                noise(words(output), 0, output),
                tried.clone(),
                differ(words(output), output, &expected, &count),
            ];
            // A tile that the driver refuses is none for it.
            let Ok(program) = Program::new(self, &same) else { continue };
            program.run(self)?;
            let mut differing = Vec::new();
            self.read(&[(count.clone(), 1)], &mut differing)?;
            if differing == [0] {
                times.push((i, self.time(&tried)?));
            }
        }
        let least = times.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        let of_usual = times.iter().find(|(i, _)| *i == usual).map(|(_, time)| *time);
        Ok(Some(match (least, of_usual) {
            (Some((_, least)), Some(time)) if least >= FASTER * time => usual,
            (Some((fastest, _)), _) => fastest,
            (None, _) => 0,
        }))
    }

    /// The same call on memory of its own, and room for another result.
    fn apart(&self, call: &Call) -> Option<(Call, Span)> {
        let room = |bytes| Space::new(self, bytes).and_then(|space| space.span(0, bytes)).ok();
        let mut expected = None;
        let mut bindings = Vec::new();
        for (binding, span) in &call.bindings {
            bindings.push((*binding, room(span.bytes)?));
            if *binding == OUTPUT {
                expected = Some(room(span.bytes)?);
            }
        }
        Some((Call { bindings, ..call.clone() }, expected?))
    }

    /// Seconds of one run.
    fn time(&self, call: &Call) -> Result<f64> {
        let run = |count: usize| -> Result<f64> {
            let program = Program::new(self, &vec![call.clone(); count])?;
            self.wait()?;
            let start = Instant::now();
            program.run(self)?;
            self.wait()?;
            Ok(start.elapsed().as_secs_f64() / count as f64)
        };
        run(1)?;
        let once = run(1)?;
        let count = (TIMED.as_secs_f64() / once.max(1e-9)).clamp(1.0, RUNS) as usize;
        let mut least = once;
        for _ in 0..TIMES {
            least = least.min(run(count)?);
        }
        Ok(least)
    }
}

/// The same call with another output.
fn redirected(call: &Call, to: &Span) -> Call {
    let mut call = call.clone();
    for (binding, span) in &mut call.bindings {
        if *binding == OUTPUT {
            *span = to.clone();
        }
    }
    call
}

/// A product's kind and sizes, without its tile.
fn name(call: &Call) -> String {
    let plain = in_tile(call, TILES[0]);
    let numbers = plain.parameters.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let settings = plain.kernel.settings.iter();
    let settings = settings.map(|(name, value)| format!("{name}{value}")).collect::<String>();
    format!("{} {settings} {numbers}", plain.kernel.name)
}
