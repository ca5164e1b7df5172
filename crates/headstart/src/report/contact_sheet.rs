//! A batch of images as one picture.

use kuva::backend::png::PngBackend;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::names::{in_png, shorten};
use crate::data::batch::{Batch, Mixed};
use crate::data::image::picture::png;
use crate::data::image::{Interpolation, Rgb8, decode, resize};
use crate::error::{Error, Result};

/// Most images of a contact sheet.
pub const SHEET_IMAGES: usize = 64;
/// Least width of a tile in pixels, reached by upsampling by a whole factor.
const LEAST: usize = 96;
/// Largest longer side of a tile in pixels, before that.
const MOST: usize = 320;
/// Pixels between tiles, and around all.
const GAP: usize = 8;
/// Pixels of a line of text, and the letters' size.
const LINE: usize = 16;
const LETTERS: u32 = 12;
/// Pixels that a letter takes on average.
const LETTER: usize = 7;

/// A PNG file of the first [`SHEET_IMAGES`] images of `batch`, each `height` x `width` pixels over the name of its class;
/// small images are upsampled by a whole factor, and those of more than 320 pixels reduced. Mixed images
/// have both names. A class whose name has letters that the font lacks is shown by its number.
///
/// # Errors
/// If the batch is empty or has images of another size, or a label is not of `classes`.
pub fn contact_sheet(
    batch: &Batch,
    height: usize,
    width: usize,
    classes: &[String],
) -> Result<Vec<u8>> {
    let each = height * width * 3;
    let fits = each > 0 && batch.count > 0 && batch.images.len() == batch.count * each;
    if !fits || batch.labels.len() != batch.count {
        let expected = format!("at least one image of {height} x {width} x 3 with its label");
        let found = format!("{} images, {} values", batch.count, batch.images.len());
        return Err(Error::invalid("batch", expected, found, ""));
    }
    let (tile_height, tile_width, interpolation) = match height.max(width) {
        longest if longest > MOST => {
            let to = |side: usize| (side * MOST / longest).max(1);
            (to(height), to(width), Interpolation::Bilinear)
        }
        _ => {
            let factor = LEAST.div_ceil(width);
            (height * factor, width * factor, Interpolation::Nearest)
        }
    };
    let captions = captions(batch, classes)?;
    let lines = captions.iter().map(Vec::len).max().unwrap_or(1);
    let count = captions.len();
    let columns = (1..=count).find(|n| n * n >= count).unwrap_or(1);
    let step = [tile_height + lines * LINE + GAP, tile_width + GAP];
    let place = |i: usize| [GAP + i / columns * step[0], GAP + i % columns * step[1]];
    let size = [count.div_ceil(columns) * step[0] + GAP, columns * step[1] + GAP];
    let mut scene = Scene::new(size[1] as f64, size[0] as f64).with_background(Some("#ffffff"));
    for (i, caption) in captions.iter().enumerate() {
        let [top, left] = place(i);
        for (line, text) in caption.iter().enumerate() {
            scene.add(Primitive::Text {
                x: (left + tile_width / 2) as f64,
                y: (top + tile_height + (line + 1) * LINE - 4) as f64,
                content: shorten(text, tile_width / LETTER),
                size: LETTERS,
                anchor: TextAnchor::Middle,
                rotate: None,
                bold: false,
                color: None,
            });
        }
    }
    let failed = |e: String| Error::invalid("contact sheet", "a picture", e, "");
    let sheet = PngBackend::new().with_scale(1.0).render_scene(&scene).map_err(failed)?;
    let mut sheet = decode("contact sheet", &sheet)?;
    let (sheet_width, pixels) = (sheet.width, sheet.pixels.to_mut());
    for (i, image) in batch.images.to_bytes().chunks_exact(each).take(count).enumerate() {
        let tile = Rgb8::new(width, height, image.to_vec())?;
        let tile = resize(&tile, tile_width, tile_height, interpolation)?;
        let [top, left] = place(i);
        for (y, row) in tile.pixels.chunks_exact(tile_width * 3).enumerate() {
            pixels[((top + y) * sheet_width + left) * 3..][..row.len()].copy_from_slice(row);
        }
    }
    png(&sheet)
}

