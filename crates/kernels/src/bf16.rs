//! bfloat16: 8 bits of exponent and 8 significant bits.

/// The upper half of an `f32`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl std::fmt::Debug for Bf16 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value().fmt(f)
    }
}

impl Bf16 {
    /// The nearest value, ties to even; NaN stays NaN.
    #[inline(always)]
    pub(crate) fn nearest(x: f32) -> Bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // Adding could carry a NaN into infinity; a quiet NaN is its upper half with this bit set.
        let nan = bits >> 16 | 0x40;
        Bf16(if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded } as u16)
    }

    /// The value, exactly.
    #[inline(always)]
    pub(crate) fn value(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}
