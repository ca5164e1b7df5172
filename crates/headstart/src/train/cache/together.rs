//! One pass over images by several processes: each computes a part of the features that any of them lacks, and all get all.

use std::ops::Range;
use std::time::Instant;

use headstart_kernels::element::Values;

use super::element::{Tensors, decode};
use super::fill::{DESCRIBE, Pass};
use super::store::Store;
use super::{Emit, Frozen};
use crate::data::batches::{Loader, LoaderOptions};
use crate::error::{Error, Result};
use crate::net::model::Model;
use crate::train::collective::share;

/// Most bytes of rows that a process gets at once.
const AT_ONCE: usize = 256 << 20;

impl Frozen {
    /// Gives the sink the features of the images at `missing`, which this process lacks, and adds them and what others lack to
    /// the store, if it is this process's to write.
    pub(super) fn compute_together(
        &mut self,
        model: &Model,
        pass: &mut Pass<'_>,
        missing: &[usize],
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let wanted = of_any(pass, missing)?;
        if wanted.is_empty() {
            return Ok(());
        }
        self.make_room(pass, wanted.len(), emit)?;
        let stores = pass.store.as_ref().is_some_and(Store::is_locked);
        let means = self.send_means(pass, stores)? || pass.wanted.means;
        let Some(among) = &pass.wanted.among else { return Ok(()) };
        let (rank, size) = (among.rank(), among.size());
        self.begin(model, pass, &wanted, emit)?;
        let (before, start) = (pass.about.seconds, Instant::now());
        let mut described = start;
        let lacks = positions(missing, pass.wanted.subset.len());
        let own = share(wanted.len(), rank, size);
        pass.progress.total = own.len();
        let options = LoaderOptions::new(self.batch, model.target());
        let mut loader = Loader::new(pass.wanted.subset, wanted[own].to_vec(), options)?;
        let rounds = wanted.len().div_ceil(size).div_ceil(self.batch);
        for round in 0..rounds {
            let mut rows = Vec::new();
            if let Some(batch) = loader.next() {
                let batch = batch?;
                self.run_with(model, means, &batch.images, batch.count)?;
                self.encode(batch.count, &mut rows);
                pass.progress.add(batch.count, emit)?;
                pass.about.computed = pass.about.computed.saturating_add(batch.count);
                loader.recycle(batch);
            }
            let shares: Vec<&[usize]> = (0..size)
                .map(|rank| {
                    let of_rank = &wanted[share(wanted.len(), rank, size)];
                    &of_rank[part(of_rank.len(), round, self.batch)]
                })
                .collect();
            self.exchange(pass, (&shares, &rows), means, &lacks, emit)?;
            pass.about.seconds = before + start.elapsed().as_secs_f64();
            if described.elapsed() > DESCRIBE {
                described = Instant::now();
                pass.describe(emit)?;
            }
        }
        pass.about.building = None;
        pass.describe(emit)?;
        // What others wrote is read from where they wrote it.
        if let Some(among) = &mut pass.wanted.among {
            among.barrier()?;
        }
        if !pass.store.as_ref().is_some_and(Store::is_locked) {
            pass.store = self.reading();
        }
        Ok(())
    }

    /// Whether rows have the means of stages too: any process stores rows, and all know these layers.
    fn send_means(&self, pass: &mut Pass<'_>, stores: bool) -> Result<bool> {
        let Some(among) = &mut pass.wanted.among else { return Ok(stores) };
        let all = among.gather(&[u8::from(stores), u8::from(!self.stages.is_empty())])?;
        let is = |at: usize| move |bytes: &Vec<u8>| bytes.get(at) == Some(&1);
        Ok(all.iter().any(is(0)) && all.iter().all(is(1)))
    }

    /// Sends this process's rows of a round to all; `shares` are the positions of the images of every process.
    fn exchange(
        &self,
        pass: &mut Pass<'_>,
        (shares, rows): (&[&[usize]], &[u8]),
        means: bool,
        lacks: &[bool],
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let with_means = means && !self.stages.is_empty();
        let tensors = if with_means { &self.layout.tensors[..] } else { self.features() };
        let row: usize = tensors.iter().map(|(dtype, n)| dtype.bytes() * n).sum();
        let each = (AT_ONCE / shares.len().max(1) / row.max(1)).max(1);
        let most = shares.iter().map(|share| share.len()).max().unwrap_or(0);
        let wanted = if pass.wanted.means { tensors } else { self.features() };
        let mut values: Vec<Values> = Vec::new();
        for piece in 0..most.div_ceil(each) {
            let own = part(rows.len() / row.max(1), piece, each);
            let Some(among) = &mut pass.wanted.among else { return Ok(()) };
            let all = among.gather(&rows[own.start * row..own.end * row])?;
            for (share, bytes) in shares.iter().zip(&all) {
                let at = &share[part(share.len(), piece, each)];
                if bytes.len() != at.len() * row {
                    let (expected, found) = (at.len() * row, bytes.len());
                    let (expected, found) = (format!("{expected} bytes"), format!("{found} bytes"));
                    return Err(Error::invalid("features of a process", expected, found, ""));
                }
                let (mut new, mut count) = (Vec::new(), 0);
                wanted.fit(at.len(), &mut values);
                for (&i, bytes) in at.iter().zip(bytes.chunks_exact(row.max(1))) {
                    if lacks[i] {
                        let mut rest = bytes;
                        for (tensor, &(dtype, n)) in values.iter_mut().zip(wanted) {
                            let (own, others) = rest.split_at(dtype.bytes() * n);
                            decode(own, tensor, count * n);
                            rest = others;
                        }
                        new.push(i);
                        count += 1;
                    }
                }
                if with_means || self.stages.is_empty() {
                    pass.add(at, bytes, emit)?;
                }
                if let Some(sink) = pass.wanted.sink.as_mut().filter(|_| count > 0) {
                    wanted.fit(count, &mut values);
                    sink(&new, &values)?;
                }
            }
        }
        Ok(())
    }
}

/// Positions of the images that any process lacks.
fn of_any(pass: &mut Pass<'_>, missing: &[usize]) -> Result<Vec<usize>> {
    let total = pass.wanted.subset.len();
    let mut own = vec![0u8; total.div_ceil(8)];
    missing.iter().for_each(|&i| own[i / 8] |= 1 << (i % 8));
    let Some(among) = &mut pass.wanted.among else { return Ok(missing.to_vec()) };
    let all = among.gather(&own)?;
    let lacks = |i: &usize| all.iter().any(|b| b.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1));
    Ok((0..total).filter(lacks).collect())
}

/// Which of `total` images these are.
fn positions(at: &[usize], total: usize) -> Vec<bool> {
    let mut all = vec![false; total];
    at.iter().for_each(|&i| all[i] = true);
    all
}

/// The piece of this number of `count` things, `each` in a piece; none after the last.
fn part(count: usize, number: usize, each: usize) -> Range<usize> {
    count.min(number * each)..count.min((number + 1) * each)
}
