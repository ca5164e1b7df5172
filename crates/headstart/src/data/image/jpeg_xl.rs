//! JPEG XL by the `jxl` crate, which Chrome and Firefox decode with. It turns pictures upright itself.

use jxl::api::{
    Event, JxlDecoder, JxlDecoderOptions, JxlOutputBuffer, JxlPixelFormat, ProfileLevel,
};

/// Channels that a file may have for each pixel: colours, alpha, black, depth and the like.
const CHANNELS: usize = 8;

/// Decodes the first picture of a file of this size, upright, to `height * width * 3` bytes. Alpha is dropped, colours
/// stay in the space of the file, which is sRGB in most.
pub(super) fn decode(bytes: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>, String> {
    let mut options = JxlDecoderOptions::default();
    options.max_profile_level = ProfileLevel::Main10;
    options.sample_limit = Some(width * height * CHANNELS + (1 << 20));
    let mut decoder = JxlDecoder::new(options);
    let mut input = bytes;
    let mut pixels = Vec::new();
    loop {
        let mut buffers = match pixels.is_empty() {
            true => None,
            false => Some([JxlOutputBuffer::new(&mut pixels, height, 3 * width)]),
        };
        let buffers = buffers.as_mut().map(|buffers| &mut buffers[..]);
        let failed = |e: jxl::error::Error| format!("a corrupt JPEG XL ({e})");
        match decoder.process(&mut input, buffers, None).map_err(failed)? {
            Event::BasicInfo => {
                let info = decoder.basic_info().ok_or("a JPEG XL without a header")?;
                if info.size != (width, height) {
                    return Err("a JPEG XL whose size is not what its header says".into());
                }
                let format = JxlPixelFormat::rgb8(info.extra_channels.len());
                decoder.set_pixel_format(format).map_err(failed)?;
                pixels = vec![0; width * height * 3];
            }
            Event::FrameComplete { .. } => return Ok(pixels),
            Event::Complete => return Err("a JPEG XL without a picture".into()),
            Event::NeedMoreInput { .. } if input.is_empty() => {
                return Err("a JPEG XL that ends too early".into());
            }
            _ => {}
        }
    }
}
