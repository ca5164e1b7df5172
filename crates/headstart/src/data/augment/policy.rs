//! Colour jitter, RandAugment and random erasing: what is drawn, and in what order.

use super::colour;
use super::geometry::{Affine, Part, rotation, transform_nearest};
use super::random::Random;

/// ImageNet's mean colour.
const MEAN: [u8; 3] = [124, 116, 104];

/// Brightness, contrast, saturation by factors in `[max(0, 1 - x), 1 + x]` and hue by a turn in `[-x, x]`, in random order.
pub(super) fn jitter(random: &mut Random, strengths: [f32; 4], image: &mut [u8]) {
    let factors = strengths.map(f64::from);
    let drawn: [f64; 4] = std::array::from_fn(|i| match i {
        3 => random.between(-factors[3], factors[3]),
        _ => random.between((1.0 - factors[i]).max(0.0), 1.0 + factors[i]),
    });
    for i in random.order::<4>() {
        if factors[i] > 0.0 {
            let change = [colour::brightness, colour::contrast, colour::saturation, colour::hue][i];
            change(drawn[i], image);
        }
    }
}

/// One of RandAugment's operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    /// In torchvision's order.
    pub const ALL: [Operation; 14] = [
        Operation::Identity,
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
        Operation::Brightness,
        Operation::Color,
        Operation::Contrast,
        Operation::Sharpness,
        Operation::Posterize,
        Operation::Solarize,
        Operation::AutoContrast,
        Operation::Equalize,
    ];

    /// Whether the sign of the magnitude is random.
    pub fn signed(self) -> bool {
        let at = Operation::ALL.iter().position(|o| *o == self).unwrap_or(0);
        (1..=9).contains(&at)
    }

    /// Does this to an image with a magnitude of 0 to 30, negative for the other way.
    pub fn apply(self, magnitude: f64, height: usize, width: usize, image: &mut [u8]) {
        let share = magnitude / 30.0;
        let mut moved = |affine: Affine| transform_nearest(height, width, affine, image);
        let far = |side: usize| (150.0 / 331.0 * side as f64 * share).trunc();
        match self {
            Operation::Identity => {}
            Operation::ShearX => moved([1.0, 0.3 * share, 0.0, 0.0, 1.0, 0.0]),
            Operation::ShearY => moved([1.0, 0.0, 0.0, 0.3 * share, 1.0, 0.0]),
            Operation::TranslateX => moved([1.0, 0.0, -far(width), 0.0, 1.0, 0.0]),
            Operation::TranslateY => moved([1.0, 0.0, 0.0, 0.0, 1.0, -far(height)]),
            Operation::Rotate => moved(rotation(height, width, 30.0 * share)),
            Operation::Brightness => colour::brightness(1.0 + 0.9 * share, image),
            Operation::Color => colour::saturation(1.0 + 0.9 * share, image),
            Operation::Contrast => colour::contrast(1.0 + 0.9 * share, image),
            Operation::Sharpness => colour::sharpness(1.0 + 0.9 * share, height, width, image),
            Operation::Posterize => {
                colour::posterize(8 - (4.0 * share).round_ties_even() as u32, image);
            }
            Operation::Solarize => colour::solarize(255.0 * (1.0 - share), image),
            Operation::AutoContrast => colour::autocontrast(image),
            Operation::Equalize => colour::equalize(image),
        }
    }
}

/// `count` operations, each drawn from all, at one magnitude (Cubuk et al. 2019).
pub(super) fn rand_augment(
    random: &mut Random,
    [count, magnitude]: [usize; 2],
    height: usize,
    width: usize,
    image: &mut [u8],
) {
    for _ in 0..count {
        let operation = Operation::ALL[random.below(Operation::ALL.len() as u64) as usize];
        let back = operation.signed() && random.below(2) == 1;
        let magnitude = if back { -(magnitude as f64) } else { magnitude as f64 };
        operation.apply(magnitude, height, width, image);
    }
}

