//! IEEE 754 half precision: 5 bits of exponent and 11 significant bits. GPUs store it; no kernel here computes with it.

/// A half-precision float.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct F16(pub u16);

impl std::fmt::Debug for F16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_f32().fmt(f)
    }
}

/// The bits of the least float that is rounded to infinity, and of the least normal number.
const INFINITE: u32 = 0x477f_f000;
const NORMAL: u32 = 0x3880_0000;

impl F16 {
    /// The nearest value, ties to even; NaN stays NaN, and what is too large is infinite.
    pub fn from_f32(x: f32) -> F16 {
        let bits = x.to_bits();
        let (sign, size) = (bits >> 16 & 0x8000, bits & 0x7fff_ffff);
        let magnitude = match size {
            0x7f80_0001.. => 0x7e00,
            INFINITE.. => 0x7c00,
            // The exponent counts from 15 and no longer from 127.
            NORMAL.. => ((size + 0xfff + (size >> 13 & 1)) >> 13) - (112 << 10),
            _ => (f32::from_bits(size) * (1u32 << 24) as f32).round_ties_even() as u32,
        };
        F16((sign | magnitude) as u16)
    }

    /// The value, exactly.
    pub fn to_f32(self) -> f32 {
        let bits = u32::from(self.0);
        let (sign, exponent, mantissa) = (bits >> 15, bits >> 10 & 31, bits & 0x3ff);
        let magnitude = match exponent {
            0 => mantissa as f32 * 2f32.powi(-24),
            31 if mantissa == 0 => f32::INFINITY,
            31 => f32::NAN,
            _ => f32::from_bits(((exponent + 112) << 23) | (mantissa << 13)),
        };
        if sign == 1 { -magnitude } else { magnitude }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        for bits in 0..=u16::MAX {
            let x = F16(bits);
            let same = F16::from_f32(x.to_f32());
            assert!(same == x || x.to_f32().is_nan() && same.to_f32().is_nan(), "{bits:x}");
        }
        // Half way between neighbours, and a little to both sides of it: normal, subnormal, and over the largest.
        for bits in [0x3c00u16, 0x3c01, 0x0000, 0x0001, 0x03ff, 0x0400, 0x7bfe, 0x7bff] {
            let (low, high) = (F16(bits).to_f32(), F16(bits + 1).to_f32());
            let middle = if high == f32::INFINITY { 65520.0 } else { (low + high) / 2.0 };
            let even = F16(bits + bits % 2);
            for (value, expected) in [
                (middle, even),
                (f32::from_bits(middle.to_bits() - 1), F16(bits)),
                (f32::from_bits(middle.to_bits() + 1), F16(bits + 1)),
            ] {
                assert_eq!(F16::from_f32(value), expected, "{value:e}");
                assert_eq!(F16::from_f32(-value).0, expected.0 | 0x8000, "{value:e}");
            }
        }
        assert_eq!(F16::from_f32(f32::MIN_POSITIVE / 2.0), F16(0));
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff] {
            assert!(F16::from_f32(f32::from_bits(bits)).to_f32().is_nan());
        }
    }
}
