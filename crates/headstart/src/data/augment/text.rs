//! Augmentations as the command line and config.toml spell them.

use std::fmt;
use std::str::FromStr;

use super::Augmentation;
use crate::error::{Error, Result};
use crate::nearest::did_you_mean;

/// Names that [`Augmentation`]s begin with.
const NAMES: [&str; 8] =
    ["flip", "vflip", "crop", "resized-crop", "rotate", "jitter", "randaugment", "erase"];
/// Most pixels that an image moves.
const MOST: usize = 4096;

impl FromStr for Augmentation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Augmentation> {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let known = |expected| (expected, String::new());
        let (expected, hint) = match name {
            "flip" | "vflip" => known("flip and vflip without a number"),
            "crop" => known("crop:PIXELS, with 1 to 4096 pixels"),
            "resized-crop" => known("resized-crop:LEAST, a fraction of the image above 0, up to 1"),
            "rotate" => known("rotate:DEGREES, above 0, up to 180"),
            "jitter" => known(
                "jitter:BRIGHTNESS,CONTRAST,SATURATION[,HUE], numbers of 0 or more, hue up to 0.5, not all 0",
            ),
            "randaugment" => known("randaugment:COUNT,MAGNITUDE, 1 to 14 and 0 to 30"),
            "erase" => known("erase:PROBABILITY, above 0, up to 1"),
            _ => (
                "flip, vflip, crop:PIXELS, resized-crop, rotate:DEGREES, jitter, randaugment or erase",
                did_you_mean(name, NAMES),
            ),
        };
        parse(name, value).ok_or_else(|| Error::invalid("augmentation", expected, text, hint))
    }
}

fn parse(name: &str, value: Option<&str>) -> Option<Augmentation> {
    let number = |default: Option<f32>| match value {
        Some(text) => text.parse().ok(),
        None => default,
    };
    let share = |default| number(Some(default)).filter(|&n| n > 0.0 && n <= 1.0);
    Some(match (name, value) {
        ("flip", None) => Augmentation::Flip,
        ("vflip", None) => Augmentation::VerticalFlip,
        ("crop", value) => {
            let padding = value.unwrap_or("4").parse().ok()?;
            (1..=MOST).contains(&padding).then_some(Augmentation::Crop { padding })?
        }
        ("resized-crop", _) => Augmentation::ResizedCrop { least: share(0.08)? },
        ("rotate", _) => {
            let degrees = number(None).filter(|&n| n > 0.0 && n <= 180.0)?;
            Augmentation::Rotate { degrees }
        }
        ("jitter", value) => {
            let numbers: Vec<f32> = value
                .unwrap_or("0.4,0.4,0.4")
                .split(',')
                .map(|n| n.parse().ok())
                .collect::<Option<_>>()?;
            let (brightness, contrast, saturation, hue) = match numbers[..] {
                [b, c, s] => (b, c, s, 0.0),
                [b, c, s, h] => (b, c, s, h),
                _ => return None,
            };
            let good = numbers.iter().all(|n| n.is_finite() && n.is_sign_positive()) && hue <= 0.5;
            (good && numbers.iter().any(|&n| n > 0.0)).then_some(Augmentation::Jitter {
                brightness,
                contrast,
                saturation,
                hue,
            })?
        }
        ("randaugment", value) => {
            let (count, magnitude) = value.unwrap_or("2,9").split_once(',')?;
            let (count, magnitude) = (count.parse().ok()?, magnitude.parse().ok()?);
            let good = (1..=14).contains(&count) && magnitude <= 30;
            good.then_some(Augmentation::RandAugment { count, magnitude })?
        }
        ("erase", _) => Augmentation::Erase { probability: share(0.5)? },
        _ => return None,
    })
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Augmentation::Flip => f.write_str("flip"),
            Augmentation::VerticalFlip => f.write_str("vflip"),
            Augmentation::Crop { padding } => write!(f, "crop:{padding}"),
            Augmentation::ResizedCrop { least } => write!(f, "resized-crop:{least}"),
            Augmentation::Rotate { degrees } => write!(f, "rotate:{degrees}"),
            Augmentation::Jitter { brightness, contrast, saturation, hue } => {
                write!(f, "jitter:{brightness},{contrast},{saturation}")?;
                if hue > 0.0 { write!(f, ",{hue}") } else { Ok(()) }
            }
            Augmentation::RandAugment { count, magnitude } => {
                write!(f, "randaugment:{count},{magnitude}")
            }
            Augmentation::Erase { probability } => write!(f, "erase:{probability}"),
        }
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> String {
        augmentation.to_string()
    }
}

