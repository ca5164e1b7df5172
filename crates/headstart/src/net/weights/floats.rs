//! Stored numbers as 32-bit floats.

use headstart_kernels::element::F16;

/// How a file stores a tensor's elements, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    F64,
    F16,
    Bf16,
}

impl Stored {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Stored::F64 => 8,
            Stored::F32 => 4,
            Stored::F16 | Stored::Bf16 => 2,
        }
    }

    /// The name that listings show.
    pub fn name(self) -> &'static str {
        match self {
            Stored::F32 => "f32",
            Stored::F64 => "f64",
            Stored::F16 => "f16",
            Stored::Bf16 => "bf16",
        }
    }

    /// The numbers in `bytes`; what is left over at the end is dropped.
    pub fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Stored::F32 => each(bytes, f32::from_le_bytes),
            Stored::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Stored::F16 => each(bytes, |b| F16(u16::from_le_bytes(b)).to_f32()),
            Stored::Bf16 => each(bytes, |[low, high]| f32::from_le_bytes([0, 0, low, high])),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&b| number(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read_exactly() {
        for (bits, value) in [
            (0x3c00u16, 1.0f32),
            (0xc000, -2.0),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(Stored::F16.read(&bits.to_le_bytes()), [value]);
        }
        assert!(Stored::F16.read(&0x7e00u16.to_le_bytes())[0].is_nan());
    }

    #[test]
    fn every_kind_reads_its_own_bytes() {
        assert_eq!(Stored::F32.read(&1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(Stored::F64.read(&(-0.1f64).to_le_bytes()), [-0.1]);
        // bfloat16 is the upper half of a float.
        assert_eq!(Stored::Bf16.read(&[0x49, 0x40, 0x80, 0xbf]), [3.140_625, -1.0]);
        assert_eq!(Stored::F32.read(&[0, 0, 128, 63, 7]), [1.0]);
    }
}
