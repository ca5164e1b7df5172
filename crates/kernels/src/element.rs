//! What tensors are stored as: 32-bit floats, or bfloat16 or half precision where memory and multipliers are dear.

use crate::isa::{Kernels, Record};

pub use crate::bf16::Bf16;
pub use crate::f16::F16;

/// A type of element by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    #[default]
    F32,
    /// The upper half of a 32-bit float: 8 bits of exponent, 8 significant bits.
    Bf16,
    /// IEEE 754 half precision: 5 bits of exponent, 11 significant bits. On GPUs only.
    F16,
}

impl DType {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F16 => "f16",
        }
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::Bf16 | DType::F16 => 2,
        }
    }
}

/// An element of a tensor. Kernels compute in f32 and store what this makes of it.
pub trait Element: Stored + Copy + Default + PartialEq + std::fmt::Debug + Send + Sync {
    /// Which type it is.
    const DTYPE: DType;

    /// The nearest value, ties to even; NaN stays NaN.
    fn from_f32(x: f32) -> Self;

    /// The value, exactly.
    fn to_f32(self) -> f32;

    /// The larger of two; NaN if either is.
    fn larger(self, other: Self) -> Self;

    /// Memory of floats, read as elements.
    fn view(floats: &[f32]) -> &[Self];

    /// Memory of floats, written as elements.
    fn view_mut(floats: &mut [f32]) -> &mut [Self];

    /// The values themselves where they are floats.
    fn floats(values: &[Self]) -> Option<&[f32]>;

    /// As [`Self::floats`], to be written.
    fn floats_mut(values: &mut [Self]) -> Option<&mut [f32]>;

    /// The elements of a slice that holds this type; empty where it holds another.
    fn of(slice: Slice<'_>) -> &[Self];

    /// A slice whose type is known at run time only.
    fn slice(values: &[Self]) -> Slice<'_>;
}

/// Seals [`Element`], and knows the kernels of its type.
pub trait Stored: Sized + 'static {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn kernels(record: &'static Record) -> &'static Kernels<Self>;

    /// Rounds a block of floats as AVX512-BF16 does.
    ///
    /// # Safety
    /// The CPU runs AVX512-BF16.
    #[doc(hidden)]
    #[cfg(target_arch = "x86_64")]
    unsafe fn round_block(from: &[f32; 32], to: &mut [Self; 32]);
}

impl Stored for f32 {
    #[allow(private_interfaces)]
    fn kernels(record: &'static Record) -> &'static Kernels<f32> {
        &record.f32
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn round_block(from: &[f32; 32], to: &mut [f32; 32]) {
        *to = *from;
    }
}

impl Stored for Bf16 {
    #[allow(private_interfaces)]
    fn kernels(record: &'static Record) -> &'static Kernels<Bf16> {
        &record.bf16
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn round_block(from: &[f32; 32], to: &mut [Bf16; 32]) {
        // SAFETY: by the caller's contract; the arrays are as long as two registers and one.
        unsafe { crate::isa::round_block(from, to) }
    }
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    // Without a choice between two values as they are: stored over one of them, it would become a masked store, which
    // is slow.
    #[inline(always)]
    fn larger(self, other: f32) -> f32 {
        // Either comparison gives its second value if one of them is NaN; otherwise both are the same.
        let first = if self > other { self } else { other };
        let second = if other > self { other } else { self };
        f32::from_bits(first.to_bits() | second.to_bits())
    }

    fn view(floats: &[f32]) -> &[f32] {
        floats
    }

    fn view_mut(floats: &mut [f32]) -> &mut [f32] {
        floats
    }

    fn floats(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }

    fn floats_mut(values: &mut [f32]) -> Option<&mut [f32]> {
        Some(values)
    }

    fn of(slice: Slice<'_>) -> &[f32] {
        slice.f32()
    }

    fn slice(values: &[f32]) -> Slice<'_> {
        Slice::F32(values)
    }
}

impl Element for Bf16 {
    const DTYPE: DType = DType::Bf16;

    #[inline(always)]
    fn from_f32(x: f32) -> Bf16 {
        Bf16::nearest(x)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.value()
    }

    #[inline(always)]
    fn larger(self, other: Bf16) -> Bf16 {
        // Whole numbers in the order of the values: negative ones with all bits but the sign turned over, NaN above all.
        let turn = |x: u16| x ^ ((x as i16 >> 15) as u16 >> 1);
        let order = |Bf16(x): Bf16| turn(if x & 0x7fff > 0x7f80 { x & 0x7fff } else { x }) as i16;
        Bf16(turn(order(self).max(order(other)) as u16))
    }

    fn view(floats: &[f32]) -> &[Bf16] {
        // SAFETY: every bit pattern is a Bf16, of half a float's size and weaker alignment.
        unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), 2 * floats.len()) }
    }

