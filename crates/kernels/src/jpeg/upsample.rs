use crate::isa::Isa;
use crate::simd::vectorize;

/// Doubles a row of samples: each new one is 3/4 of the nearer and 1/4 of the further sample, the outermost are copies;
/// libjpeg's `h2v1_fancy_upsample`.
///
/// # Panics
/// If the CPU has not the instruction set, the row is empty, or `out` is not twice as long.
pub fn double_across(isa: Isa, row: &[u8], out: &mut [u8]) {
    check(isa, row, out.len() / 2, out.len());
    vectorize!(isa, {
        let (out, _) = out.as_chunks_mut::<2>();
        let last = row.len() - 1;
        for (out, near) in out[1..].iter_mut().zip(row.windows(3)) {
            let near: [u16; 3] = [near[0], near[1], near[2]].map(u16::from);
            out[0] = ((3 * near[1] + near[0] + 1) >> 2) as u8;
            out[1] = ((3 * near[1] + near[2] + 2) >> 2) as u8;
        }
        let at = |i: usize| u16::from(row[i]);
        let next = at(last.min(1));
        let before = at(last.saturating_sub(1));
        out[0][1] = ((3 * at(0) + next + 2) >> 2) as u8;
        out[last][0] = ((3 * at(last) + before + 1) >> 2) as u8;
        out[0][0] = row[0];
        out[last][1] = row[last];
    });
}

/// A new row between two: 3/4 of the nearer and 1/4 of the further one. `upper` is whether the new row lies above the
/// nearer one: halves are rounded down there and up below; libjpeg's `h1v2_fancy_upsample`.
///
/// # Panics
/// If the CPU has not the instruction set, the rows are empty or of different lengths.
pub fn double_down(isa: Isa, near: &[u8], far: &[u8], upper: bool, out: &mut [u8]) {
    check(isa, near, far.len(), 2 * out.len());
    let bias = if upper { 1 } else { 2 };
    vectorize!(isa, {
        for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
            *out = ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8;
        }
    });
}

/// A new row of twice the length between two: 9/16, 3/16, 3/16 and 1/16 of the nearest four samples; libjpeg's
/// `h2v2_fancy_upsample`. `sums` is what it works in, of the rows' length.
///
/// # Panics
/// If the CPU has not the instruction set, the rows are empty, or lengths are not `n`, `n`, `n` and `2 n`.
pub fn double_both(isa: Isa, near: &[u8], far: &[u8], sums: &mut [u16], out: &mut [u8]) {
    check(isa, near, far.len(), out.len());
    assert_eq!(sums.len(), near.len(), "length of the sums");
    vectorize!(isa, {
        for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
            *sum = 3 * u16::from(near) + u16::from(far);
        }
        let (out, _) = out.as_chunks_mut::<2>();
        let last = sums.len() - 1;
        for (out, near) in out[1..].iter_mut().zip(sums.windows(3)) {
            out[0] = ((3 * near[1] + near[0] + 8) >> 4) as u8;
            out[1] = ((3 * near[1] + near[2] + 7) >> 4) as u8;
        }
        let (next, before) = (sums[last.min(1)], sums[last.saturating_sub(1)]);
        out[0][1] = ((3 * sums[0] + next + 7) >> 4) as u8;
        out[last][0] = ((3 * sums[last] + before + 8) >> 4) as u8;
        out[0][0] = ((4 * sums[0] + 8) >> 4) as u8;
        out[last][1] = ((4 * sums[last] + 7) >> 4) as u8;
    });
}

fn check(isa: Isa, row: &[u8], other: usize, out: usize) {
    assert!(isa.available(), "this CPU does not have {}", isa.name());
    assert!(!row.is_empty(), "a row of no samples");
    assert_eq!(row.len(), other, "length of the other row");
    assert_eq!(out, 2 * row.len(), "output length");
}
