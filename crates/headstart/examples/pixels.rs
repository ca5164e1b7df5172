//! Hashes of decoded images, for `tools/jpeg/compare.py`: `pixels`, or `pixels SCALE` for images that are decoded 2, 4 or 8 times
//! smaller. Reads files from stdin, each behind its length in 4 bytes, the
//! lowest first; prints a line for each: width, height and SHA-256 of the RGB bytes, or `refused` and why.

use std::io::{self, BufWriter, Read, Write};

use headstart::image::{decode, decode_draft};
use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), BufWriter::new(io::stdout().lock()));
    let scale = std::env::args().nth(1).and_then(|scale| scale.parse::<usize>().ok());
    let mut length = [0; 4];
    let mut bytes = Vec::new();
    while input.read_exact(&mut length).is_ok() {
        bytes.clear();
        let length = u32::from_le_bytes(length);
        (&mut input).take(u64::from(length)).read_to_end(&mut bytes)?;
        let image = decode("image", &bytes).and_then(|image| match scale {
            Some(scale) => {
                decode_draft("image", &bytes, (image.width.min(image.height) / scale).max(1))
            }
            None => Ok(image),
        });
        match image {
            Ok(image) => {
                let hash = Sha256::digest(&image.pixels);
                let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(output, "{} {} {hex}", image.width, image.height)?;
            }
            Err(error) => writeln!(output, "refused {error}")?,
        }
        output.flush()?;
    }
    Ok(())
}
