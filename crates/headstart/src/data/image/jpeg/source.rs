//! The bytes of a file as markers and as bits (ITU-T T.81, F.2.2.5 and annex B).

use super::Fault;

/// Restart markers, from `RST0` on.
const RST0: u8 = 0xd0;
/// The first marker that starts a frame; smaller ones mean nothing.
const SOF0: u8 = 0xc0;

/// Where reading stands.
pub(super) struct Source<'a> {
    data: &'a [u8],
    at: usize,
    /// A marker that was found and not yet dealt with.
    pub unread: Option<u8>,
    /// The bits that come next, the first one highest; zeros below them.
    bits: u64,
    /// How many of `bits` are of the file; negative after more were taken.
    count: i32,
}

impl<'a> Source<'a> {
    pub fn new(data: &'a [u8]) -> Source<'a> {
        Source { data, at: 0, unread: None, bits: 0, count: 0 }
    }

    pub fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.data.get(self.at).ok_or(Fault::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// Two bytes, the higher first.
    pub fn word(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(self.byte()?) << 8 | usize::from(self.byte()?))
    }

    /// The body of a marker segment, whose length comes first. Segments that mean nothing here may say that they are
    /// shorter than their length itself.
    pub fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.word()?.saturating_sub(2);
        let body = self.data.get(self.at..self.at + length).ok_or(Fault::End)?;
        self.at += length;
        Ok(body)
    }

    /// The body of a marker segment and its length for `read`, which returns [`Fault::End`] if the body is too short for what it
    /// announces. If the file ends in it, what is there is read, so that a fault in it comes before the end.
    pub fn read(
        &mut self,
        read: impl FnOnce(&[u8], usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let bad = Fault::Bad("a segment of wrong length");
        let length = self.word()?.checked_sub(2).ok_or(bad)?;
        let end = self.data.len().min(self.at + length);
        let body = &self.data[self.at..end];
        self.at = end;
        match read(body, length) {
            Err(Fault::End) if body.len() == length => Err(bad),
            Ok(()) if body.len() < length => Err(Fault::End),
            other => other,
        }
    }

    /// The unread marker, or the next one; what stands before it is passed over.
    pub fn marker(&mut self) -> Result<u8, Fault> {
        match self.unread {
            Some(marker) => Ok(marker),
            None => self.next_marker(),
        }
    }

    fn next_marker(&mut self) -> Result<u8, Fault> {
        loop {
            while self.byte()? != 0xff {}
            let mut byte = self.byte()?;
            while byte == 0xff {
                byte = self.byte()?;
            }
            if byte != 0 {
                self.unread = Some(byte);
                return Ok(byte);
            }
        }
    }

    /// Forgets bits that are left of a scan or of an interval.
    pub fn drop_bits(&mut self) {
        (self.bits, self.count) = (0, 0);
    }

    /// Goes to the restart marker of this number (0 to 7). With other markers in its place it does as libjpeg's
    /// `jpeg_resync_to_restart`: it passes over earlier ones, and stays before later ones.
    pub fn restart(&mut self, number: u8) -> Result<(), Fault> {
        let mut marker = self.marker()?;
        loop {
            let ahead = marker.wrapping_sub(RST0 + number) & 7;
            match marker {
                0..SOF0 => marker = self.next_marker()?,
                RST0..=0xd7 if matches!(ahead, 6 | 7) => marker = self.next_marker()?,
                RST0..=0xd7 if !matches!(ahead, 1 | 2) => {
                    self.unread = None;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    /// Whether more bits were taken than there are before the next marker; those beyond were zeros. From then on
    /// there are none.
    pub fn overdrawn(&mut self) -> bool {
        let overdrawn = self.count < 0;
        self.count = self.count.max(0);
        overdrawn
    }

    /// Sees to it that there are 32 bits or more, zeros if no more come before the next marker.
    #[inline(always)]
    pub fn fill(&mut self) -> Result<(), Fault> {
        if self.count < 32 { self.fill_up() } else { Ok(()) }
    }

    fn fill_up(&mut self) -> Result<(), Fault> {
        if self.unread.is_some() {
            return Ok(());
        }
        // There was no marker, so no more bits were taken than there were.
        if let Some(bytes) = self.data[self.at..].first_chunk::<8>() {
            let word = u64::from_be_bytes(*bytes);
            // No byte is 0xff: none overflows when 1 is added to it.
            if word & 0x8080_8080_8080_8080 & !word.wrapping_add(0x0101_0101_0101_0101) == 0 {
                let bytes = (64 - self.count) / 8;
                self.bits |= (word & u64::MAX << (64 - 8 * bytes)) >> self.count;
                self.at += bytes as usize;
                self.count += 8 * bytes;
                return Ok(());
            }
        }
        while self.count <= 56 {
            let byte = self.byte()?;
            if byte == 0xff {
                let mut next = self.byte()?;
                while next == 0xff {
                    next = self.byte()?;
                }
                if next != 0 {
                    self.unread = Some(next);
                    break;
                }
            }
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        Ok(())
    }

    /// The next byte of arithmetic codes, zero if there are no more before the next marker.
    pub fn coded_byte(&mut self) -> Result<u8, Fault> {
        if self.unread.is_some() {
            return Ok(0);
        }
        let byte = self.byte()?;
        if byte != 0xff {
            return Ok(byte);
        }
        let mut next = self.byte()?;
        while next == 0xff {
            next = self.byte()?;
        }
        if next == 0 {
            return Ok(0xff);
        }
        self.unread = Some(next);
        Ok(0)
    }

    /// The next 16 bits or more, the first one highest.
    #[inline(always)]
    pub fn peek(&self) -> u64 {
        self.bits
    }

    /// Takes up to 17 of the bits that [`Source::fill`] has made sure of.
    #[inline(always)]
    pub fn skip(&mut self, count: u32) {
        self.bits <<= count;
        self.count -= count as i32;
    }

    /// Takes up to 16 of the bits that [`Source::fill`] has made sure of.
    #[inline(always)]
    pub fn take(&mut self, count: u32) -> i32 {
        let value = (self.bits >> 32 >> (32 - count)) as i32;
        self.skip(count);
        value
    }

    /// Takes bits of a value that is 2^(count - 1) or more from 0, negative where the first bit is 0.
    #[inline(always)]
    pub fn take_signed(&mut self, count: u32) -> i32 {
        let value = self.take(count);
        if count > 0 && value < 1 << (count - 1) { value - (1 << count) + 1 } else { value }
    }
}
