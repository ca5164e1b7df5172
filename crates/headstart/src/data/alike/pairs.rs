//! Finding hashes that differ in few bits, without comparing every pair.

use rayon::prelude::*;

/// Most bits in which near duplicates differ.
const DISTANCE: u32 = 4;
/// One more than `DISTANCE`: two hashes that near agree in at least one band (pigeonhole).
const BANDS: usize = DISTANCE as usize + 1;
/// Where more images than this have a band in common, each is compared with its neighbours only.
const CROWD: usize = 4096;
const NEIGHBOURS: usize = 512;

/// Pairs `(i, j)`, i < j, of hashes at most [`DISTANCE`] bits apart for which `alike(i, j)` holds.
pub(super) fn pairs(
    hashes: &[u64],
    alike: impl Fn(usize, usize) -> bool + Sync,
) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for band in 0..BANDS {
        let mut order: Vec<usize> = (0..hashes.len()).collect();
        order.sort_by_key(|&i| (key(hashes[i], band), hashes[i], i));
        let crowds: Vec<&[usize]> =
            order.chunk_by(|&i, &j| key(hashes[i], band) == key(hashes[j], band)).collect();
        let compare = |crowd: &&[usize]| -> Vec<(usize, usize)> {
            let reach = if crowd.len() > CROWD { NEIGHBOURS } else { crowd.len() };
            let mut near = Vec::new();
            for (at, &i) in crowd.iter().enumerate() {
                for &j in crowd[at + 1..].iter().take(reach) {
                    let (a, b) = (hashes[i], hashes[j]);
                    let first = (0..band).all(|earlier| key(a, earlier) != key(b, earlier));
                    if (a ^ b).count_ones() <= DISTANCE && first && alike(i, j) {
                        near.push((i.min(j), i.max(j)));
                    }
                }
            }
            near
        };
        found.extend(crowds.par_iter().flat_map_iter(compare).collect::<Vec<_>>());
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Every fifth bit from `band` on: neighbouring bits, which often agree, are in different bands.
fn key(hash: u64, band: usize) -> u64 {
    const FIFTHS: u64 = 0x1084_2108_4210_8421;
    hash & (FIFTHS << band)
}

/// Joins `count` things by `pairs` to groups of two or more, in order of their first members.
pub(super) fn groups(count: usize, pairs: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut leader: Vec<usize> = (0..count).collect();
    fn find(leader: &mut [usize], mut i: usize) -> usize {
        while leader[i] != i {
            leader[i] = leader[leader[i]];
            i = leader[i];
        }
        i
    }
    for &(i, j) in pairs {
        let (a, b) = (find(&mut leader, i), find(&mut leader, j));
        leader[a.max(b)] = a.min(b);
    }
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
    for i in 0..count {
        members[find(&mut leader, i)].push(i);
    }
    members.into_iter().filter(|group| group.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::split::RandomState;

    #[test]
    fn bands_find_what_comparing_each_with_each_finds() {
        let mut random = RandomState::new(3);
        let mut hashes: Vec<u64> = (0..300)
            .map(|_| u64::from(random.next_u32()) << 32 | u64::from(random.next_u32()))
            .collect();
        for i in 0..200 {
            let flips = random.interval(7);
            let mut hash = hashes[i];
            for _ in 0..flips {
                hash ^= 1 << random.interval(63);
            }
            hashes.push(hash);
        }
        let mut all = Vec::new();
        for j in 0..hashes.len() {
            for i in 0..j {
                if (hashes[i] ^ hashes[j]).count_ones() <= DISTANCE {
                    all.push((i, j));
                }
            }
        }
        all.sort_unstable();
        assert!(all.len() > 100);
        assert_eq!(pairs(&hashes, |_, _| true), all);
        assert!(pairs(&hashes, |_, _| false).is_empty());
    }

    #[test]
    fn a_crowd_of_equal_hashes_is_one_group() {
        let hashes = vec![7; CROWD + 100];
        let found = pairs(&hashes, |_, _| true);
        assert!(found.len() <= hashes.len() * NEIGHBOURS);
        assert_eq!(groups(hashes.len(), &found), [(0..hashes.len()).collect::<Vec<_>>()]);
    }

    #[test]
    fn groups_join_chains() {
        assert_eq!(groups(6, &[(0, 3), (3, 5), (1, 2)]), [vec![0, 3, 5], vec![1, 2]]);
    }
}
