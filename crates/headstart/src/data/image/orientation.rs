//! How a picture is turned to stand upright, as EXIF blocks and XMP texts say it. What counts where both are there is what
//! Pillow's `ImageOps.exif_transpose` goes by.

use std::io::{Cursor, Read, Seek};

use ::image::metadata::Orientation;

use super::directory::Directory;

/// The tag in EXIF blocks and TIFF files.
const TAG: u16 = 0x0112;
/// The tag of TIFF's XMP text.
const XMP: u16 = 700;
/// Most bytes that are searched of an EXIF block, which has the orientation near its start, and of an XMP text.
pub(super) const MAX_BLOCK: u64 = 1 << 20;

/// What the blocks of a file say. Of several of a kind the last counts.
#[derive(Default)]
pub(super) struct Evidence {
    /// The number in an EXIF block, `Some(None)` where it has none.
    pub exif: Option<Option<u64>>,
    /// The number in EXIF that programs store as hexadecimal text in PNG.
    pub profile: Option<Option<u64>>,
    /// The number in an XMP text.
    pub xmp: Option<u64>,
}

impl Evidence {
    /// Of an XMP text what it says.
    pub fn add_xmp(&mut self, text: &[u8]) {
        self.xmp = in_xmp(text);
    }

    /// The orientation: EXIF's if it has one, else that of XMP.
    pub fn orientation(&self) -> Orientation {
        let exif = self.exif.or(self.profile).flatten();
        let number = exif.or(self.xmp).and_then(|number| u8::try_from(number).ok());
        number.and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
    }
}

/// The number in an EXIF block. It may be of any type of whole numbers; Pillow takes all of these but BYTE.
pub(super) fn in_exif(mut block: &[u8]) -> Option<u64> {
    for _ in 0..2 {
        block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    }
    let mut source = Cursor::new(block);
    let directory = Directory::read(&mut source).ok()??;
    directory.integer(&mut source, TAG).ok()?
}

/// What a TIFF's directory says.
pub(super) fn in_directory(directory: &Directory, source: &mut (impl Read + Seek)) -> Orientation {
    let exif = Some(directory.integer(source, TAG).unwrap_or(None));
    let mut evidence = Evidence { exif, ..Evidence::default() };
    if let Ok(Some(text)) = directory.bytes(source, XMP, MAX_BLOCK) {
        evidence.add_xmp(&text);
    }
    evidence.orientation()
}

/// The number in an XMP text, where it is an attribute or an element.
fn in_xmp(text: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut places = text.windows(NAME.len()).enumerate().filter(|(_, w)| *w == NAME);
    places.find_map(|(at, _)| match &text[at + NAME.len()..] {
        [b'=', b'"' | b'\'', digit @ b'0'..=b'9', ..] | [b'>', digit @ b'0'..=b'9', ..] => {
            Some(u64::from(digit - b'0'))
        }
        _ => None,
    })
}

/// The EXIF block in a text of hexadecimal digits, which ImageMagick writes in PNG: a line of its kind, one with its
/// length, then the digits.
pub(super) fn of_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits: Vec<u8> = lines.flatten().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|d| d as u8);
    digits
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with one tag of this type and value, in the order of this machine's bytes or the other.
    fn block(little: bool, kind: u16, value: u64, width: usize) -> Vec<u8> {
        let order = |value: u64, width: usize| match little {
            true => value.to_le_bytes()[..width].to_vec(),
            false => value.to_be_bytes()[8 - width..].to_vec(),
        };
        let mut bytes = if little { b"II".to_vec() } else { b"MM".to_vec() };
        for (value, width) in [(42, 2), (8, 4), (1, 2), (0x112, 2), (u64::from(kind), 2), (1, 4)] {
            bytes.extend(order(value, width));
        }
        let mut inline = order(value, width);
        match width {
            8 => {
                bytes.extend(order(26, 4));
                bytes.extend(order(0, 4));
            }
            _ => inline.resize(8, 0),
        }
        [bytes, inline].concat()
    }

    #[test]
    fn orientation_may_be_of_any_type_of_whole_numbers() {
        for little in [true, false] {
            let types = [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4), (13, 4), (16, 8), (17, 8)];
            for (kind, width) in types {
                let bytes = block(little, kind, 6, width);
                assert_eq!(in_exif(&bytes), Some(6), "{kind}");
                assert_eq!(in_exif(&[b"Exif\0\0", &bytes[..]].concat()), Some(6));
            }
            // Text, undefined bytes and fractions are none.
            for (kind, width) in [(2, 1), (7, 1), (11, 4), (12, 8)] {
                assert_eq!(in_exif(&block(little, kind, 6, width)), None, "{kind}");
            }
        }
        let exif = Some(in_exif(&block(true, 9, u64::MAX, 4)));
        let upright = Evidence { exif, ..Evidence::default() };
        assert_eq!(upright.orientation(), Orientation::NoTransforms);
    }

    #[test]
    fn xmp_counts_where_exif_has_none() {
        let mut evidence = Evidence::default();
        evidence.add_xmp(b"<x tiff:OrientationX=\"3\" tiff:Orientation=\"6\"/>");
        assert_eq!(evidence.orientation(), Orientation::Rotate90);
        evidence.add_xmp(b"<tiff:Orientation>3</tiff:Orientation>");
        assert_eq!(evidence.orientation(), Orientation::Rotate180);
        evidence.exif = Some(None);
        assert_eq!(evidence.orientation(), Orientation::Rotate180);
        evidence.exif = Some(Some(8));
        assert_eq!(evidence.orientation(), Orientation::Rotate270);
        for text in [&b""[..], b"tiff:Orientation", b"tiff:Orientation=\"", b"tiff:Orientation>x"] {
            assert_eq!(in_xmp(text), None);
        }
    }

    #[test]
    fn blocks_in_hexadecimal_are_read() {
        assert_eq!(
            of_hexadecimal(b"\nexif\n      3\n4d4d00\n2a\n"),
            Some(vec![0x4d, 0x4d, 0, 0x2a])
        );
        assert_eq!(of_hexadecimal(b"\nexif\n      3\n4x"), None);
        assert_eq!(of_hexadecimal(b"\nexif\n      3\n4"), None);
    }
}
