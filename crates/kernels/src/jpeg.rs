//! The arithmetic of JPEG decoding in whole numbers: inverse DCT, chroma upsampling, colours. Results are those
//! of libjpeg-turbo (`islow`, fancy upsampling) to the bit, on every processor.

mod colour;
mod dct;
mod reduced;
mod upsample;

pub use colour::ycc_to_rgb;
pub use dct::{Blocks, LANES, inverse_dct};
pub use reduced::reduced_dct;
pub use upsample::{double_across, double_both, double_down};