    fn view_mut(floats: &mut [f32]) -> &mut [Bf16] {
        // SAFETY: as above, every bit pattern is a float too, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 2 * floats.len()) }
    }

    fn floats(_: &[Bf16]) -> Option<&[f32]> {
        None
    }

    fn floats_mut(_: &mut [Bf16]) -> Option<&mut [f32]> {
        None
    }

    fn of(slice: Slice<'_>) -> &[Bf16] {
        match slice {
            Slice::Bf16(v) => v,
            _ => &[],
        }
    }

    fn slice(values: &[Bf16]) -> Slice<'_> {
        Slice::Bf16(values)
    }
}

/// Elements of a type known at run time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slice<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [Bf16]),
    /// Half precision.
    F16(&'a [F16]),
}

impl<'a, E: Element> From<&'a [E]> for Slice<'a> {
    fn from(values: &'a [E]) -> Slice<'a> {
        E::slice(values)
    }
}

impl<'a, E: Element> From<&'a Vec<E>> for Slice<'a> {
    fn from(values: &'a Vec<E>) -> Slice<'a> {
        E::slice(values)
    }
}

impl<'a, E: Element> From<&&'a [E]> for Slice<'a> {
    fn from(values: &&'a [E]) -> Slice<'a> {
        E::slice(values)
    }
}

impl<'a> From<&'a [F16]> for Slice<'a> {
    fn from(values: &'a [F16]) -> Slice<'a> {
        Slice::F16(values)
    }
}

impl<'a> From<&'a Vec<F16>> for Slice<'a> {
    fn from(values: &'a Vec<F16>) -> Slice<'a> {
        Slice::F16(values)
    }
}

impl<'a> Slice<'a> {
    /// Number of elements.
    pub fn len(self) -> usize {
        match self {
            Slice::F32(v) => v.len(),
            Slice::Bf16(v) => v.len(),
            Slice::F16(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Which type they are.
    pub fn dtype(self) -> DType {
        match self {
            Slice::F32(_) => DType::F32,
            Slice::Bf16(_) => DType::Bf16,
            Slice::F16(_) => DType::F16,
        }
    }

    /// The floats; empty where these are none.
    pub fn f32(self) -> &'a [f32] {
        match self {
            Slice::F32(v) => v,
            _ => &[],
        }
    }

    /// Their values as floats, which is exact.
    pub fn to_f32(self) -> Vec<f32> {
        match self {
            Slice::F32(v) => v.to_vec(),
            Slice::Bf16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Slice::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
        }
    }
}

/// Owned elements of a type known at run time.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// bfloat16.
    Bf16(Vec<Bf16>),
    /// Half precision.
    F16(Vec<F16>),
}

impl Default for Values {
    fn default() -> Values {
        Values::F32(Vec::new())
    }
}

impl Values {
    /// None yet, with room for `capacity`.
    pub fn with_capacity(dtype: DType, capacity: usize) -> Values {
        match dtype {
            DType::F32 => Values::F32(Vec::with_capacity(capacity)),
            DType::Bf16 => Values::Bf16(Vec::with_capacity(capacity)),
            DType::F16 => Values::F16(Vec::with_capacity(capacity)),
        }
    }

    /// These floats, each rounded to the nearest value of that type.
    pub fn nearest(dtype: DType, floats: Vec<f32>) -> Values {
        match dtype {
            DType::F32 => Values::F32(floats),
            DType::Bf16 => Values::Bf16(floats.into_iter().map(Bf16::from_f32).collect()),
            DType::F16 => Values::F16(floats.into_iter().map(F16::from_f32).collect()),
        }
    }

    /// All of them.
    pub fn as_slice(&self) -> Slice<'_> {
        match self {
            Values::F32(v) => Slice::F32(v),
            Values::Bf16(v) => Slice::Bf16(v),
            Values::F16(v) => Slice::F16(v),
        }
    }

