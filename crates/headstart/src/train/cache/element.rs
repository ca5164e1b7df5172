//! How values are stored in a row: tensor after tensor, each of its own type, little-endian.

use headstart_kernels::element::{Bf16, DType, F16, Slice, Values};

/// What a row holds: for each tensor its type and the number of its elements per image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The tensors, in order.
    pub tensors: Vec<(DType, usize)>,
}

impl Layout {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.tensors.iter().map(|(dtype, n)| dtype.bytes() * n).sum()
    }

    /// The bytes of each tensor in a row, in order.
    pub fn split<'r>(&self, row: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
        let mut rest = row;
        self.tensors.iter().map(move |(dtype, n)| {
            let (tensor, after) = rest.split_at(dtype.bytes() * n);
            rest = after;
            tensor
        })
    }

    /// Which of the first 32 tensors have elements of two bytes, as bits; of which type they are, the key says.
    pub(super) fn code(&self) -> u32 {
        let halves = self.tensors.iter().map(|(dtype, _)| u32::from(dtype.bytes() == 2));
        halves.take(32).enumerate().fold(0, |code, (i, half)| code | half << i)
    }
}

/// `count` elements from `start` on.
///
/// # Panics
/// If there are fewer.
pub fn part(values: Slice<'_>, start: usize, count: usize) -> Slice<'_> {
    match values {
        Slice::F32(v) => Slice::F32(&v[start..][..count]),
        Slice::Bf16(v) => Slice::Bf16(&v[start..][..count]),
        Slice::F16(v) => Slice::F16(&v[start..][..count]),
    }
}

/// Appends values as bytes.
pub fn encode(values: Slice<'_>, out: &mut Vec<u8>) {
    match values {
        Slice::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Slice::Bf16(v) => out.extend(v.iter().flat_map(|x| x.0.to_le_bytes())),
        Slice::F16(v) => out.extend(v.iter().flat_map(|x| x.0.to_le_bytes())),
    }
}

/// Copies the values in `bytes` to position `start` of `out`.
///
/// # Panics
/// If `out` ends before they do.
pub fn decode(bytes: &[u8], out: &mut Values, start: usize) {
    match out {
        Values::F32(v) => {
            for (to, b) in v[start..][..bytes.len() / 4].iter_mut().zip(bytes.chunks_exact(4)) {
                *to = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Values::Bf16(v) => {
            for (to, b) in v[start..][..bytes.len() / 2].iter_mut().zip(bytes.chunks_exact(2)) {
                *to = Bf16(u16::from_le_bytes([b[0], b[1]]));
            }
        }
        Values::F16(v) => {
            for (to, b) in v[start..][..bytes.len() / 2].iter_mut().zip(bytes.chunks_exact(2)) {
                *to = F16(u16::from_le_bytes([b[0], b[1]]));
            }
        }
    }
}

/// Copies values of the same type to position `start` of `out`.
///
/// # Panics
/// If `out` ends before they do or is of another type.
pub fn copy(values: Slice<'_>, out: &mut Values, start: usize) {
    match (values, out) {
        (Slice::F32(v), Values::F32(out)) => out[start..][..v.len()].copy_from_slice(v),
        (Slice::Bf16(v), Values::Bf16(out)) => out[start..][..v.len()].copy_from_slice(v),
        (Slice::F16(v), Values::F16(out)) => out[start..][..v.len()].copy_from_slice(v),
        (values, _) => panic!("{} put among others", values.dtype().name()),
    }
}

/// Types and elements per image of some tensors.
pub trait Tensors {
    /// Makes room for the values of `count` images; their contents are undefined.
    fn fit(&self, count: usize, values: &mut Vec<Values>);
}

impl Tensors for [(DType, usize)] {
    fn fit(&self, count: usize, values: &mut Vec<Values>) {
        values.resize(self.len(), Values::default());
        for (values, &(dtype, n)) in values.iter_mut().zip(self) {
            fit(values, dtype, n * count);
        }
    }
}

/// Makes `values` this many values of that type; their contents are undefined.
fn fit(values: &mut Values, dtype: DType, count: usize) {
    match (values, dtype) {
        (Values::F32(v), DType::F32) => v.resize(count, 0.0),
        (Values::Bf16(v), DType::Bf16) => v.resize(count, Bf16::default()),
        (Values::F16(v), DType::F16) => v.resize(count, F16::default()),
        (values, dtype) => *values = Values::nearest(dtype, vec![0.0; count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_bit_for_bit() {
        let floats = [0.0f32, -0.0, 1.0, -2.5, f32::INFINITY, 1e-42, 3.4e38];
        let halves: Vec<Bf16> = (0..=u16::MAX).step_by(257).map(Bf16).collect();
        let others: Vec<F16> = halves.iter().map(|half| F16(half.0)).collect();
        for values in [Slice::F32(&floats), Slice::Bf16(&halves), Slice::F16(&others)] {
            let (mut bytes, mut back) = (Vec::new(), Values::default());
            encode(values, &mut bytes);
            assert_eq!(bytes.len(), values.len() * values.dtype().bytes());
            fit(&mut back, values.dtype(), values.len() + 2);
            decode(&bytes, &mut back, 1);
            let mut again = Vec::new();
            encode(part(back.as_slice(), 1, values.len()), &mut again);
            assert_eq!(again, bytes);
            fit(&mut back, values.dtype(), values.len());
            copy(values, &mut back, 0);
            again.clear();
            encode(back.as_slice(), &mut again);
            assert_eq!(again, bytes);
        }
    }

    #[test]
    fn a_row_splits_into_its_tensors() {
        let layout = Layout { tensors: vec![(DType::Bf16, 3), (DType::F32, 1)] };
        assert_eq!((layout.row_bytes(), layout.code()), (10, 1));
        let row: Vec<u8> = (0..10).collect();
        assert_eq!(layout.split(&row).collect::<Vec<_>>(), [&row[..6], &row[6..]]);
    }
}