/// The lines below each image.
fn captions(batch: &Batch, classes: &[String]) -> Result<Vec<Vec<String>>> {
    let name = |label: u32| {
        let found = classes.get(label as usize).map(|name| in_png(name, label as usize));
        found.ok_or_else(|| {
            let expected = format!("below {}", classes.len());
            Error::invalid("label", expected, label.to_string(), "")
        })
    };
    let one = |(i, &label): (usize, &u32)| {
        let first = name(label)?;
        let Some(Mixed { labels, share }) = &batch.mixed else { return Ok(vec![first]) };
        let second = name(labels.get(i).copied().unwrap_or(u32::MAX))?;
        let percent = (share * 100.0).round();
        Ok(vec![format!("{:.0}% {first}", 100.0 - percent), format!("{percent:.0}% {second}")])
    };
    batch.labels.iter().take(SHEET_IMAGES).enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::Pixels;

    fn batch(count: usize, height: usize, width: usize) -> Batch {
        let each = height * width * 3;
        let images = (0..count).flat_map(|i| vec![(i * 3) as f32 + 0.4; each]).collect();
        let images = Pixels::Floats(images);
        let (labels, indices) = ((0..count as u32).map(|i| i % 2).collect(), (0..count).collect());
        Batch { images, labels, indices, count, mixed: None }
    }

    #[test]
    fn every_image_is_at_its_place_over_its_class() {
        let classes = ["cat".to_string(), "a dog whose name is long".to_string()];
        for (height, width, factor) in [(32, 40, 3), (100, 200, 1), (1, 1, 96)] {
            let sheet = contact_sheet(&batch(5, height, width), height, width, &classes).unwrap();
            let sheet = decode("sheet", &sheet).unwrap();
            let tile = [height * factor, width * factor];
            // Three columns, two rows.
            let size = [2 * (tile[0] + 24) + 8, 3 * (tile[1] + 8) + 8];
            assert_eq!([sheet.height, sheet.width], size);
            let at = |y: usize, x: usize| sheet.pixels[(y * sheet.width + x) * 3];
            let row = |y: usize, x: usize| (x..x + tile[1]).map(|x| at(y, x)).collect::<Vec<u8>>();
            for i in 0..5 {
                let (top, left) = (8 + i / 3 * (tile[0] + 24), 8 + i % 3 * (tile[1] + 8));
                for y in [top, top + tile[0] - 1] {
                    assert_eq!(row(y, left), vec![(i * 3) as u8; tile[1]]);
                }
                assert_eq!((at(top, left - 1), at(top - 1, left)), (255, 255));
                // Letters below, black on white.
                let letters = (tile[0]..tile[0] + 16).flat_map(|y| row(top + y, left));
                let dark = letters.filter(|&v| v < 128).count();
                assert!((20..tile[1] * 8).contains(&dark), "{dark}");
            }
        }
    }

    #[test]
    fn mixed_images_have_both_names() {
        let classes = ["cat".to_string(), "dog".to_string()];
        let mut batch = batch(2, 96, 96);
        batch.mixed = Some(Mixed { labels: vec![1, 1], share: 0.254 });
        let texts = captions(&batch, &classes).unwrap();
        assert_eq!(texts, [["75% cat", "25% dog"], ["75% dog", "25% dog"]]);
        let sheet = contact_sheet(&batch, 96, 96, &classes).unwrap();
        assert_eq!(decode("sheet", &sheet).unwrap().height, 96 + 2 * 16 + 16);
        batch.mixed = Some(Mixed { labels: vec![1], share: 0.5 });
        assert!(contact_sheet(&batch, 96, 96, &classes).is_err());
    }

    #[test]
    fn large_batches_are_cut_and_nonsense_is_refused() {
        let classes = ["a".to_string(), "b".to_string()];
        let sheet = contact_sheet(&batch(70, 96, 96), 96, 96, &classes).unwrap();
        assert_eq!(decode("sheet", &sheet).unwrap().height, 8 * (96 + 24) + 8);
        let sheet = contact_sheet(&batch(2, 400, 800), 400, 800, &classes).unwrap();
        let sheet = decode("sheet", &sheet).unwrap();
        assert_eq!((sheet.height, sheet.width), (160 + 24 + 8, 2 * 328 + 8));
        assert!(contact_sheet(&batch(2, 4, 4), 4, 5, &classes).is_err());
        assert!(contact_sheet(&batch(2, 4, 4), 4, 4, &classes[..1]).is_err());
        assert!(contact_sheet(&Batch::default(), 4, 4, &classes).is_err());
    }
}