    /// Copies `values`, of any type, in the place of what is here.
    pub fn replace(&mut self, values: Slice<'_>) {
        match (&mut *self, values) {
            (Values::F32(v), Slice::F32(values)) => {
                v.clear();
                v.extend_from_slice(values);
            }
            (Values::Bf16(v), Slice::Bf16(values)) => {
                v.clear();
                v.extend_from_slice(values);
            }
            (Values::F16(v), Slice::F16(values)) => {
                v.clear();
                v.extend_from_slice(values);
            }
            (_, values) => {
                *self = Values::with_capacity(values.dtype(), values.len());
                self.extend(values);
            }
        }
    }

    /// Appends values of the same type.
    ///
    /// # Panics
    /// If they are of another type.
    pub fn extend(&mut self, more: Slice<'_>) {
        match (self, more) {
            (Values::F32(v), Slice::F32(more)) => v.extend_from_slice(more),
            (Values::Bf16(v), Slice::Bf16(more)) => v.extend_from_slice(more),
            (Values::F16(v), Slice::F16(more)) => v.extend_from_slice(more),
            (held, more) => {
                panic!("{} appended to {}", more.dtype().name(), held.as_slice().dtype().name())
            }
        }
    }

    /// The rows of `length` elements with these numbers, replacing what `rows` holds.
    ///
    /// # Panics
    /// If there is no such row, or these are not rows of `length`.
    pub fn gather(&self, length: usize, numbers: &[usize], rows: &mut Values) {
        fn copy<E: Copy>(from: &[E], length: usize, numbers: &[usize], to: &mut Vec<E>) {
            to.clear();
            if length == 0 {
                return;
            }
            assert!(from.len().is_multiple_of(length), "not rows of {length}");
            let rows = from.len() / length;
            assert!(numbers.iter().all(|&i| i < rows), "a row above {rows}");
            numbers.iter().for_each(|&i| to.extend_from_slice(&from[i * length..][..length]));
        }
        match (self, rows) {
            (Values::F32(from), Values::F32(to)) => copy(from, length, numbers, to),
            (Values::Bf16(from), Values::Bf16(to)) => copy(from, length, numbers, to),
            (Values::F16(from), Values::F16(to)) => copy(from, length, numbers, to),
            (held, rows) => {
                *rows = Values::with_capacity(held.as_slice().dtype(), 0);
                held.gather(length, numbers, rows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        let round = |x: f32| Bf16::from_f32(x).to_f32();
        for exact in [0.0, -0.0, 1.0, -1.5, 3.0e38, f32::INFINITY, f32::NEG_INFINITY, 1e-40] {
            if f32::to_bits(exact) & 0xffff == 0 {
                assert_eq!(round(exact).to_bits(), exact.to_bits());
            }
        }
        // 1 and its successor 1 + 2^-7: half way goes to the even one, below and above to the nearest.
        assert_eq!(round(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(round(1.0 + 3.0 / 256.0), 1.0 + 1.0 / 64.0);
        assert_eq!(round(1.0 + 1.1 / 256.0), 1.0 + 1.0 / 128.0);
        assert_eq!(round(f32::MAX), f32::INFINITY);
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff, 0x7fc0_0000] {
            assert!(round(f32::from_bits(bits)).is_nan());
        }
        for bits in 0..=u16::MAX {
            let x = Bf16(bits);
            let same = Bf16::from_f32(x.to_f32());
            assert!(same == x || x.to_f32().is_nan() && same.to_f32().is_nan());
        }
    }

    #[test]
    fn the_larger_is_larger_and_nan_spreads() {
        fn check<E: Element>() {
            let values = [-f32::INFINITY, -2.5, -1e-38, -0.0, 0.0, 1e-38, 1.0, 2.5, f32::INFINITY];
            for (i, &a) in values.iter().enumerate() {
                for (j, &b) in values.iter().enumerate() {
                    let got = E::from_f32(a).larger(E::from_f32(b)).to_f32();
                    assert_eq!(got, E::from_f32(values[i.max(j)]).to_f32(), "{a} and {b}");
                }
                for nan in [f32::NAN, -f32::NAN] {
                    let (a, nan) = (E::from_f32(a), E::from_f32(nan));
                    assert!(a.larger(nan).to_f32().is_nan() && nan.larger(a).to_f32().is_nan());
                }
            }
        }
        check::<f32>();
        check::<Bf16>();
    }

    #[test]
    fn floats_are_seen_as_twice_as_many_halves() {
        let mut floats = [1.0f32, -2.0];
        Bf16::view_mut(&mut floats)[0] = Bf16(1);
        assert_eq!(Bf16::view(&floats).len(), 4);
        assert_eq!(f32::view(&floats), floats);
    }
}
