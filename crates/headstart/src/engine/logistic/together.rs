//! Several heads over the same features, each fitted on some of the images, at their optima: every pass over the features serves
//! all of them.
//!
//! L-BFGS (Liu and Nocedal 1989), whose first guess of the curvature is [`Curvature`]. Class scores are linear in the step, so
//! that the best length of a step is found on scores alone, without a pass: a step takes one pass for the scores along it and one for the
//! gradient where it ends.

use std::collections::VecDeque;

use super::curvature::Curvature;
use super::line::Line;
use super::team::Team;
use super::{Examples, Scaler, SolveOptions, Solving};
use crate::control::Control;

/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;
/// Images one task takes.
const BLOCK: usize = 256;

/// A head, and the images that it is fitted on.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Of each image, whether it is one of them.
    seen: Vec<bool>,
    count: usize,
    /// How its features come from the examples'; none where they are the same.
    scaler: Option<Scaler>,
    /// `[width, classes]`, then one for each class.
    pub head: Vec<f64>,
    /// Its loss, with the penalty.
    pub loss: f64,
    /// Greatest element of the gradient, without its sign.
    pub steepest: f64,
    /// Evaluations of loss and gradient.
    pub evaluations: usize,
}

impl Member {
    /// A head to be fitted on the images where `seen` is true, from `head` on.
    pub fn new(seen: Vec<bool>, scaler: Option<Scaler>, head: Vec<f64>) -> Member {
        let count = seen.iter().filter(|seen| **seen).count();
        Member { seen, count, scaler, head, loss: f64::NAN, steepest: f64::NAN, evaluations: 0 }
    }

    /// Positions of the images that it is fitted on.
    pub fn rows(&self) -> Vec<usize> {
        (0..self.seen.len()).filter(|&i| self.seen[i]).collect()
    }

    /// See [`Member::new`].
    pub fn scaler(&self) -> Option<&Scaler> {
        self.scaler.as_ref()
    }

    /// A kernel and bias over the examples' features, of those over its own.
    fn over_examples(&self, classes: usize, head: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (kernel, bias) = head.split_at(head.len() - classes);
        let (mut kernel, mut bias) = (kernel.to_vec(), bias.to_vec());
        if let Some(Scaler { mean, factor }) = &self.scaler {
            for (row, (&m, &f)) in kernel.chunks_exact_mut(classes).zip(mean.iter().zip(factor)) {
                for (w, b) in row.iter_mut().zip(&mut bias) {
                    *w *= f64::from(f);
                    *b -= f64::from(m) * *w;
                }
            }
        }
        (kernel, bias)
    }
}

/// What heads are fitted on, and how.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub team: &'a Team<'a>,
    pub examples: Examples<'a>,
    pub options: SolveOptions,
    pub curvature: &'a Curvature,
}

/// Where a head is on its way.
struct Descent {
    /// The kernel, then the bias as counted from the mean image.
    at: Vec<f64>,
    gradient: Vec<f64>,
    direction: Vec<f64>,
    /// Steps, and by how much the gradient changed, the last one last.
    history: VecDeque<[Vec<f64>; 2]>,
    shares: Vec<f64>,
    loss: f64,
    steepest: f64,
    first: f64,
    evaluations: usize,
    stuck: bool,
}

impl Descent {
    fn is_done(&self, options: &SolveOptions) -> bool {
        self.stuck || self.steepest <= options.tolerance || self.evaluations > options.iterations
    }

    /// The gradient without its parts along the steps: what the curvature is applied to.
    fn before_curvature(&mut self) {
        self.direction.copy_from_slice(&self.gradient);
        self.shares.clear();
        for [step, change] in self.history.iter().rev() {
            let share = dot(step, &self.direction) / dot(step, change);
            add(&mut self.direction, -share, change);
            self.shares.push(share);
        }
    }

