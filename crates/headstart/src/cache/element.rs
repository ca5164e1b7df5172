//! How values lie in a row: their type, and which tensors follow each other.

/// Type of a kept value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float; exact for values that were computed in bf16.
    Bf16,
}

impl Element {
    /// Bytes of a value.
    pub fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }

    /// Its number in the file's header.
    pub(super) fn code(self) -> u32 {
        match self {
            Element::F32 => 0,
            Element::Bf16 => 1,
        }
    }

    /// Appends `values`, little-endian. Whether all are exactly representable.
    pub fn encode(self, values: &[f32], out: &mut Vec<u8>) -> bool {
        match self {
            Element::F32 => {
                out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                true
            }
            Element::Bf16 => {
                out.extend(values.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()));
                values.iter().all(|v| v.to_bits() & 0xffff == 0)
            }
        }
    }

    /// Appends the values that `bytes` hold.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Element::F32 => {
                let values = bytes.chunks_exact(4);
                out.extend(values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
            Element::Bf16 => {
                let values = bytes.chunks_exact(2);
                out.extend(values.map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])));
            }
        }
    }
}

/// What a row holds: one tensor after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Type of every value.
    pub element: Element,
    /// Values of each tensor per image.
    pub elements: Vec<usize>,
}

impl Layout {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.elements.iter().sum::<usize>() * self.element.size()
    }

    /// The bytes of each tensor in a row, in order.
    pub fn split<'r>(&self, row: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
        let size = self.element.size();
        let mut rest = row;
        self.elements.iter().map(move |n| {
            let (tensor, after) = rest.split_at(n * size);
            rest = after;
            tensor
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_exactly_or_are_said_not_to() {
        let exact = [0.0, -0.0, 1.0, -2.5, f32::INFINITY, 1e30f32.to_bits() as f32];
        let bf16: Vec<f32> =
            exact.iter().map(|v| f32::from_bits(v.to_bits() & 0xffff_0000)).collect();
        for (element, values) in [(Element::F32, &exact[..]), (Element::Bf16, &bf16[..])] {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            assert!(element.encode(values, &mut bytes));
            assert_eq!(bytes.len(), values.len() * element.size());
            element.decode(&bytes, &mut back);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back), bits(values));
        }
        assert!(!Element::Bf16.encode(&[0.1], &mut Vec::new()));
    }

    #[test]
    fn a_row_splits_into_its_tensors() {
        let layout = Layout { element: Element::Bf16, elements: vec![3, 1] };
        assert_eq!(layout.row_bytes(), 8);
        let row: Vec<u8> = (0..8).collect();
        assert_eq!(layout.split(&row).collect::<Vec<_>>(), [&row[..6], &row[6..]]);
    }
}
