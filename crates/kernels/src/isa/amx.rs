//! Tiles for AMX: `TDPBF16PS` multiplies 16 rows of 32 bfloat16 by 32 rows of 16 and adds the products to
//! 16 x 16 floats, in pairs of neighbours of the reduction. It takes denormals as zero and writes none.
//!
//! The instructions are written as assembly, since the compiler's names for them are not stable. No code that the
//! compiler makes touches the tile registers, so they keep their contents from one instruction to the next.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use super::avx512::{F32x16, SINGLE, WINOGRAD};
use super::avx512bf16::Pairs;
use super::record::{GradientTiles, Isa, Kernels, Record, Tile};
use super::tile::{Arithmetic, GradientArgs, TileArgs, Vector, finish};
use crate::bf16::Bf16;
use crate::prefetch::prefetch;

/// Rows of a tile register, and its columns where they are floats or pairs.
const ROWS: usize = 16;
/// Elements in a row of a tile register.
const WIDTH: usize = 32;
/// Bytes of a row.
const LINE: usize = 64;
/// Rows of an output tile: two registers.
const MR: usize = 2 * ROWS;
/// Rows of an output tile that are finished at a time.
const GROUP: usize = 4;

/// What the tile registers are, as `LDTILECFG` takes it: 8 of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = LINE as u8;
        bytes[48 + tile] = ROWS as u8;
        tile += 1;
    }
    Config(bytes)
};

/// Elements of one tile register, in memory.
#[repr(C, align(64))]
struct Block([[Bf16; WIDTH]; ROWS]);

/// Floats of four tile registers side by side or one above the other, in memory.
#[repr(C, align(64))]
struct Sums([f32; 4 * ROWS * ROWS]);

/// Whether the CPU has AMX for bfloat16, and the system lets this process use it, which has to be asked for.
pub(super) fn available() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| has_tiles() && ask())
}

/// Bits of `EDX` of leaf 7: bfloat16, tiles.
fn has_tiles() -> bool {
    const NEEDED: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & NEEDED == NEEDED
}

/// Linux gives a process the room for tile registers when it asks: `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`. Threads
/// that it starts have it too.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call takes two numbers and touches no memory of the process; a kernel that does not know it
    // returns an error.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

/// Makes the tile registers of this thread ready.
///
/// # Safety
/// AMX is available.
unsafe fn begin() {
    // SAFETY: by the caller's contract; the configuration is a valid one.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack)) }
}

/// Gives them back: a thread without tiles is cheaper to switch, and other code finds them as it left them.
///
/// # Safety
/// AMX is available.
unsafe fn end() {
    // SAFETY: by the caller's contract.
    unsafe { asm!("tilerelease", options(nostack)) }
}

macro_rules! zero {
    ($tile:literal) => {
        asm!(concat!("tilezero tmm", $tile), options(nostack))
    };
}
macro_rules! load {
    ($tile:literal, $from:expr, $stride:expr) => {
        asm!(
            concat!("tileloadd tmm", $tile, ", [{from} + {stride}]"),
            from = in(reg) $from,
            stride = in(reg) $stride,
            options(nostack)
        )
    };
}
macro_rules! store {
    ($tile:literal, $to:expr, $stride:expr) => {
        asm!(
            concat!("tilestored [{to} + {stride}], tmm", $tile),
            to = in(reg) $to,
            stride = in(reg) $stride,
            options(nostack)
        )
    };
}
macro_rules! multiply {
    ($sum:literal, $a:literal, $b:literal) => {
        asm!(concat!("tdpbf16ps tmm", $sum, ", tmm", $a, ", tmm", $b), options(nostack))
    };
}

/// For each of the `$vectors` registers of columns, from the first on.
macro_rules! columns {
    ($vectors:ident, $each:ident $(, $from:expr, $stride:expr)?) => {
        $each!(0 $(, $from, $stride)?);
        if $vectors > 1 { $each!(1 $(, $from.add(ROWS), $stride)?); }
        if $vectors > 2 { $each!(2 $(, $from.add(2 * ROWS), $stride)?); }
        if $vectors > 3 { $each!(3 $(, $from.add(3 * ROWS), $stride)?); }
    };
}