    /// The direction, from the curvature's answer.
    fn after_curvature(&mut self) {
        for ([step, change], share) in self.history.iter().zip(self.shares.iter().rev()) {
            let back = dot(change, &self.direction) / dot(step, change);
            add(&mut self.direction, share - back, step);
        }
        self.direction.iter_mut().for_each(|d| *d = -*d);
    }

    /// Goes a part of the direction.
    fn go(&mut self, length: f64) {
        add(&mut self.at, length, &self.direction);
    }

    /// Takes the gradient after a step of this length.
    fn arrive(&mut self, length: f64, gradient: Vec<f64>) {
        let step: Vec<f64> = self.direction.iter().map(|d| length * d).collect();
        let change: Vec<f64> = gradient.iter().zip(&self.gradient).map(|(a, b)| a - b).collect();
        self.gradient = gradient;
        if dot(&step, &change) > 0.0 {
            if self.history.len() == MEMORY {
                self.history.pop_front();
            }
            self.history.push_back([step, change]);
        }
    }
}

/// Sums of this many products are added side by side.
const LANES: usize = 8;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (x, rest) = a.as_chunks::<LANES>();
    let (y, end) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for j in 0..LANES {
            sums[j] += x[j] * y[j];
        }
    }
    sums.iter().sum::<f64>() + rest.iter().zip(end).map(|(x, y)| x * y).sum::<f64>()
}