/// Fills 2 to 33% of the image, 0.3 to 3.3 times as wide as high, with the mean colour (Zhong et al. 2017).
pub(super) fn erase(
    random: &mut Random,
    probability: f64,
    height: usize,
    width: usize,
    image: &mut [u8],
) {
    if random.chance(probability)
        && let Some(part) = Part::of_area(random, height, width, [0.02, 0.33], [0.3, 3.3])
    {
        part.fill(width, image, MEAN);
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::transform_bilinear;
    use super::*;
    use serde_json::Value;

    fn bytes(hex: &Value) -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    /// What torchvision makes of a picture; `tests/golden/augment/generate.py` made it.
    fn golden() -> (Value, [usize; 2], Vec<u8>) {
        let text = include_str!("../../../tests/golden/augment/torchvision.json");
        let golden: Value = serde_json::from_str(text).unwrap();
        let size = ["height", "width"].map(|key| golden[key].as_u64().unwrap() as usize);
        let pixels = bytes(&golden["pixels"]);
        (golden, size, pixels)
    }

    #[test]
    fn colours_and_turns_are_torchvisions_byte_for_byte() {
        let (golden, [height, width], pixels) = golden();
        let changes = golden["changes"].as_array().unwrap();
        for change in changes {
            let (mut image, value) = (pixels.clone(), change["value"].as_f64().unwrap());
            match change["name"].as_str().unwrap() {
                "brightness" => colour::brightness(value, &mut image),
                "contrast" => colour::contrast(value, &mut image),
                "saturation" => colour::saturation(value, &mut image),
                "hue" => colour::hue(value, &mut image),
                _ => {
                    let turn = rotation(height, width, value);
                    transform_bilinear(height, width, turn, &mut image);
                }
            }
            let want = bytes(&change["pixels"]);
            let differ = image.iter().zip(&want).filter(|(a, b)| a != b).count();
            assert!(image == want, "{} {value}: {differ} of {}", change["name"], want.len());
        }
        assert_eq!(changes.len(), 25);
    }

    #[test]
    fn operations_are_torchvisions_byte_for_byte() {
        let (golden, [height, width], pixels) = golden();
        let cases = golden["operations"].as_array().unwrap();
        let mut names: Vec<String> = Vec::new();
        for case in cases {
            let name = case["name"].as_str().unwrap();
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_string());
            }
            let operation = Operation::ALL[names.len() - 1];
            let (mut image, magnitude) = (pixels.clone(), case["magnitude"].as_f64().unwrap());
            operation.apply(magnitude, height, width, &mut image);
            let want = bytes(&case["pixels"]);
            let differ = image.iter().zip(&want).filter(|(a, b)| a != b).count();
            assert!(image == want, "{name} {magnitude}: {differ} of {}", want.len());
            assert_eq!(operation.signed(), case["signed"].as_bool().unwrap(), "{name}");
        }
        let own: Vec<String> = Operation::ALL.iter().map(|o| format!("{o:?}")).collect();
        assert_eq!(own, names);
    }

    #[test]
    fn jitter_draws_evenly_between_its_bounds() {
        // On white, brightness below 1 shows its factor; what is above stays white.
        let (mut dark, mut least) = (0, 255);
        for position in 0..2000 {
            let mut image = vec![255; 3];
            jitter(&mut Random::new(1, 2, position), [0.4, 0.0, 0.0, 0.0], &mut image);
            dark += usize::from(image[0] < 204);
            least = least.min(image[0]);
        }
        // A quarter lies below 0.8; four deviations are 77. 0.6 of 255 is 153.
        assert!((423..=577).contains(&dark) && (153..=156).contains(&least), "{dark} {least}");
        // Hues go all the way round.
        let mut results = std::collections::BTreeSet::new();
        for position in 0..50 {
            let mut random = Random::new(1, 2, position);
            let mut image = vec![255, 0, 0];
            jitter(&mut random, [0.0, 0.0, 0.0, 0.5], &mut image);
            results.insert(image.iter().rposition(|&v| v == 255));
        }
        assert_eq!(results.len(), 3, "{results:?}");
    }

    #[test]
    fn randaugment_draws_every_operation_both_ways() {
        let (_, [height, width], pixels) = golden();
        let mut known = Vec::new();
        for operation in Operation::ALL {
            for magnitude in if operation.signed() { vec![15.0, -15.0] } else { vec![15.0] } {
                let mut image = pixels.clone();
                operation.apply(magnitude, height, width, &mut image);
                known.push((image, if operation.signed() { 1 } else { 2 }, 0));
            }
        }
        for position in 0..2800 {
            let mut image = pixels.clone();
            rand_augment(&mut Random::new(1, 2, position), [1, 15], height, width, &mut image);
            known.iter_mut().find(|k| k.0 == image).unwrap().2 += 1;
        }
        // 100 of each direction, 200 of what has one; four deviations are 39 and 55.
        let fair =
            |&(_, share, n): &(Vec<u8>, i32, i32)| (n - 100 * share).abs() <= 39 + 16 * (share - 1);
        assert!(known.iter().all(fair), "{:?}", known.iter().map(|k| k.2).collect::<Vec<_>>());
    }
}