/// Bytes between the rows, where they are evenly spaced.
///
/// # Safety
/// The CPU runs AVX-512, and 16 pointers can be read.
#[inline(always)]
unsafe fn spacing(rows: *const *const Bf16) -> Option<isize> {
    // SAFETY: by the caller's contract.
    unsafe {
        let first = (*rows).addr();
        let stride = (*rows.add(1)).addr().wrapping_sub(first) as i64;
        let place = |i: i64| first as i64 + stride.wrapping_mul(i);
        let step = _mm512_set1_epi64(stride.wrapping_mul(8));
        let low = _mm512_set_epi64(
            place(7),
            place(6),
            place(5),
            place(4),
            place(3),
            place(2),
            place(1),
            place(0),
        );
        let high = _mm512_add_epi64(low, step);
        let even = _mm512_cmpeq_epi64_mask(low, _mm512_loadu_si512(rows.cast()))
            & _mm512_cmpeq_epi64_mask(high, _mm512_loadu_si512(rows.add(8).cast()));
        (even == 0xff).then_some(stride as isize)
    }
}

/// Where 16 rows of the input are: evenly spaced, or anywhere.
#[derive(Clone, Copy)]
struct Rows {
    rows: *const *const Bf16,
    spacing: Option<isize>,
}

impl Rows {
    /// What `tileloadd` reads `WIDTH` elements of each row from, `at` elements after its start: the rows
    /// themselves, or `block`, into which they are copied.
    ///
    /// # Safety
    /// The CPU runs AVX-512, and the elements can be read.
    #[inline(always)]
    unsafe fn part(self, at: usize, block: &mut Block) -> (*const Bf16, isize) {
        // SAFETY: by the caller's contract.
        unsafe {
            if let Some(spacing) = self.spacing {
                return ((*self.rows).add(at), spacing);
            }
            for (r, to) in block.0.iter_mut().enumerate() {
                let row = _mm512_loadu_si512((*self.rows.add(r)).add(at).cast());
                _mm512_store_si512(to.as_mut_ptr().cast(), row);
            }
            (block.0.as_ptr().cast(), LINE as isize)
        }
    }

    /// As [`Self::part`], for the `count` elements that there are; zeros follow them.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn rest(self, at: usize, count: usize, block: &mut Block) -> (*const Bf16, isize) {
        // SAFETY: by the caller's contract; nothing outside of the mask is read.
        unsafe {
            let mask = (1u32 << count) - 1;
            for (r, to) in block.0.iter_mut().enumerate() {
                let row = _mm512_maskz_loadu_epi16(mask, (*self.rows.add(r)).add(at).cast());
                _mm512_store_si512(to.as_mut_ptr().cast(), row);
            }
        }
        (block.0.as_ptr().cast(), LINE as isize)
    }
}

/// A panel's rows of pairs, `NV` registers wide.
struct Panel<const NV: usize>;

impl<const NV: usize> Panel<NV> {
    /// Bytes from one row of pairs to the next.
    const STRIDE: usize = NV * LINE;
    /// Elements of a row of pairs.
    const WIDTH: usize = NV * WIDTH;

    /// Copies `count` rows of pairs into `blocks` and fills up with zeros.
    ///
    /// # Safety
    /// The CPU runs AVX-512, and the rows can be read.
    #[inline(always)]
    unsafe fn rest(from: *const Bf16, count: usize, blocks: &mut [Block; NV]) {
        for (v, block) in blocks.iter_mut().enumerate() {
            for (i, to) in block.0.iter_mut().enumerate() {
                // SAFETY: by the caller's contract.
                unsafe {
                    let row = match i < count {
                        true => _mm512_loadu_si512(from.add(i * Self::WIDTH + v * WIDTH).cast()),
                        false => _mm512_setzero_si512(),
                    };
                    _mm512_store_si512(to.as_mut_ptr().cast(), row);
                }
            }
        }
    }
}

fn zeros() -> Block {
    Block([[Bf16(0); WIDTH]; ROWS])
}

