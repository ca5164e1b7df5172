//! Hashes that published files must have.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// How a hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, which Keras and CIFAR-10's authors publish. No method is known to make a second file with a given MD5,
    /// though two files with the same MD5 can be made.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// `md5` or `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha256 => "sha256",
        }
    }

    /// Bits of a hash.
    pub fn bits(self) -> usize {
        match self {
            Algorithm::Md5 => 128,
            Algorithm::Sha256 => 256,
        }
    }
}

/// A hash that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How it is computed.
    pub algorithm: Algorithm,
    /// Its first hexadecimal digits, in lower case: all of them, or as many as are known.
    pub hex: String,
}

impl Digest {
    /// A hash by its digits, all of them or the first ones.
    pub fn new(algorithm: Algorithm, hex: impl Into<String>) -> Digest {
        Digest { algorithm, hex: hex.into().to_lowercase() }
    }

    /// Bits of the hash that are known. Fewer than [`Algorithm::bits`] guard against damage alone: with 32 of them somebody
    /// finds another file in hours.
    pub fn known_bits(&self) -> usize {
        4 * self.hex.len()
    }

    /// Whether all of the hash is known.
    pub fn is_whole(&self) -> bool {
        self.known_bits() == self.algorithm.bits()
    }

    /// Whether `hex`, a whole hash, matches.
    pub fn matches(&self, hex: &str) -> bool {
        !self.hex.is_empty() && hex.starts_with(&self.hex)
    }

    /// The hash of a file, in hexadecimal, with its length in bytes. `progress` gets how many bytes are done and says
    /// whether to continue; `None` if it stopped.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_file(
        algorithm: Algorithm,
        path: &Path,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<(String, u64)>> {
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let mut hasher = match algorithm {
            Algorithm::Md5 => Hasher::Md5(Md5::new()),
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
        };
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
            if n == 0 {
                return Ok(Some((hasher.finish(), done)));
            }
            match &mut hasher {
                Hasher::Md5(h) => h.update(&buffer[..n]),
                Hasher::Sha256(h) => h.update(&buffer[..n]),
            }
            done += n as u64;
            if !progress(done) {
                return Ok(None);
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bits) = (self.algorithm.name(), self.algorithm.bits());
        match self.is_whole() {
            true => write!(f, "{name} {}", self.hex),
            false => {
                let known = self.known_bits();
                write!(
                    f,
                    "{name} {}..., of which the first {known} of {bits} bits are known",
                    self.hex
                )
            }
        }
    }
}

enum Hasher {
    Md5(Md5),
    Sha256(Sha256),
}

impl Hasher {
    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Hasher::Md5(h) => hex(&h.finalize()),
            Hasher::Sha256(h) => hex(&h.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_1321_and_fips_180() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let of = |algorithm| Digest::of_file(algorithm, &path, &mut |_| true).unwrap().unwrap();
        assert_eq!(of(Algorithm::Md5), ("900150983cd24fb0d6963f7d28e17f72".to_string(), 3));
        let sha = of(Algorithm::Sha256).0;
        assert_eq!(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(Digest::new(Algorithm::Sha256, "BA7816BF").matches(&sha));
        assert!(!Digest::new(Algorithm::Sha256, "ba7816b0").matches(&sha));
        assert!(!Digest::new(Algorithm::Sha256, "").matches(&sha));
        let short = Digest::new(Algorithm::Sha256, "ba78");
        let text = "sha256 ba78..., of which the first 16 of 256 bits are known";
        assert_eq!((short.to_string().as_str(), short.is_whole()), (text, false));
        let whole = Digest::new(Algorithm::Sha256, sha);
        assert!(whole.is_whole() && !whole.to_string().contains("bits"), "{whole}");
        assert!(Digest::of_file(Algorithm::Md5, &path, &mut |_| false).unwrap().is_none());
    }
}
