//! What an instruction set is, and the record of what it provides.

use std::fmt;

use super::tile::{GradientArgs, TileArgs};
use super::winograd::Transforms;
use crate::bf16::Bf16;

/// An instruction set headstart has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, vectorised by the compiler for the build's baseline.
    Portable,
    /// NEON, of 64-bit Arm.
    Neon,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
    /// AVX-512F with products of bfloat16.
    Avx512Bf16,
    /// AMX: tiles of bfloat16, beside AVX512-BF16.
    Amx,
}

impl Isa {
    /// All of them, the narrowest first.
    pub const ALL: [Isa; 6] =
        [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Amx];

    /// Its name, as `HEADSTART_ISA` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// Whether this CPU runs it.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Isa::Avx2.available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Isa::Avx512.available(),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Isa::Avx512Bf16.available() && super::amx::available(),
            _ => false,
        }
    }

    /// Whether it multiplies bfloat16 by itself.
    pub fn multiplies_bf16(self) -> bool {
        matches!(self, Isa::Avx512Bf16 | Isa::Amx)
    }

    /// The widest one this CPU runs.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Portable)
    }

    /// The one `HEADSTART_ISA` names, else the best; empty counts as unset.
    ///
    /// # Errors
    /// A message, if the variable names an unknown instruction set or one this CPU lacks.
    pub fn from_env() -> Result<Isa, String> {
        let name = std::env::var_os("HEADSTART_ISA").unwrap_or_default();
        let name = name.to_string_lossy();
        if name.is_empty() {
            return Ok(Isa::best());
        }
        let known = || Isa::ALL.map(Isa::name).join(", ");
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| format!("HEADSTART_ISA: expected one of {}, found {name:?}", known()))?;
        if isa.available() {
            Ok(isa)
        } else {
            Err(format!("HEADSTART_ISA: this CPU does not run {name}; its best is {}", Isa::best()))
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A register tile with its sizes. `run` needs the record's instruction set.
#[derive(Debug)]
pub(crate) struct Tile<E: 'static> {
    /// Rows of the output (pixels).
    pub mr: usize,
    /// Columns of the output (channels), also the width of a packed panel.
    pub nr: usize,
    /// Computes one tile.
    pub run: unsafe fn(&TileArgs<E>),
}

/// The tiles of the kernel gradient for panels of one width. They need the record's instruction set.
#[derive(Debug)]
pub(crate) struct GradientTiles<E: 'static> {
    /// Columns of the kernel gradient (channels), also the width of a panel.
    pub nr: usize,
    /// Entry `i` computes `i + 1` rows.
    pub run: &'static [unsafe fn(&GradientArgs<E>)],
}

/// The kernels of one instruction set for one type of element.
#[derive(Debug)]
pub(crate) struct Kernels<E: 'static> {
    /// Neighbours in the reduction that stand together in packed operands.
    pub depth: usize,
    /// For outputs of many channels.
    pub wide: Tile<E>,
    /// For outputs of few channels.
    pub narrow: Tile<E>,
    /// Kernel gradient, the narrowest panels first.
    pub gradient: &'static [GradientTiles<E>],
    /// Pixels of the kernel gradient that are packed and kept in cache at a time: more of them leave sums in registers longer.
    pub pixels: usize,
    /// Runs `n` rounds of independent multiply-adds in registers; returns the operations done.
    pub peak: unsafe fn(u64) -> u64,
    /// What a thread calls before it runs tiles.
    pub begin: unsafe fn(),
    /// What it calls after them.
    pub end: unsafe fn(),
}

/// For instruction sets whose registers are always ready.
pub(super) fn ready() {}

impl<E> Kernels<E> {
    /// The tile for outputs of `columns` channels.
    pub fn tile(&self, columns: usize) -> &Tile<E> {
        if columns <= self.wide.nr / 2 { &self.narrow } else { &self.wide }
    }

    /// The tiles of the kernel gradient that waste least on `columns` columns.
    pub fn gradient(&self, columns: usize) -> &GradientTiles<E> {
        let fits = self.gradient.iter().find(|tiles| columns <= tiles.nr);
        fits.unwrap_or(&self.gradient[self.gradient.len() - 1])
    }
}

/// Everything one instruction set provides; sizes and functions cannot be mixed between sets.
#[derive(Debug)]
pub(crate) struct Record {
    /// The instruction set.
    pub isa: Isa,
    /// For floats.
    pub f32: Kernels<f32>,
    /// For bfloat16.
    pub bf16: Kernels<Bf16>,
    /// Transforms of 3x3 convolutions of floats.
    pub winograd: Transforms,
}

/// The gradient tiles `$run::<$arithmetic, rows, $vectors>` for the listed rows.
macro_rules! gradient_tiles {
    ($run:ident, $arithmetic:ty, $nr:literal = $vectors:literal vectors, rows $($rows:literal)*) => {
        GradientTiles { nr: $nr, run: &[$($run::<$arithmetic, $rows, $vectors>),*] }
    };
}
pub(super) use gradient_tiles;
