//! How a long vector is cut for messages: MPI counts what a call sends in 31 bits.

use std::ops::Range;

use headstart::collective::share;

/// Most bytes that a process sends or receives in one call.
pub const LIMIT: usize = 1 << 30;

/// The elements of each round of a sum of `own` vectors of this process and `all` of all processes, of `length` elements of
/// four bytes: so many that what a process sends, or receives from all, is at most `limit` bytes.
pub fn rounds(
    length: usize,
    (most, all): (usize, usize),
    size: usize,
    limit: usize,
) -> impl Iterator<Item = Range<usize>> {
    let elements = limit / 4;
    // A process receives its part of each of the vectors; parts are equal to within one element.
    let received = (elements / all.max(1)).saturating_sub(1).saturating_mul(size);
    let each = (elements / most.max(1)).min(received).min(elements).max(1);
    (0..length.div_ceil(each)).map(move |round| round * each..length.min((round + 1) * each))
}

/// The elements of a round that each process adds up.
pub fn parts(round: &Range<usize>, size: usize) -> Vec<Range<usize>> {
    let moved = |part: Range<usize>| round.start + part.start..round.start + part.end;
    (0..size).map(|rank| moved(share(round.len(), rank, size))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_cover_every_element_once_and_no_call_is_too_long() {
        for (length, most, all, size) in
            [(0, 1, 4, 4), (1, 1, 2, 2), (1000, 2, 7, 4), (999, 16, 16, 1), (5000, 1, 64, 64)]
        {
            for limit in [1 << 10, 1 << 14, LIMIT] {
                let mut next = 0;
                for round in rounds(length, (most, all), size, limit) {
                    assert_eq!(round.start, next);
                    assert!(!round.is_empty() && round.len() * 4 * most <= limit);
                    let parts = parts(&round, size);
                    let longest = parts.iter().map(Range::len).max().unwrap();
                    // One element at least is summed, whatever the limit is.
                    assert!(longest * 4 * all <= limit.max(4 * all), "{longest} {all} {limit}");
                    assert_eq!((parts[0].start, parts[size - 1].end), (round.start, round.end));
                    assert!(parts.windows(2).all(|w| w[0].end == w[1].start));
                    next = round.end;
                }
                assert_eq!(next, length);
            }
        }
    }
}
