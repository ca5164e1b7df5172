//! The register tiles, written once over a small vector trait and compiled once per instruction set.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod record;
mod tile;
mod winograd;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512bf16::round_block;
pub use record::Isa;
pub(crate) use record::{Kernels, Record, Tile};
pub(crate) use tile::{GradientArgs, TileArgs};
pub(crate) use winograd::{CollectArgs, OUTSIDE, SpreadArgs};

impl Isa {
    /// What it provides.
    pub(crate) fn record(self) -> &'static Record {
        match self {
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &neon::RECORD,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &avx2::RECORD,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &avx512::RECORD,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => &avx512bf16::RECORD,
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => &amx::RECORD,
            _ => &portable::RECORD,
        }
    }
}