/// As [`super::tile::convolve`], for 32 rows and `NV` registers of columns, one or two.
///
/// # Safety
/// AMX is available and the tile registers of this thread are ready; every pointer of `t` is valid for what its
/// field says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn tile<const NV: usize>(t: &TileArgs<Bf16>) {
    // SAFETY: all accesses are those the fields of `TileArgs` promise.
    unsafe {
        zero!(0);
        zero!(1);
        zero!(2);
        zero!(3);
        let (mut above, mut below) = (zeros(), zeros());
        let (whole, rest) = (t.run / WIDTH, t.run % WIDTH);
        let steps = (t.taps * t.run.div_ceil(WIDTH)).max(1);
        let (mut ahead, end) = (t.ahead, t.ahead.add(t.ahead_len));
        let soon = t.ahead_len.div_ceil(steps);
        let mut panel = t.panel;
        macro_rules! step {
            ($above:expr, $below:expr, $panel:expr, $second:expr, $stride:expr) => {
                let (a, spacing) = $above;
                load!(4, a, spacing);
                let (a, spacing) = $below;
                load!(5, a, spacing);
                load!(6, $panel, $stride);
                multiply!(0, 4, 6);
                multiply!(2, 5, 6);
                if NV == 2 {
                    load!(7, $second, $stride);
                    multiply!(1, 4, 7);
                    multiply!(3, 5, 7);
                }
                for _ in 0..soon {
                    if ahead < end {
                        prefetch(*ahead);
                        ahead = ahead.add(1);
                    }
                }
            };
        }
        for tap in 0..t.taps {
            let [first, second] = [0, ROWS].map(
                #[inline(always)]
                |r| {
                    let rows = t.rows.add(tap * MR + r);
                    Rows { rows, spacing: spacing(rows) }
                },
            );
            for k in 0..whole {
                let at = t.offset + k * WIDTH;
                step!(
                    first.part(at, &mut above),
                    second.part(at, &mut below),
                    panel,
                    panel.add(WIDTH),
                    Panel::<NV>::STRIDE
                );
                panel = panel.add(ROWS * Panel::<NV>::WIDTH);
            }
            if rest > 0 {
                let (at, pairs) = (t.offset + whole * WIDTH, rest.div_ceil(2));
                let mut blocks = [const { Block([[Bf16(0); WIDTH]; ROWS]) }; NV];
                Panel::<NV>::rest(panel, pairs, &mut blocks);
                step!(
                    first.rest(at, rest, &mut above),
                    second.rest(at, rest, &mut below),
                    blocks.as_ptr(),
                    blocks.as_ptr().wrapping_add(1),
                    LINE
                );
                panel = panel.add(pairs * Panel::<NV>::WIDTH);
            }
        }
        finish_tile::<NV>(t);
    }
}

/// Finishes what the first four registers hold.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn finish_tile<const NV: usize>(t: &TileArgs<Bf16>) {
    // SAFETY: as there; what is stored fits `sums`.
    unsafe {
        let mut sums = Sums([0.0; 4 * ROWS * ROWS]);
        let (to, width) = (sums.0.as_mut_ptr(), NV * ROWS);
        store!(0, to, NV * LINE);
        store!(2, to.add(ROWS * width), NV * LINE);
        if NV == 2 {
            store!(1, to.add(ROWS), NV * LINE);
            store!(3, to.add(ROWS * width + ROWS), NV * LINE);
        }
        for first in (0..MR).step_by(GROUP) {
            let acc: [[F32x16; NV]; GROUP] = std::array::from_fn(
                #[inline(always)]
                |r| {
                    std::array::from_fn(
                        #[inline(always)]
                        |v| F32x16::load(to.add((first + r) * width + v * ROWS)),
                    )
                },
            );
            finish::<Pairs, GROUP, NV>(t, first, acc);
        }
    }
}

