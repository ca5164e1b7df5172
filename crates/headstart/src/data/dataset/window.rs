//! A part of a file as a file of its own.

use std::io::{self, Read, Seek, SeekFrom};

/// `length` bytes of `file` from `start` on.
pub(crate) struct Window<F> {
    file: F,
    start: u64,
    length: u64,
    at: u64,
}

impl<F: Read + Seek> Window<F> {
    /// The part, at its first byte.
    pub fn new(mut file: F, start: u64, length: u64) -> io::Result<Window<F>> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Window { file, start, length, at: 0 })
    }
}

impl<F: Read> Read for Window<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let got = (&mut self.file).take(left).read(buffer)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl<F: Seek> Seek for Window<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let at = at.ok_or_else(invalid)?;
        self.file.seek(SeekFrom::Start(self.start.checked_add(at).ok_or_else(invalid)?))?;
        self.at = at;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_and_ends_where_it_is_told_to() {
        let mut window = Window::new(io::Cursor::new(b"0123456789"), 2, 5).unwrap();
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "23456");
        let mut byte = [0];
        for (to, want) in [(SeekFrom::End(-1), b"6"), (SeekFrom::Start(1), b"3")] {
            window.seek(to).unwrap();
            window.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, want);
        }
        window.seek_relative(1).unwrap();
        assert_eq!(window.read(&mut byte).unwrap(), 1);
        assert_eq!(&byte, b"5");
        assert_eq!(window.seek(SeekFrom::Start(9)).unwrap(), 9);
        assert_eq!(window.read(&mut byte).unwrap(), 0);
        assert!(window.seek(SeekFrom::End(-6)).is_err());
    }
}