fn add(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// The mean features times a kernel.
fn mean_scores(mean: &[f64], kernel: &[f64], classes: usize) -> Vec<f64> {
    let mut scores = vec![0.0; classes];
    for (row, &m) in kernel.chunks_exact(classes).zip(mean) {
        add(&mut scores, m, row);
    }
    scores
}

impl Problem<'_> {
    /// Fits all heads; their scores of every image, `[images, members, classes]`, go from those of the heads they begin with (none
    /// where these are not known) to those of the ones they end with. Whether `watch`, which hears of every evaluation of the first
    /// one, let it end.
    pub fn minimise(
        &self,
        members: &mut [Member],
        scores: &mut Vec<f64>,
        watch: &mut dyn FnMut(Solving) -> Control,
    ) -> Control {
        let (classes, options) = (self.examples.classes, &self.options);
        if scores.is_empty() {
            *scores = self.scores(&members.iter().map(|m| (m, &*m.head)).collect::<Vec<_>>());
        }
        let mut descents: Vec<Descent> = members.iter().map(|m| self.begin(m)).collect();
        let all: Vec<usize> = (0..members.len()).collect();
        // Steps of no length: the losses here.
        let here: Vec<_> = all.iter().map(|&m| (m, m, 0.0)).collect();
        for (descent, [loss, ..]) in descents.iter_mut().zip(self.along(
            members,
            scores,
            (&scores[..], members.len()),
            &here,
        )) {
            let kernel = &descent.at[..descent.at.len() - classes];
            descent.loss = loss + options.l2 * dot(kernel, kernel);
        }
        for (descent, gradient) in descents.iter_mut().zip(self.gradients(members, scores, &all)) {
            self.measure(descent, gradient, None);
        }
        let mut control = Control::Continue;
        if let Some(first) = descents.first() {
            control = watch(solving(first, options));
        }
        while control == Control::Continue && !self.team.has_failed() {
            let active: Vec<usize> =
                all.iter().copied().filter(|&m| !descents[m].is_done(options)).collect();
            if active.is_empty() {
                break;
            }
            self.point(&mut descents, &active);
            let directions: Vec<(&Member, Vec<f64>)> = active
                .iter()
                .map(|&m| (&members[m], self.uncentred(&descents[m].direction)))
                .collect();
            let heads: Vec<_> = directions.iter().map(|(m, head)| (*m, &**head)).collect();
            let steps = self.scores(&heads);
            let lengths = self.search(members, &mut descents, scores, &steps, &active);
            let moved: Vec<(usize, usize, f64)> = active
                .iter()
                .enumerate()
                .filter_map(|(column, &m)| Some((m, column, lengths[column]?)))
                .collect();
            let (row, steps_row) = (members.len() * classes, active.len() * classes);
            self.team.compute.threads.chunks(scores, BLOCK * row, |block, scores| {
                let steps = steps.chunks_exact(steps_row).skip(block * BLOCK);
                for (scores, steps) in scores.chunks_exact_mut(row).zip(steps) {
                    for &(m, column, length) in &moved {
                        let step = &steps[column * classes..][..classes];
                        add(&mut scores[m * classes..][..classes], length, step);
                    }
                }
            });
            let went: Vec<usize> = moved.iter().map(|moved| moved.0).collect();
            let gradients = self.gradients(members, scores, &went);
            for (&(m, _, length), gradient) in moved.iter().zip(gradients) {
                self.measure(&mut descents[m], gradient, Some(length));
            }
            if went.first() == Some(&0) {
                control = watch(solving(&descents[0], options));
            }
        }
        for (member, descent) in members.iter_mut().zip(&descents) {
            member.head = self.uncentred(&descent.at);
            member.loss = descent.loss;
            member.steepest = descent.steepest;
            member.evaluations = descent.evaluations;
        }
        control
    }

    fn begin(&self, member: &Member) -> Descent {
        let mut at = member.head.clone();
        let classes = self.examples.classes;
        let (kernel, bias) = at.split_at_mut(member.head.len() - classes);
        add(bias, 1.0, &mean_scores(&self.curvature.mean, kernel, classes));
        Descent {
            gradient: Vec::new(),
            direction: vec![0.0; at.len()],
            at,
            history: VecDeque::new(),
            shares: Vec::new(),
            loss: f64::NAN,
            steepest: f64::INFINITY,
            first: f64::INFINITY,
            evaluations: 0,
            stuck: false,
        }
    }

    /// A head whose bias is counted from the mean image, as it is.
    fn uncentred(&self, at: &[f64]) -> Vec<f64> {
        let (mut head, classes) = (at.to_vec(), self.examples.classes);
        let (kernel, bias) = head.split_at_mut(at.len() - classes);
        add(bias, -1.0, &mean_scores(&self.curvature.mean, kernel, classes));
        head
    }

    /// Class scores of every image, `[images, heads, classes]`, by heads over their members' features.
    fn scores(&self, heads: &[(&Member, &[f64])]) -> Vec<f64> {
        let Examples { features, width, labels, classes, .. } = self.examples;
        let row = heads.len() * classes;
        let (mut kernels, mut biases) = (vec![0.0; width * row], Vec::with_capacity(row));
        for (h, (member, head)) in heads.iter().enumerate() {
            let (kernel, bias) = member.over_examples(classes, head);
            biases.extend(bias);
            for (to, kernel) in kernels.chunks_exact_mut(row).zip(kernel.chunks_exact(classes)) {
                to[h * classes..][..classes].copy_from_slice(kernel);
            }
        }
        let mut scores = vec![0.0; labels.len() * row];
        if row > 0 {
            self.team.dense(features, &kernels, &biases, &mut scores);
        }
        scores
    }

    /// Sets the directions of these heads.
    fn point(&self, descents: &mut [Descent], active: &[usize]) {
        let Examples { width, classes, .. } = self.examples;
        let (threads, row) = (&self.team.compute.threads, active.len() * classes);
        let is_active = |m: usize| active.binary_search(&m).ok();
        threads.chunks(descents, 1, |m, d| {
            if is_active(m).is_some() {
                d[0].before_curvature();
            }
        });
        let mut kernels = vec![0.0; width * row];
        for (column, &m) in active.iter().enumerate() {
            let own = descents[m].direction.chunks_exact(classes);
            for (to, own) in kernels.chunks_exact_mut(row).zip(own) {
                to[column * classes..][..classes].copy_from_slice(own);
            }
        }
        let solved = self.curvature.solve(self.team.compute, row, &kernels);
        threads.chunks(descents, 1, |m, d| {
            let Some(column) = is_active(m) else { return };
            let (kernel, bias) = d[0].direction.split_at_mut(width * classes);
            for (own, from) in kernel.chunks_exact_mut(classes).zip(solved.chunks_exact(row)) {
                own.copy_from_slice(&from[column * classes..][..classes]);
            }
            self.curvature.solve_bias(bias);
            d[0].after_curvature();
        });
    }

    /// The best length of each active head's step, whose scores are `steps`, `[images, active, classes]`; none where none is better
    /// than where it is. Goes there.
    fn search(
        &self,
        members: &[Member],
        descents: &mut [Descent],
        scores: &[f64],
        steps: &[f64],
        active: &[usize],
    ) -> Vec<Option<f64>> {
        let (classes, l2) = (self.examples.classes, self.options.l2);
        let mut lines: Vec<Line> = active
            .iter()
            .map(|&m| {
                let Descent { at, direction, gradient, loss, .. } = &descents[m];
                let size = at.len() - classes;
                let (kernel, step) = (&at[..size], &direction[..size]);
                let penalty = [dot(kernel, kernel), dot(kernel, step), dot(step, step)];
                Line::new(*loss, dot(gradient, direction), penalty.map(|sum| l2 * sum))
            })
            .collect();
        loop {
            let tries: Vec<(usize, usize, f64)> = lines
                .iter()
                .enumerate()
                .filter_map(|(column, line)| Some((active[column], column, line.next()?)))
                .collect();
            if tries.is_empty() {
                break;
            }
            let found = self.along(members, scores, (steps, active.len()), &tries);
            for ((_, column, _), found) in tries.iter().zip(found) {
                lines[*column].take(found);
            }
        }
        let end = |(line, &m): (&Line, &usize)| {
            let descent = &mut descents[m];
            let Some((length, loss)) = line.best() else {
                // The memory may be what leads nowhere.
                descent.stuck = descent.history.is_empty();
                descent.history.clear();
                return None;
            };
            descent.loss = loss;
            descent.go(length);
            Some(length)
        };
        lines.iter().zip(active).map(end).collect()
    }

    /// For members, each with the place of its step among the steps and a length: the loss there without the penalty, and its first and
    /// second derivative by the length.
    fn along(
        &self,
        members: &[Member],
        scores: &[f64],
        (steps, heads): (&[f64], usize),
        tries: &[(usize, usize, f64)],
    ) -> Vec<[f64; 3]> {
        let Examples { labels, classes, .. } = self.examples;
        let (row, steps_row) = (members.len() * classes, heads * classes);
        let blocks = labels.len().div_ceil(BLOCK);
        let mut sums = vec![[0.0; 3]; tries.len() * blocks];
        self.team.compute.threads.chunks(&mut sums, 1, |task, sum| {
            let (m, column, length) = tries[task / blocks];
            let first = task % blocks * BLOCK;
            let mut p = vec![0.0; classes];
            for i in first..labels.len().min(first + BLOCK) {
                if !members[m].seen[i] {
                    continue;
                }
                let at = &scores[i * row + m * classes..][..classes];
                let step = &steps[i * steps_row + column * classes..][..classes];
                p.iter_mut().zip(at.iter().zip(step)).for_each(|(p, (s, d))| *p = s + length * d);
                let (own, weight) = (p[labels[i]], self.weight(labels[i]));
                let log_sum = softmax(&mut p);
                let (mut mean, mut square) = (0.0, 0.0);
                for (p, d) in p.iter().zip(step) {
                    mean += p * d;
                    square += p * d * d;
                }
                sum[0][0] += weight * (log_sum - own);
                sum[0][1] += weight * (mean - step[labels[i]]);
                sum[0][2] += weight * (square - mean * mean);
            }
        });
        let total = |(blocks, &(m, ..)): (&[[f64; 3]], &(usize, usize, f64))| {
            let share = 1.0 / members[m].count as f64;
            std::array::from_fn(|k| share * blocks.iter().map(|sum| sum[k]).sum::<f64>())
        };
        sums.chunks_exact(blocks).zip(tries).map(total).collect()
    }

    /// How much an image of a class counts.
    fn weight(&self, label: usize) -> f64 {
        self.examples.class_weights.get(label).map_or(1.0, |&w| f64::from(w))
    }

    /// Gradients of the loss of these members, without the penalty: by the kernel over the member's features, then by the bias.
    fn gradients(&self, members: &[Member], scores: &[f64], which: &[usize]) -> Vec<Vec<f64>> {
        let Examples { features, width, labels, classes, .. } = self.examples;
        let (row, own_row) = (members.len() * classes, which.len() * classes);
        if which.is_empty() {
            return Vec::new();
        }
        let mut by_score = vec![0.0; labels.len() * own_row];
        self.team.compute.threads.chunks(&mut by_score, BLOCK * own_row, |block, rows| {
            for (to, i) in rows.chunks_exact_mut(own_row).zip(block * BLOCK..) {
                for (to, &m) in to.chunks_exact_mut(classes).zip(which) {
                    if members[m].seen[i] {
                        to.copy_from_slice(&scores[i * row + m * classes..][..classes]);
                        softmax(to);
                        to[labels[i]] -= 1.0;
                        let share = self.weight(labels[i]) / members[m].count as f64;
                        to.iter_mut().for_each(|v| *v *= share);
                    }
                }
            }
        });
        let mut by_kernel = vec![0.0; width * own_row];
        self.team.dense_kernel_gradient(features, &by_score, own_row, &mut by_kernel);
        let mut by_bias = vec![0.0; own_row];
        by_score.chunks_exact(own_row).for_each(|row| add(&mut by_bias, 1.0, row));
        let of = |(column, &m): (usize, &usize)| {
            let own = column * classes..(column + 1) * classes;
            let bias = &by_bias[own.clone()];
            let mut gradient = Vec::with_capacity((width + 1) * classes);
            by_kernel.chunks_exact(own_row).for_each(|row| gradient.extend(&row[own.clone()]));
            if let Some(Scaler { mean, factor }) = &members[m].scaler {
                for (row, (&m, &f)) in
                    gradient.chunks_exact_mut(classes).zip(mean.iter().zip(factor))
                {
                    add(row, -f64::from(m), bias);
                    row.iter_mut().for_each(|g| *g *= f64::from(f));
                }
            }
            gradient.extend(bias);
            gradient
        };
        which.iter().enumerate().map(of).collect()
    }

    /// Takes the gradient of where a head is, after a step of some length.
    fn measure(&self, descent: &mut Descent, mut gradient: Vec<f64>, length: Option<f64>) {
        let classes = self.examples.classes;
        let size = gradient.len() - classes;
        add(&mut gradient[..size], 2.0 * self.options.l2, &descent.at[..size]);
        // `max` passes over what is not a number.
        let finite = descent.loss.is_finite() && gradient.iter().all(|g| g.is_finite());
        let steepest = gradient.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        descent.steepest = if finite { steepest } else { f64::INFINITY };
        descent.stuck = !finite;
        descent.evaluations += 1;
        let (by_kernel, by_bias) = gradient.split_at_mut(size);
        for (row, &m) in by_kernel.chunks_exact_mut(classes).zip(&self.curvature.mean) {
            add(row, -m, by_bias);
        }
        match length {
            Some(length) => descent.arrive(length, gradient),
            None => (descent.first, descent.gradient) = (descent.steepest, gradient),
        }
    }
}

/// Progress of a head.
fn solving(descent: &Descent, options: &SolveOptions) -> Solving {
    let Descent { evaluations, steepest: gradient, first, .. } = *descent;
    let fraction = (first / gradient).ln() / (first / options.tolerance).ln();
    let fraction = match gradient <= options.tolerance {
        true => 1.0,
        false if fraction.is_finite() => fraction.clamp(0.0, 1.0),
        false => 0.0,
    };
    Solving { evaluations, gradient, fraction }
}

/// Probabilities, in place of scores; the logarithm of the sum of the scores' exponentials.
pub(super) fn softmax(row: &mut [f64]) -> f64 {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - top).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
    top + sum.ln()
}
