//! Parts of the arena: one that is written, the others to read.

use std::ops::Range;

use headstart_kernels::element::{Element, Slice};

/// What a plan's source holds: values, or the bytes of images.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The values; none where there are `bytes`.
    pub values: Slice<'a>,
    /// Pixels, which frames alone read.
    pub bytes: Option<&'a [u8]>,
}

/// Part of the arena.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub floats: Range<usize>,
    /// Elements of its type.
    pub elements: usize,
}

impl At {
    pub fn of<'a, E: Element>(&self, arena: &'a [f32]) -> &'a [E] {
        &E::view(&arena[self.floats.clone()])[..self.elements]
    }
}

/// The part of the arena that a step writes, and the rest to read from.
pub(super) struct Split<'a> {
    before: &'a [f32],
    write: &'a mut [f32],
    /// Elements of the part that is written.
    elements: usize,
    after: &'a [f32],
    /// Where `after` starts.
    end: usize,
}

impl<'a> Split<'a> {
    pub fn new(arena: &'a mut [f32], write: At) -> Split<'a> {
        let At { floats, elements } = write;
        let (before, rest) = arena.split_at_mut(floats.start);
        let (part, after) = rest.split_at_mut(floats.end - floats.start);
        Split { before, write: part, elements, after, end: floats.end }
    }

    /// A part that does not overlap what is written.
    pub fn read<E: Element>(&self, at: &At) -> &'a [E] {
        if at.floats.end <= self.before.len() {
            at.of(self.before)
        } else {
            let floats = at.floats.start - self.end..at.floats.end - self.end;
            At { floats, elements: at.elements }.of(self.after)
        }
    }

    /// A value found by [`super::Executor::find`].
    pub fn value<E: Element>(&self, inputs: &[Source<'a>], place: &Result<At, usize>) -> &'a [E] {
        match place {
            Err(source) => E::of(inputs[*source].values),
            Ok(at) => self.read(at),
        }
    }

    /// The part that is written.
    pub fn write<E: Element>(self) -> &'a mut [E] {
        &mut E::view_mut(self.write)[..self.elements]
    }
}