impl TryFrom<String> for Augmentation {
    type Error = Error;

    fn try_from(text: String) -> Result<Augmentation> {
        text.parse()
    }
}

/// Augmentations with commas between them; a piece that begins with no letter belongs to the one before:
/// `flip,jitter:0.4,0.4,0.4,erase` are three.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List(pub Vec<Augmentation>);

impl FromStr for List {
    type Err = Error;

    fn from_str(text: &str) -> Result<List> {
        let mut pieces: Vec<String> = Vec::new();
        for piece in text.split(',') {
            match pieces.last_mut() {
                Some(last) if piece.starts_with(|c: char| !c.is_alphabetic()) => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ => pieces.push(piece.to_string()),
            }
        }
        pieces.iter().map(|piece| piece.parse()).collect::<Result<_>>().map(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_nonsense_is_named() {
        let texts = "flip vflip crop:4 crop:13 resized-crop:0.08 resized-crop:1 rotate:15 rotate:0.5 \
                     jitter:0.4,0.4,0.4 jitter:0,0,0,0.1 jitter:3,0,0.25,0.5 randaugment:2,9 randaugment:14,0 \
                     erase:0.5 erase:1";
        for text in texts.split_whitespace() {
            assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
        }
        for (short, long) in [
            ("crop", "crop:4"),
            ("resized-crop", "resized-crop:0.08"),
            ("jitter", "jitter:0.4,0.4,0.4"),
            ("jitter:1,1,1,0", "jitter:1,1,1"),
            ("randaugment", "randaugment:2,9"),
            ("erase", "erase:0.5"),
        ] {
            assert_eq!(short.parse::<Augmentation>().unwrap().to_string(), long);
        }
        let bad = "flap flip:3 vflip: crop: crop:0 crop:x crop:5000 crop:-1 resized-crop:0 resized-crop:1.1 \
                   resized-crop:NaN resized-crop: rotate rotate:0 rotate:181 rotate:NaN rotate:-5 jitter:1 jitter:0,0,0 \
                   jitter:1,1,1,0.6 jitter:1,1,1,1,1 jitter:-1,1,1 jitter:inf,1,1 jitter:NaN,1,1 randaugment:2 \
                   randaugment:0,9 randaugment:15,9 randaugment:2,31 randaugment:2,9,1 randaugment:-1,9 erase:0 \
                   erase:1.5 erase:NaN";
        for bad in bad.split_whitespace().chain([""]) {
            let error = bad.parse::<Augmentation>().expect_err(bad).to_string();
            assert!(error.contains("augmentation") && error.contains(bad), "{error}");
        }
        for (near, name) in [("flop", "flip"), ("eraze", "erase"), ("randaug", "randaugment")] {
            let error = near.parse::<Augmentation>().unwrap_err();
            assert!(error.hint().unwrap().contains(name), "{error:?}");
        }
    }

    #[test]
    fn lists_keep_numbers_with_their_names() {
        let text = "resized-crop:0.5,flip,jitter:0.4,.2,0.1,0.1,randaugment:2,9,erase";
        let List(list) = text.parse().unwrap();
        let list: Vec<String> = list.iter().map(Augmentation::to_string).collect();
        let expected =
            ["resized-crop:0.5", "flip", "jitter:0.4,0.2,0.1,0.1", "randaugment:2,9", "erase:0.5"];
        assert_eq!(list, expected);
        for bad in ["", "flip,", ",flip", "flip,,crop", "0.4,flip", "flip,4", "randaugment:2,erase"]
        {
            assert!(bad.parse::<List>().is_err(), "{bad}");
        }
    }
}
