//! Lists in JSON that take no more memory than what they hold: bytes of a tensor, and short lists.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// Most axes of a tensor.
const AXES: usize = 8;
/// Most entries of a short list.
const FEW: usize = 16;

/// The bytes of a tensor, whose lists may be nested as its shape says or be flat.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flat(pub Vec<u8>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flat, D::Error> {
        let mut bytes = Vec::new();
        Level { bytes: &mut bytes, depth: 0 }.deserialize(deserializer)?;
        Ok(Flat(bytes))
    }
}

/// A list, or a number of one, at some depth.
struct Level<'a> {
    bytes: &'a mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("a list of whole numbers from 0 to 255"),
            _ => f.write_str("a whole number from 0 to 255"),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let byte = u8::try_from(value).ok().filter(|_| self.depth > 0);
        self.bytes.push(byte.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))?);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.depth == AXES {
            return Err(A::Error::custom("lists in lists, deeper than any tensor"));
        }
        let Level { bytes, depth } = self;
        while list.next_element_seed(Level { bytes: &mut *bytes, depth: depth + 1 })?.is_some() {}
        Ok(())
    }
}

/// A list of a few things.
#[derive(Debug, PartialEq, Eq)]
pub struct Few<T>(pub Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Few<T>, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {FEW}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Vec::new();
        while let Some(value) = list.next_element()? {
            if few.len() == FEW {
                return Err(A::Error::invalid_length(FEW + 1, &self));
            }
            few.push(value);
        }
        Ok(Few(few))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_bytes_however_they_are_nested() {
        let read = |text: &str| serde_json::from_str::<Flat>(text).map(|flat| flat.0);
        for text in
            ["[1,2,3,255]", "[[1,2],[3,255]]", "[[[1],[2]],[[3],[255]]]", " [ 1, [2], 3,255]"]
        {
            assert_eq!(read(text).unwrap(), [1, 2, 3, 255], "{text}");
        }
        assert_eq!(read("[]").unwrap(), [0u8; 0]);
        for text in
            ["[256]", "[-1]", "[1.5]", "[\"1\"]", "[null]", "7", "{}", "[1", "[[[[[[[[[1]]]]]]]]]"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
    }

    #[test]
    fn short_lists_are_short() {
        let read = |n: usize| serde_json::from_str::<Few<u64>>(&format!("{:?}", vec![7; n]));
        assert_eq!(read(16).unwrap().0, [7; 16]);
        assert!(read(17).unwrap_err().to_string().contains("at most 16"));
    }
}
