//! PNG, by the `png` crate, which is strict about what pixels do not need. Pillow is not: it reads a file that lacks its end, has
//! a wrong checksum of pixels, or chunks that it does not know. So what cannot be read as it is, is read from the chunks that
//! pixels need alone.

use std::io::Cursor;

use flate2::Crc;
use png::{ColorType, DecodeOptions, Transformations};

use super::Header;

/// Decodes to `height * width * 3` bytes.
pub(super) fn decode(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    whole(bytes, header, true).or_else(|error| {
        let (needed, is_cut) = needed(bytes);
        // Where their end is not lost, the sum over all pixels is checked instead of those of chunks.
        whole(&needed, header, is_cut).map_err(|_| match error {
            PngError::Short => "a PNG that ends too early".to_string(),
            PngError::Bad(text) => text,
        })
    })
}

const SIGNATURE: usize = 8;

/// The file with nothing but the chunks that pixels need, their checksums made new, and whether pixels are cut off in it.
fn needed(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut out = bytes[..bytes.len().min(SIGNATURE)].to_vec();
    let (mut rest, mut is_cut, mut pixels) = (&bytes[out.len()..], false, Vec::new());
    let mut seen: Vec<[u8; 4]> = Vec::new();
    while let Some((&[l3, l2, l1, l0, kind @ ..], body)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let (body, after) = body.split_at(length.min(body.len()));
        match &kind {
            b"IDAT" => {
                is_cut |= body.len() < length;
                pixels.extend_from_slice(body);
            }
            // What follows is another picture.
            _ if !pixels.is_empty() => break,
            b"IHDR" | b"PLTE" | b"tRNS" if !seen.contains(&kind) => {
                seen.push(kind);
                chunk(&mut out, kind, body);
            }
            _ => {}
        }
        rest = after.get(4..).unwrap_or_default();
    }
    chunk(&mut out, *b"IDAT", &pixels);
    chunk(&mut out, *b"IEND", &[]);
    (out, is_cut)
}

fn chunk(out: &mut Vec<u8>, kind: [u8; 4], body: &[u8]) {
    let mut crc = Crc::new();
    crc.update(&kind);
    crc.update(body);
    // No chunk is longer than the file it is from, which read it by a length of 32 bits.
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&kind);
    out.extend_from_slice(body);
    out.extend_from_slice(&crc.sum().to_be_bytes());
}

enum PngError {
    Short,
    Bad(String),
}

impl From<&str> for PngError {
    fn from(text: &str) -> PngError {
        PngError::Bad(text.into())
    }
}

fn whole(bytes: &[u8], header: &Header, ignore_sum: bool) -> Result<Vec<u8>, PngError> {
    let failed = |error: png::DecodingError| match error {
        png::DecodingError::IoError(_) => PngError::Short,
        other => PngError::Bad(format!("a corrupt PNG ({other})")),
    };
    // 8 bytes a pixel is the widest PNG there is (RGBA, 16 bits).
    let limits = png::Limits { bytes: header.pixels() * 8 + (1 << 20) };
    let mut options = DecodeOptions::default();
    options.set_ignore_adler32(ignore_sum);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().ok_or("a PNG too large for memory")?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed)?;
    if (frame.width as usize, frame.height as usize) != header.stored() {
        return Err("an animated PNG whose first picture is smaller than the file says".into());
    }
    data.truncate(frame.buffer_size());
    Ok(match frame.color_type {
        ColorType::Rgb => data,
        ColorType::Rgba => {
            data.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect()
        }
        ColorType::Grayscale => data.iter().flat_map(|&v| [v; 3]).collect(),
        ColorType::GrayscaleAlpha => {
            data.as_chunks::<2>().0.iter().flat_map(|p| [p[0]; 3]).collect()
        }
        ColorType::Indexed => return Err("a PNG with an unexpanded palette".into()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::read_header;
    use super::*;

    /// A grey picture of noise, its file, and where its only chunk of pixels begins.
    fn example() -> (Vec<u8>, Vec<u8>, usize) {
        let grey: Vec<u8> = (0..13 * 9u32).map(|i| ((i * i * 7919) >> 5) as u8).collect();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 13, 9);
        encoder.set_color(ColorType::Grayscale);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&grey).unwrap();
        writer.finish().unwrap();
        let at = file.windows(4).position(|kind| kind == b"IDAT").unwrap() - 4;
        (grey.iter().flat_map(|&v| [v; 3]).collect(), file, at)
    }

    fn read(file: &[u8]) -> Result<Vec<u8>, String> {
        let header = read_header(&mut Cursor::new(file)).unwrap();
        decode(file, &header)
    }

    #[test]
    fn what_pixels_do_not_need_may_be_missing_or_wrong() {
        let (rgb, file, at) = example();
        assert_eq!(read(&file).unwrap(), rgb);
        let pixels = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (start, body) = (&file[..at], &file[at + 8..at + 8 + pixels]);
        let insert = |kind: &[u8; 4], body: &[u8]| {
            let mut out = start.to_vec();
            chunk(&mut out, *kind, body);
            [&out, &file[at..]].concat()
        };
        let mut wrong = file.clone();
        wrong[at + 8 + pixels] ^= 1;
        for (what, file) in [
            ("checksum", wrong),
            ("no end", file[..at + 12 + pixels].to_vec()),
            ("an unknown chunk", insert(b"ABCD", b"zz")),
            ("a second header", insert(b"IHDR", &file[16..29])),
            ("a short gamma", insert(b"gAMA", b"1")),
            // The last four bytes are the sum over all pixels.
            ("one byte", file[..at + 8 + pixels - 1].to_vec()),
            ("the sum", file[..at + 8 + pixels - 4].to_vec()),
        ] {
            assert_eq!(read(&file).as_ref(), Ok(&rgb), "{what}");
        }
        let apple = [&file[..8], b"\0\0\0\x04CgBI\x50\0\x20\x02....", &file[8..]].concat();
        let error = super::super::decode("a.png", &apple).unwrap_err().to_string();
        assert!(error.contains("CgBI") && error.contains("pngcrush"), "{error}");
        // Pixels that are lost or damaged are an error.
        let cut = &file[..at + 8 + pixels / 2];
        assert_eq!(read(cut).unwrap_err(), "a PNG that ends too early");
        let mut damaged = start.to_vec();
        let mut body = body.to_vec();
        body[pixels - 1] ^= 1;
        chunk(&mut damaged, *b"IDAT", &body);
        let end = damaged.len() - 1;
        damaged[end] ^= 1;
        read(&damaged).unwrap_err();
    }
}