/// Writes 16 rows of 16 pairs with rows and columns exchanged.
///
/// # Safety
/// The CPU runs AVX-512, and 16 pairs can be read from each of the pointers.
#[inline(always)]
unsafe fn transpose(rows: &[*const Bf16; ROWS], to: &mut Block) {
    // SAFETY: by the caller's contract.
    unsafe {
        for j in 0..4 {
            // Lane `l` of register `i`: four pairs of row `4 l + i`.
            let quarter = |i: usize| {
                let part = |l: usize| _mm_loadu_si128(rows[4 * l + i].cast::<__m128i>().add(j));
                let x = _mm512_castsi128_si512(part(0));
                let x = _mm512_inserti32x4::<1>(x, part(1));
                let x = _mm512_inserti32x4::<2>(x, part(2));
                _mm512_inserti32x4::<3>(x, part(3))
            };
            let (a, b, c, d) = (quarter(0), quarter(1), quarter(2), quarter(3));
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (high_ab, high_cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            let columns = [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(high_ab, high_cd),
                _mm512_unpackhi_epi64(high_ab, high_cd),
            ];
            for (column, to) in columns.into_iter().zip(&mut to.0[4 * j..]) {
                _mm512_store_si512(to.as_mut_ptr().cast(), column);
            }
        }
    }
}

/// As [`super::tile::gradient`], for `ROWS` rows at most and `NV` registers of columns.
///
/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn rows<const COUNT: usize, const NV: usize>(t: &GradientArgs<Bf16>) {
    let whole = COUNT == ROWS;
    // SAFETY: all accesses are those the fields of `GradientArgs` promise.
    unsafe {
        if whole && !t.sums.is_null() {
            columns!(NV, load, t.sums, t.sums_stride * size_of::<f32>());
        } else {
            columns!(NV, zero);
        }
        let (mut input, mut narrow, nothing) = (zeros(), zeros(), zeros());
        let (mut ahead, end) = (t.ahead, t.ahead.add(t.ahead_len));
        // Only of a last incomplete step, so that no other fills it.
        let mut blocks;
        let soon = t.ahead_len.div_ceil(t.steps.div_ceil(ROWS).max(1));
        for first in (0..t.steps).step_by(ROWS) {
            let count = ROWS.min(t.steps - first);
            let mut from = [nothing.0.as_ptr().cast::<Bf16>(); ROWS];
            for (i, from) in from.iter_mut().enumerate().take(count) {
                let place = match t.places.is_null() {
                    true => (first + i) * t.stride,
                    false => *t.places.add(first + i) as usize,
                };
                *from = t.input.wrapping_add(place);
                if !whole {
                    let mask = (1u16 << (COUNT % ROWS)) - 1;
                    let row = _mm512_maskz_loadu_epi32(mask, (*from).cast());
                    let to = narrow.0[i].as_mut_ptr();
                    _mm512_store_si512(to.cast(), row);
                    *from = to;
                }
            }
            transpose(&from, &mut input);
            load!(4, input.0.as_ptr(), LINE);
            let panel = t.panel.add(first * Panel::<NV>::WIDTH);
            let (panel, next, stride) = if count == ROWS {
                (panel, WIDTH, Panel::<NV>::STRIDE)
            } else {
                blocks = [const { Block([[Bf16(0); WIDTH]; ROWS]) }; NV];
                Panel::<NV>::rest(panel, count, &mut blocks);
                (blocks.as_ptr().cast::<Bf16>(), ROWS * WIDTH, LINE)
            };
            load!(5, panel, stride);
            multiply!(0, 4, 5);
            if NV > 1 {
                load!(6, panel.add(next), stride);
                multiply!(1, 4, 6);
            }
            if NV > 2 {
                load!(7, panel.add(2 * next), stride);
                multiply!(2, 4, 7);
            }
            if NV > 3 {
                load!(5, panel.add(3 * next), stride);
                multiply!(3, 4, 5);
            }
            for _ in 0..soon {
                if ahead < end {
                    prefetch(*ahead);
                    ahead = ahead.add(1);
                }
            }
        }
        if whole {
            columns!(NV, store, t.output, t.output_stride * size_of::<f32>());
            return;
        }
        write_rows::<COUNT, NV>(t);
    }
}

/// Writes the `COUNT` rows that are wanted of what the first `NV` registers hold.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn write_rows<const COUNT: usize, const NV: usize>(t: &GradientArgs<Bf16>) {
    // SAFETY: as there; what is stored fits `sums`.
    unsafe {
        let mut sums = Sums([0.0; 4 * ROWS * ROWS]);
        let results = sums.0.as_mut_ptr();
        columns!(NV, store, results, NV * LINE);
        for r in 0..COUNT {
            for v in 0..NV {
                let x = F32x16::load(results.add((r * NV + v) * ROWS));
                let x = match t.sums.is_null() {
                    true => x,
                    false => x.add(F32x16::load(t.sums.add(r * t.sums_stride + v * ROWS))),
                };
                x.store(t.output.add(r * t.output_stride + v * ROWS));
            }
        }
    }
}

/// Rounds of four independent multiply-adds of tile registers; returns the floating-point operations done.
///
/// # Safety
/// AMX is available.
unsafe fn registers(rounds: u64) -> u64 {
    // SAFETY: by the caller's contract.
    unsafe {
        begin();
        for _ in 0..rounds {
            multiply!(0, 4, 6);
            multiply!(1, 4, 7);
            multiply!(2, 5, 6);
            multiply!(3, 5, 7);
        }
        end();
    }
    rounds * 4 * (ROWS * ROWS * WIDTH * 2) as u64
}

macro_rules! gradient_rows {
    ($vectors:literal: $($rows:literal)*) => {
        GradientTiles { nr: $vectors * ROWS, run: &[$(rows::<$rows, $vectors>),*] }
    };
}

pub(super) static RECORD: Record = Record {
    isa: Isa::Amx,
    f32: SINGLE,
    bf16: Kernels {
        depth: Pairs::DEPTH,
        wide: Tile { mr: MR, nr: 2 * ROWS, run: tile::<2> },
        narrow: Tile { mr: MR, nr: ROWS, run: tile::<1> },
        gradient: &[
            gradient_rows!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            gradient_rows!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
            gradient_rows!(4: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
        ],
        pixels: 512,
        peak: registers,
        begin,
        end,
    },
    winograd: WINOGRAD,
};
