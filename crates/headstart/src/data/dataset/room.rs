//! Memory that a data set's names, labels and encoded images may take while it is opened.

use super::Limits;
use crate::memory::Claim;

/// What is left of [`Limits::encoded_bytes`], counted in the memory for reading.
pub(crate) struct Room {
    most: u64,
    left: u64,
    claim: Claim,
}

/// What a file or row takes beside its text: places in lists and maps, and allocations.
pub(crate) const ENTRY: u64 = 256;

impl Room {
    pub fn new(limits: &Limits) -> Room {
        Room { most: limits.encoded_bytes, left: limits.encoded_bytes, claim: Claim::default() }
    }

    /// Counts this many bytes; if there is no room for them, the text that says what is too much.
    pub fn take(&mut self, bytes: u64) -> Result<(), String> {
        let rest = self.left.checked_sub(bytes);
        let rest = rest.ok_or_else(|| {
            let most = self.most >> 20;
            format!("more than {most} MiB of images, names and labels (--memory-limit)")
        })?;
        self.claim.grow(bytes).map_err(|over| over.to_string())?;
        self.left = rest;
        Ok(())
    }

    /// Gives back what [`Room::take`] counted.
    pub fn give_back(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(self.most);
        self.claim.shrink(bytes);
    }
}

/// Bytes that a path takes, and its copies in the lists that are made of it.
pub(crate) fn path(names: &[String]) -> u64 {
    let text: u64 = names.iter().map(|name| (size_of::<String>() + name.len()) as u64).sum();
    ENTRY + 2 * text
}

/// Bytes that a text takes.
pub(crate) fn text(text: &str) -> u64 {
    (size_of::<String>() + text.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ends_where_the_limit_is() {
        let limits = Limits { encoded_bytes: 3 << 20, ..Limits::default() };
        let mut room = Room::new(&limits);
        assert!(room.take(2 << 20).is_ok());
        assert!(room.take((1 << 20) + 1).unwrap_err().contains("3 MiB"));
        assert!(room.take(1 << 20).is_ok() && room.take(1).is_err() && room.take(0).is_ok());
        room.give_back(5);
        assert!(room.take(5).is_ok() && room.take(u64::MAX).is_err());
    }
}
